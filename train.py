"""Trains a model: `python train.py --model=eusr --scales=2,4,8`.

The same command run again goes on where the last checkpoint was saved.
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import collections
import math
import pathlib
import signal
import time

import keras
import tensorflow as tf
from absl import flags

from misc.training import common_flags, distribution, schedules
from misc.training.progress import TrainingProgress
from misc.training.run_folder import RunFolder, find_checkpoint, paths_of_run
from misc.training.summaries import Writer

FLAGS = flags.FLAGS
# What may change between a run and its continuation.
CHANGEABLE = {
    *("max_steps", "epochs", "log_freq", "summary_freq", "save_freq", "save_max_keep"),
    *(
        "validate_freq",
        "cuda_device",
        "distribute",
        "sleep_ratio",
        "train_path",
        "weight_filename",
        "flagfile",
    ),
    *("restore_path", "restore_target", "global_step"),
    *("data_cached", "data_cache_path", "data_service", "tile", "overlap"),
    # A run that a broken image ended may go on without it.
    "data_skip_broken",
}


def define_flags():
    """Defines the flags of training that do not depend on the model."""
    flags.DEFINE_string("train_path", None, "Folder of the run; default: runs/MODEL.")
    flags.DEFINE_integer("max_steps", 1000000, "Number of the last step.", lower_bound=1)
    flags.DEFINE_integer(
        "epochs",
        None,
        "Instead of --max_steps: passes over the training images; a rest that fills no batch is "
        "left out of each. Saves and validates after each one, unless --save_freq says otherwise.",
        lower_bound=1,
    )
    flags.DEFINE_string(
        "weight_filename",
        None,
        "Name such as ava.h5: the run's folder is then TRAIN_PATH/ava, its last weights are also "
        "written to TRAIN_PATH/ava.h5, and the best to TRAIN_PATH/ava_best.h5.",
    )
    flags.DEFINE_integer("log_freq", 10, "Steps between two log lines.", lower_bound=1)
    flags.DEFINE_integer("summary_freq", 200, "Steps between two summaries.", lower_bound=1)
    flags.DEFINE_integer("save_freq", 50000, "Steps between two checkpoints.", lower_bound=1)
    flags.DEFINE_integer("save_max_keep", 100, "Checkpoints that are kept.", lower_bound=1)
    flags.DEFINE_integer(
        "validate_freq", None, "Steps between two validations; default: --save_freq; 0: none."
    )
    flags.DEFINE_string(
        "restore_path", None, "Checkpoint or weights .h5 to start from, if the run has none."
    )
    flags.DEFINE_list(
        "restore_target",
        None,
        "Networks to restore from --restore_path, such as generator; default: the whole state "
        "with optimizers and step.",
    )
    flags.DEFINE_integer("global_step", None, "Step to start at after --restore_path.")
    flags.DEFINE_integer("seed", 0, "Seed of weights, order of data and all random draws.")
    flags.DEFINE_float(
        "sleep_ratio", 0, "Pause after each step, as a fraction of its time.", lower_bound=0
    )
    common_flags.define_device_flags()
    common_flags.define_distribution_flags()
    common_flags.define_training_flags()


def main(selection):
    """Trains the selected model to --max_steps; returns the exit status."""
    strategy = distribution.create_strategy(FLAGS.distribute)
    is_chief = distribution.is_chief(strategy)
    keras.utils.set_random_seed(FLAGS.seed)
    keras.config.set_dtype_policy(FLAGS.precision)
    if not tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()
    _set_length(selection.dataloader)
    with strategy.scope():
        method = selection.model.create_model(FLAGS, training=True)

    path, weights_path = paths_of_run(
        FLAGS.train_path or pathlib.Path("runs") / selection.model_name, FLAGS.weight_filename
    )
    settings = _settings(selection) | method.settings
    folder = RunFolder(path, method, FLAGS.save_max_keep, is_chief, weights_path)
    folder.check_settings(settings, _changeable())
    first = _restore(method, folder)
    folder.write_arguments(settings, selection.describe_data(FLAGS))
    if first >= FLAGS.max_steps:
        print(f"{path} is already at step {first}; --max_steps={FLAGS.max_steps}.")
        return 0

    batches = distribution.distribute(
        strategy,
        lambda index, count: selection.dataloader.create_batches(
            FLAGS, "train", FLAGS.seed, first_step=first, shard=(index, count)
        ),
    )

    @tf.function
    def run_step(batch, seed):
        scalars = strategy.run(method.train_step, (batch, seed))
        method.update_averages()
        return {
            name: strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None)
            for name, value in scalars.items()
        }

    validation = selection.dataloader.create_batches(FLAGS, "validation", FLAGS.seed)
    writer = Writer(path if is_chief else None)
    writer.text("arguments", "\n".join(f"    --{k}={v}" for k, v in settings.items()), first)
    if is_chief:
        print(f"Training {selection.model_name} in {path}. Watch: tensorboard --logdir={path}")
    progress = TrainingProgress(first, FLAGS.max_steps, enabled=is_chief)
    validate_freq = FLAGS.save_freq if FLAGS.validate_freq is None else FLAGS.validate_freq
    seed = tf.constant([0, FLAGS.seed], tf.int32)
    stop = _catch_signals()
    unchecked = []

    for step, batch in zip(range(first + 1, FLAGS.max_steps + 1), batches, strict=False):
        started = time.monotonic()
        scalars = run_step(batch, tf.random.fold_in(seed, step))
        unchecked.append((step, scalars["loss"]))
        # A signal that comes from here on waits for the next step, which then saves.
        # In the last step it changes nothing: the run ends anyway, with its validation.
        stopping = bool(stop) and step < FLAGS.max_steps
        last = step == FLAGS.max_steps or stopping
        log, summarize, validate, save = (
            frequency > 0 and (step % frequency == 0 or last)
            for frequency in (FLAGS.log_freq, FLAGS.summary_freq, validate_freq, FLAGS.save_freq)
        )
        if log or summarize or validate or save:
            _check_finite(unchecked)
        if log:
            values = {"tag": method.tag(_local(strategy, batch))}
            values |= {name: float(value) for name, value in scalars.items()}
            values |= _learning_rates(method)
            progress.update(step, values)
            folder.append_history(step, values)
        if summarize and is_chief:
            local = _local(strategy, batch)
            writer.scalars(step, scalars, f"{method.tag(local)}/")
            writer.scalars(step, _learning_rates(method))
            writer.pictures(step, method.pictures(local), f"{method.tag(local)}/")
            writer.flush()
        if validate and validation is not None and not stopping:
            _validate(method, validation, folder, writer, progress, step)
        if save:
            folder.save(step)
        if stopping:
            break
        if FLAGS.sleep_ratio:
            time.sleep((time.monotonic() - started) * FLAGS.sleep_ratio)

    progress.close()
    folder.close()
    if FLAGS.distribute == "multi_worker":
        print(distribution.describe_worker(strategy, method))
    if is_chief:
        saved = [folder.latest_checkpoint(), weights_path]
        print(f"Saved {' and '.join(str(file) for file in saved if file)}")
    return 128 + stop[0] if stop and step < FLAGS.max_steps else 0


def _settings(selection):
    """Returns {flag: value} of everything that describes the run."""
    settings = {}
    for module, defined in FLAGS.flags_by_module_dict().items():
        if not module.startswith(("absl", "tensorflow")):
            settings |= {flag.name: flag.value for flag in defined}
    return settings | {"model": selection.model_name, "dataloader": selection.dataloader_name}


def _changeable():
    threads = {name for name in FLAGS if name.endswith("_num_threads")}
    # The length of the run shapes the cosine, and so every step of it.
    shaping = {"max_steps", "epochs"} if FLAGS.schedule == "cosine" else set()
    return (CHANGEABLE | threads) - shaping


def _set_length(dataloader):
    """Turns --epochs, where it counts, into --max_steps and --save_freq.

    Raises:
        ValueError: when both lengths are given, or the dataloader cannot count its images.
    """
    if FLAGS.epochs is None:
        return
    if FLAGS["max_steps"].present:
        if FLAGS["epochs"].present:
            raise ValueError("--epochs and --max_steps are two ways to say the same: give one.")
        return  # a model's default number of epochs
    if not hasattr(dataloader, "count_images"):
        raise ValueError("This --dataloader has no epochs: give --max_steps.")
    count = dataloader.count_images(FLAGS)
    steps = count // FLAGS.batch_size
    if not steps:
        raise ValueError(
            f"--batch_size={FLAGS.batch_size} is larger than the number of images, {count}."
        )
    FLAGS.max_steps = FLAGS.epochs * steps
    if not FLAGS["save_freq"].present:
        FLAGS.save_freq = steps
    print(f"{FLAGS.epochs} epochs of {steps} steps ({count} images)")


def _restore(method, folder):
    """Restores from where the run starts, and returns the number of steps already done.

    The order is: the run's own checkpoint; --restore_path; nothing.
    """
    own = folder.latest_checkpoint()
    if own:
        method.restore(own)
        print(f"Going on from {own}")
        return int(method.step.numpy())
    if not FLAGS.restore_path or FLAGS.restore_target:
        method.load_pretrained()
    if FLAGS.restore_path:
        method.restore(find_checkpoint(FLAGS.restore_path), FLAGS.restore_target)
        print(f"Starting from {FLAGS.restore_path}")
        if FLAGS.global_step is not None:
            method.set_step(FLAGS.global_step)
    return int(method.step.numpy())


def _catch_signals():
    """Lets Ctrl-C and SIGTERM end the run after the current step, with a checkpoint.

    Returns:
        List that holds the signal's number once one came; a second one ends the run at once.
    """
    caught = []

    def note(number, frame):
        del frame
        caught.append(number)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)
    return caught


def _check_finite(unchecked):
    """Raises ArithmeticError naming the first step whose loss is not finite; empties the list."""
    for step, loss in unchecked:
        if not math.isfinite(float(loss)):
            raise ArithmeticError(
                f"The loss of step {step} is {float(loss)}. Nothing was saved after it. Lower the "
                "learning rate, set --gradient_clip_norm, or use another --precision."
            )
    unchecked.clear()


def _local(strategy, batch):
    """Returns the first replica's part of a batch."""
    return {name: strategy.experimental_local_results(value)[0] for name, value in batch.items()}


