"""Command: writes PyTorch weights of a network as a Keras file, or a run's as a file of its own.

    python -m misc.convert_weights --network=resnet50 --input_path=resnet50.pth \\
        --output_path=resnet50.weights.h5
    python -m misc.convert_weights --restore_path=runs/eusr/best --output_path=weights/mine.h5

With --network the input is .pth, .pt or .safetensors with the tensors of torchvision's network of
that name; for the CIFAR ResNets those of the FusionDistill authors' code, for CLIP those of the
authors' releases and, in a second file, the text embeddings of the classes as `head.weight`.
Nothing that a PyTorch file contains is run, and PyTorch is not needed.

With --restore_path the weights of a run, averaged where it has those, are written as 16 bits, with
what tells the model, so that the file needs no other one. Its digest goes to digests.json beside
it.
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import pathlib

from absl import flags

from classifiers import networks
from misc.images import files
from misc.training import (
    common_flags,
    run_folder,
    settings,
    trained_weights,
    weight_files,
)

SUFFIXES = (weight_files.KERAS_SUFFIX, ".keras")


def define_flags(of_run):
    """Defines the flags of this command, for weights of a run or of PyTorch."""
    flags.DEFINE_string(
        "output_path",
        None,
        "File to write: .weights.h5 or .keras; for weights of a run, NAME.h5.",
        required=True,
    )
    flags.DEFINE_bool("overwrite", False, "Replace a file that is there already.")
    if of_run:
        common_flags.define_restore_flags(precision=False)
        return
    flags.DEFINE_enum(
        "network", None, networks.NAMES, "Architecture of the weights.", required=True
    )
    common_flags.define_names(
        "input_path", None, "File with the weights, or several that belong together."
    )
    flags.mark_flag_as_required("input_path")
    flags.DEFINE_integer(
        "image_size",
        None,
        "Side in pixels of the images that the weights serve; needed where that is not the usual "
        "224 of vit_b16 and clip_rn50.",
        lower_bound=1,
    )


def convert(network, input_paths, output_path, image_size=None, overwrite=False):
    """Writes the weights of a network to one Keras file; returns the network of `networks.build`.

    Another kind of output, or a file that is there already, is a ValueError.
    """
    output_path = pathlib.Path(output_path)
    if not output_path.name.endswith(SUFFIXES):
        raise ValueError(
            f"--output_path must end in {' or '.join(SUFFIXES)}. Received: {output_path}"
        )
    _check_free(output_path, overwrite)
    model = networks.build(network, weights=input_paths, image_size=image_size)
    if output_path.name.endswith(weight_files.KERAS_SUFFIX):
        weight_files.write(output_path, {network: model})
    else:
        with files.write_atomically(output_path) as temporary:
            model.save(temporary)
    return model


def store(method, arguments, output_path, overwrite=False):
    """Writes the networks of a restored `Method` as `trained_weights.write` does.

    Args:
        method: the method.
        arguments: {flag: value} that describe it.
        output_path: NAME.h5; another kind of file is a ValueError.
        overwrite: whether to replace a file; otherwise one that is there is a ValueError.
    """
    output_path = pathlib.Path(output_path)
    if output_path.suffix != weight_files.SUFFIX or output_path.name.endswith(SUFFIXES):
        raise ValueError(f"--output_path must be NAME.h5. Received: {output_path}")
    _check_free(output_path, overwrite)
    trained_weights.write(output_path, method.networks, method.restored_step, arguments)


def _check_free(path, overwrite):
    if path.exists() and not overwrite:
        raise ValueError(f"--output_path={path} is there already; see --overwrite.")


def main(settings, selection=None):
    """Runs the command."""
    if selection is not None:
        method = selection.restore(settings)
        arguments = describe(settings, selection) | method.settings
        store(method, arguments, settings.output_path, settings.overwrite)
        count = sum(network.count_params() for network in method.networks.values())
        size = pathlib.Path(settings.output_path).stat().st_size / 2**20
        print(
            f"Wrote {count:,} values of {selection.model_name}, step {method.restored_step}, to "
            f"{settings.output_path} ({size:.2f} MiB)"
        )
        return
    model = convert(
        settings.network,
        settings.input_path,
        settings.output_path,
        settings.image_size,
        settings.overwrite,
    )
    print(
        f"Wrote {model.count_params():,} values of {settings.network}, "
        f"{model.output_shape[-1]} classes, to {settings.output_path}"
    )


def describe(values, selection):
    """Returns {flag: value} of the run that is restored, with the model as it is used."""
    of_model = settings.defined_flags(selection.model.define_flags)
    used = {name: values.get(name) for name in of_model}
    trained = run_folder.read_arguments(values.restore_path)
    return used | trained | {"model": selection.model_name}


if __name__ == "__main__":
    chosen = entry_point.parse_some("network", "restore_path")
    of_run = chosen.network is None and chosen.restore_path is not None
    define_flags(of_run)
    entry_point.run(main, with_model=of_run)
