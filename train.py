"""Trains a model: `python train.py --model=eusr --scales=2,4,8`.

The same command run again goes on where the last checkpoint was saved.
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import collections
import contextlib
import math
import pathlib
import signal
import time

import keras
import tensorflow as tf
from absl import flags

from misc.images import locks
from misc.training import common_flags, distribution, epochs, memory, schedules, seeds
from misc.training.progress import TrainingProgress
from misc.training.run_folder import RunFolder, find_checkpoint, paths_of_run
from misc.training.settings import changeable, changeable_names
from misc.training.summaries import Writer


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
        "validate_freq",
        None,
        "Steps between two validations; default: --save_freq; 0: none.",
        lower_bound=0,
    )
    flags.DEFINE_string(
        "restore_path", None, "Checkpoint or weights .h5 to start from, if the run has none."
    )
    common_flags.define_names(
        "restore_target",
        None,
        "Networks to restore from --restore_path, such as generator; default: the whole state "
        "with optimizers and step.",
    )
    flags.DEFINE_integer(
        "global_step", None, "Step to start at after --restore_path.", lower_bound=0
    )
    common_flags.define_float(
        "sleep_ratio", 0, "Pause after each step, as a fraction of its time.", at_least=0
    )
    changeable("train_path", "max_steps", "epochs", "weight_filename", "sleep_ratio")
    changeable("log_freq", "summary_freq", "save_freq", "save_max_keep", "validate_freq")
    changeable("restore_path", "restore_target", "global_step")
    common_flags.define_seed_flag("Seed of weights, order of data and all random draws.")
    common_flags.define_device_flags()
    common_flags.define_distribution_flags()
    common_flags.define_training_flags()


def main(settings, selection):
    """Trains the selected model to --max_steps; returns the exit status."""
    strategy = distribution.create_strategy(settings.distribute)
    path, weights_path = paths_of_run(
        settings.train_path or pathlib.Path("runs") / selection.model_name, settings.weight_filename
    )
    with locks.hold(path) if distribution.is_chief(strategy) else contextlib.nullcontext():
        return _train(settings, selection, strategy, path, weights_path)


def _train(settings, selection, strategy, path, weights_path):
    is_chief = distribution.is_chief(strategy)
    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(settings.precision)
    if not tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()
    data = selection.create_data(settings)
    settings |= data.settings
    settings |= _length(settings, data)
    if is_chief:
        print(distribution.describe_devices(settings.distribute), flush=True)
    with strategy.scope():
        method = selection.model.create_model(settings, training=True)
    # Before anything is downloaded or restored.
    validation_batches = data.evaluation_batches("validation")

    names = {"model": selection.model_name, "dataloader": selection.dataloader_name}
    arguments = (settings | names | method.settings).to_dict()
    folder = RunFolder(path, method, settings.save_max_keep, is_chief, weights_path)
    folder.check_settings(arguments, _may_change(settings))
    first = _restore(method, folder, settings, selection)
    folder.write_arguments(arguments, data.describe())
    folder.tidy(first)
    if first >= settings.max_steps or method.ended.numpy():
        reason = "a validation ended it" if method.ended.numpy() else "--max_steps is no higher"
        print(f"{path} is already at step {first}: {reason}.")
        return 0

    method.prepare(data)
    batches = distribution.distribute(
        strategy,
        lambda index, count: data.training_batches(settings.seed, first, (index, count)),
    )

    @tf.function
    def run_step(batch, seed):
        scalars = strategy.run(
            lambda batch, seed: method.train_step(batch, seeds.of_replica(seed)), (batch, seed)
        )
        method.update_averages()
        return {
            name: strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None)
            for name, value in scalars.items()
        }

    writer = Writer(path if is_chief else None)
    text = "\n".join(f"    --{name}={value}" for name, value in arguments.items())
    writer.text("arguments", text, first + 1)
    if is_chief:
        print(f"Training {selection.model_name} in {path}. Watch: tensorboard --logdir={path}")
    run_step = memory.checked(run_step, f"A step of {data.images_per_step} images (--batch_size)")
    progress = TrainingProgress(first, settings.max_steps, is_chief, _advice(selection))
    validation = _Validation(method, validation_batches, folder, writer, progress)
    validate_freq = settings.save_freq if settings.validate_freq is None else settings.validate_freq
    frequencies = (settings.log_freq, settings.summary_freq, validate_freq, settings.save_freq)
    stop = _catch_signals()
    unchecked = []
    if first == 0 and method.validates_first:
        validation.run(0)
    if method.validation_due.numpy():
        method.validation_due.assign(False)
        validation.run(first)
        folder.save(first)
    end = first if method.ended.numpy() else settings.max_steps

    for step, batch in zip(range(first + 1, end + 1), batches, strict=False):
        started = time.monotonic()
        scalars = run_step(batch, seeds.of_step(settings.seed, step))
        unchecked.append((step, scalars["loss"]))
        progress.time_step(started, scalars["loss"])
        # A signal that comes from here on waits for the next step, which then saves.
        # In the last step it changes nothing: the run ends anyway, with its validation.
        stopping = bool(stop) and step < settings.max_steps
        last = step == settings.max_steps or stopping
        log, summarize, validate, save = (
            frequency > 0 and (step % frequency == 0 or last) for frequency in frequencies
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
            writer.scalars(step, method.figures(local), f"{method.tag(local)}/")
            writer.scalars(step, _learning_rates(method))
            writer.pictures(step, method.pictures(local), f"{method.tag(local)}/")
            writer.flush()
        if stopping:
            # It may take long: the run that goes on begins with it.
            method.validation_due.assign(validate_freq > 0 and step % validate_freq == 0)
        ended = validate and not stopping and validation.run(step)
        if save or ended:
            folder.save(step)
        if stopping or ended:
            break
        if settings.sleep_ratio:
            time.sleep((time.monotonic() - started) * settings.sleep_ratio)

    progress.close()
    if settings.distribute == "multi_worker":
        print(distribution.describe_worker(strategy, method))
    if is_chief:
        saved = [folder.latest_checkpoint(), weights_path]
        print(f"Saved {' and '.join(str(file) for file in saved if file)}")
    return 128 + stop[0] if stop and step < settings.max_steps else 0


def _may_change(settings):
    shaped = settings.schedule in schedules.SHAPED_BY_LENGTH
    shaping = {"max_steps", "epochs"} if shaped else set()
    return changeable_names() - shaping


def _advice(selection):
    recipe = selection.small_recipe
    if recipe is None or tf.config.list_physical_devices("GPU"):
        return ""
    return f"--flagfile={recipe} is a reduced run, for a CPU."


def _length(settings, data):
    """Returns what --epochs, where it counts, makes of --max_steps and --save_freq.

    Raises:
        ValueError: when both lengths are given, or the data cannot be counted.
    """
    if settings.epochs is None:
        return {}
    if "max_steps" in settings.given:
        if "epochs" in settings.given:
            raise ValueError("--epochs and --max_steps are two ways to say the same: give one.")
        return {}  # a model's default number of epochs
    count, used = data.count_images(), data.images_per_step
    steps = count // used
    if not steps:
        raise ValueError(
            f"--batch_size={settings.batch_size}: a step uses {used} images, more than the {count} "
            "that there are."
        )
    print(f"{settings.epochs} epochs of {steps} steps ({count} images)")
    length = {"max_steps": settings.epochs * steps}
    return length if "save_freq" in settings.given else length | {"save_freq": steps}


def _restore(method, folder, settings, selection):
    """Restores from where the run starts, and returns the number of steps already done.

    The order is: the run's own checkpoint; --restore_path; nothing.
    """
    own = folder.latest_checkpoint()
    if own:
        method.restore(own)
        print(f"Going on from {own}")
        return int(method.step.numpy())
    path = settings.restore_path and find_checkpoint(settings.restore_path)
    if not path or settings.restore_target:
        method.load_pretrained()
    if path:
        selection.load_weights(method, path, settings.restore_target)
        # That other run's end is not this one's.
        method.ended.assign(False)
        method.validation_due.assign(False)
        print(f"Starting from {settings.restore_path}")
        if settings.global_step is not None:
            method.set_step(settings.global_step)
    return int(method.step.numpy())


def _catch_signals():
    """Lets Ctrl-C and SIGTERM end the run after the current step, with a checkpoint.

    Returns:
        List that holds the signal's number once one came; a second one does not wait for the step.
    """
    caught = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number, frame):
        del frame
        caught.append(number)
        signal.signal(number, before[number])

    for number in before:
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


class _Validation:
    """Evaluates the validation split, and does what follows from it."""

    def __init__(self, method, batches, folder, writer, progress):
        self._method, self._batches = method, batches
        self._folder, self._writer, self._progress = folder, writer, progress
        self._shown = False  # the head of the table of epochs

    def run(self, step):
        """Evaluates and keeps the bests; returns whether the run ends here."""
        if self._batches is None:
            return False
        method, writer = self._method, self._writer
        method.check_finite(step)
        with method.averaged_weights():
            results = method.evaluate(self._batches, _TensorBoardPictures(writer, step))
        writer.scalars(step, results, "validation/")
        writer.flush()
        figures = {f"validation/{name}": value for name, value in results.items()}
        self._folder.append_history(step, figures)
        self._report_epoch(step, method.epoch_rows(results))
        decision = method.after_validation(results)
        method.follow(decision)
        for name in decision.bests:
            self._folder.save_best(step, results, name)
        best = float(next(iter(method.best_values.values())).numpy())
        mark = ", ".join(f"{name} so far" for name in decision.bests) or f"best {best:.4g}"
        self._progress.note(f"validation at step {step}: {method.summarize(results)} ({mark})")
        if decision.stop:
            self._progress.note(f"The validation ends the run at step {step}.")
        return decision.stop

    def _report_epoch(self, step, rows):
        self._folder.append_epoch(step, rows)
        for row in rows:
            figures = {name: value for name, value in row.items() if isinstance(value, float)}
            self._writer.scalars(step, figures, f"epochs/{row['split']}/")
        for line in epochs.as_lines(rows, with_header=not self._shown):
            self._progress.note(line)
            self._shown = True
        self._writer.flush()


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

    def add_page(self, title, parts):
        """Ignores pages."""

    def add_picture(self, name, image):
        """Writes the first picture of each folder."""
        group = name.split("/")[0]
        self._count[group] += 1
        if self._count[group] == 1:
            self._writer.pictures(self._step, {name: image[None]}, "validation/")


if __name__ == "__main__":
    define_flags()
    entry_point.run(main, with_dataloader=True, for_use=False)
