"""Evaluates a trained model: figures to the screen, to JSON and CSV, pictures on request.

python validate.py --model=eusr --restore_path=runs/eusr --data_input_path=Set5/LR \\
        --data_truth_path=Set5/HR --save_path=results
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import contextlib

import keras
from absl import flags

from misc.images import locks
from misc.reports import report
from misc.training import common_flags


def define_flags():
    """Defines the flags of validation that do not depend on the model."""
    common_flags.define_restore_flags()
    flags.DEFINE_string("save_path", None, "Folder for pictures, results.json and results.csv.")
    flags.DEFINE_bool("overwrite", False, "Replace results that --save_path holds already.")
    flags.DEFINE_bool("save_pictures", True, "Write result pictures to --save_path.")
    common_flags.define_seed_flag("Seed of all random draws.")


def main(settings, selection):
    """Evaluates the selected model; returns the exit status."""
    with locks.hold(settings.save_path) if settings.save_path else contextlib.nullcontext():
        return _validate(settings, selection)


def _validate(settings, selection):
    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(settings.precision)
    results = report.Results(settings.save_path, settings.overwrite, settings.save_pictures)
    data = selection.create_data(settings)
    settings |= data.settings
    method = selection.restore(settings)
    means = method.evaluate(data.evaluation_batches("test"), results)
    results.finish(
        means,
        {
            "model": selection.model_name,
            "checkpoint": selection.weights_path(settings),
            "step": method.restored_step,
        },
    )
    return 0


if __name__ == "__main__":
    define_flags()
    entry_point.run(main, with_dataloader=True)