def _learning_rates(method):
    return {f"learning_rate/{name}": rate for name, rate in method.learning_rates().items()}


def _validate(method, batches, folder, writer, progress, step):
    """Evaluates the validation split; keeps the weights if they are the best so far."""
    with method.averaged_weights():
        results = method.evaluate(batches, _TensorBoardPictures(writer, step))
    writer.scalars(step, results, "validation/")
    writer.flush()
    folder.append_history(step, {f"validation/{name}": v for name, v in results.items()})
    patience = FLAGS.plateau_patience if FLAGS.schedule == "plateau" else 0
    value = results[method.objective]
    best = schedules.follow_validation(method, value, patience, FLAGS.plateau_factor)
    if best:
        folder.save_best(step, results)
    mark = "best so far" if best else f"best {float(method.best_value.numpy()):.4g}"
    progress.note(f"validation at step {step}: {method.summarize(results)} ({mark})")


class _TensorBoardPictures:
    """Shows the first pictures of a validation."""

    def __init__(self, writer, step):
        self._writer = writer
        self._step = step
        self._count = collections.Counter()

    def add_row(self, row):
        """Ignores the figures of single images."""

    def add_table(self, name, rows):
        """Ignores tables."""

    def add_note(self, name, text):
        """Ignores notes."""

    def add_picture(self, name, image):
        """Writes the first picture of each folder."""
        group = name.split("/")[0]
        self._count[group] += 1
        if self._count[group] == 1:
            self._writer.pictures(self._step, {name: image[None]}, "validation/")


if __name__ == "__main__":
    define_flags()
    entry_point.run(main, with_dataloader=True, for_use=False)
