"""Writes a trained model to files that run without this code: .pb, SavedModel, ONNX, TFLite.

python freeze.py --model=eusr --restore_path=runs/eusr/model.ckpt-50000 --output_path=runs/eusr.pb
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import pathlib

import keras
from absl import flags

from misc.export import frozen
from misc.training import common_flags


def define_flags():
    """Defines the flags of freezing that do not depend on the model."""
    common_flags.define_restore_flags(precision=False)
    flags.DEFINE_string(
        "output_path",
        None,
        "NAME.pb, beside which the other formats are written as NAME_saved_model, NAME_x2.onnx, "
        "NAME_x2.tflite, ...; or a folder, for model.pb and so on.",
    )
    common_flags.define_names(
        "formats",
        None,
        f"Formats to write: some of {','.join(frozen.FORMATS)}; default: all that are installed.",
    )
    flags.DEFINE_bool(
        "overwrite",
        False,
        "Replace existing files; otherwise those of the same weights are kept, and others are an "
        "error.",
    )


def main(settings, selection):
    """Freezes the selected model; returns 0 if all files were written and equal the model."""
    if not settings.output_path:
        raise ValueError("--output_path is missing: NAME.pb, or a folder.")
    base = base_path(settings.output_path)
    formats = settings.formats or installed_formats()
    keras.config.set_dtype_policy("float32")
    method = selection.restore(settings)
    print(f"{selection.model_name}, step {int(method.restored_step)}, float32 graphs")
    print(f"{'largest difference':>18}  {'MiB':>8}  file", flush=True)
    failed = 0
    for result in frozen.freeze(method, base, formats, settings.overwrite):
        failed += result.error is not None
        print(format_result(result), flush=True)
    if failed:
        print(f"{failed} of the files could not be written.")
    return 1 if failed else 0


def base_path(output_path):
    """Returns the path without extension that --output_path stands for.

    Raises:
        ValueError: for an extension other than .pb, which would name one of several files.
    """
    path = pathlib.Path(output_path)
    suffix = path.suffix.lower()
    if suffix == ".pb":
        return path.with_suffix("")
    if suffix in (".onnx", ".tflite"):
        raise ValueError(
            "--output_path is NAME.pb or a folder; --formats chooses what is written. "
            f"Received: {output_path}"
        )
    return path / "model"


def installed_formats():
    """Returns the formats that can be written here; prints which ones cannot."""
    formats = []
    for name in frozen.FORMATS:
        missing = frozen.missing_packages(name)
        if missing:
            print(f"{name} is skipped without {', '.join(missing)}: pip install {frozen.EXTRA}")
        else:
            formats.append(name)
    return formats


def format_result(result):
    """Returns a line of the table."""
    if result.error is not None:
        return f"{'-':>18}  {'-':>8}  {result.path}: not written, {result.error}"
    kept = " (was there already)" if result.kept else ""
    return f"{result.difference:18.2e}  {result.size / 2**20:8.1f}  {result.path}{kept}"


if __name__ == "__main__":
    define_flags()
    entry_point.run(main)
