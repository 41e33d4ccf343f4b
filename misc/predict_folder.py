"""Applies a trained model, or a frozen file of one, to an image file or a folder of them.

Models of images write one image for each; score predictors write one table, the best image first;
classifiers one table of the likeliest classes of each image, and a contact sheet. Where no model is
named, weights that come with the project upscale by --scale, or repair with --scale=1.

python -m misc.predict_folder --scale=4 --input_path=photos --output_path=photos_x4
python -m misc.predict_folder --restore_path=runs/eusr --scale=4 --input_path=photos \\
        --output_path=photos_x4
python -m misc.predict_folder --frozen_path=eusr.pb --scale=4 --input_path=a.jpg --output_path=out
python -m misc.predict_folder --model=mobilenetv2 --restore_path=train/ava.h5 \\
        --input_path=photos --output_path=scores
python -m misc.predict_folder --restore_path=runs/clean/best --input_path=photos --output_path=out
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import contextlib
import pathlib

import keras
from absl import flags

from misc.export import frozen
from misc.images import files, image_files, locks
from misc.training import command_line, common_flags, registry, trained_weights

# Of each package, how its models are applied to files.
KINDS = registry.load_parts("predict_files")


def define_flags(with_model):
    """Defines the command's flags, for a model that is restored or a frozen file."""
    if with_model:
        common_flags.define_restore_flags()
    else:
        common_flags.define_device_flags()
    flags.DEFINE_string(
        "frozen_path",
        None,
        "Frozen model to use instead of --model: .pb, SavedModel, ONNX, TFLite. The first two are "
        "programs: what reads or writes files in them is refused, but take them only from those "
        "whom you trust.",
    )
    flags.DEFINE_string("input_path", None, "Image file, or folder whose images are all used.")
    flags.DEFINE_string(
        "output_path",
        None,
        "Folder for results, with the input's subfolders; or, for a file, a file.",
    )
    flags.DEFINE_bool("skip_broken", False, "Go on after files that cannot be read or written.")
    flags.DEFINE_bool(
        "overwrite",
        False,
        "Replace existing results; otherwise images that have one are skipped, and existing tables "
        "of scores or classes are an error.",
    )
    for kind in KINDS:
        kind.define_flags()


def main(settings, selection=None):
    """Applies the model; returns 0 if every image has its result now, else 1."""
    for name in ("input_path", "output_path"):
        if not settings.get(name):
            raise ValueError(command_line.describe_missing(name))
    if selection is None:
        model, source = frozen.load(settings.frozen_path), settings.frozen_path
    else:
        keras.config.set_dtype_policy(settings.precision)
        model, source = selection.restore(settings), selection.weights_path(settings)
    outputs = tuple(model.export_names["outputs"])
    kind = find_kind(outputs)
    others = [other.__name__ for other in KINDS if other is not kind]
    for name in sorted(settings.given):
        if flags.FLAGS.find_module_defining_flag(name) in others:
            raise ValueError(
                f"--{name} is for another kind of model. This one has the outputs "
                f"{', '.join(outputs)}."
            )
    apply = kind.create_predictor(settings, model, source)
    output = settings.output_path
    found, folder = image_files.find_inputs(settings.input_path, output)
    # Processes that each write one image may do so in one folder.
    one_file = len(found) == 1 and pathlib.Path(output).suffix.lower() in image_files.EXTENSIONS
    with contextlib.nullcontext() if one_file else locks.hold(output):
        files.sweep([output])
        return apply(found, folder, output, settings.overwrite, settings.skip_broken)


def find_kind(outputs):
    """Returns the module that applies models with these outputs to files, or a ValueError."""
    for kind in KINDS:
        if outputs in kind.OUTPUTS:
            return kind
    known = "; ".join(", ".join(names) for kind in KINDS for names in kind.OUTPUTS)
    raise ValueError(
        f"Results are made from models with these outputs: {known}. Received: {', '.join(outputs)}"
    )


if __name__ == "__main__":
    chosen = entry_point.parse_some("frozen_path", "scale")
    from_frozen_file = chosen.frozen_path is not None
    define_flags(with_model=not from_frozen_file)
    entry_point.run(
        main,
        with_model=not from_frozen_file,
        default_weights=trained_weights.for_scale(chosen.scale),
    )
