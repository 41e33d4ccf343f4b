"""Command: writes PyTorch weights of a network as a Keras file.

    python -m misc.convert_weights --network=resnet50 --input_path=resnet50.pth \\
        --output_path=resnet50.weights.h5

The input is .pth, .pt or .safetensors with the tensors of torchvision's network of that name; for
the CIFAR ResNets those of the FusionDistill authors' code, for CLIP those of the authors' releases
and, in a second file, the text embeddings of the classes as `head.weight`. Nothing that a PyTorch
file contains is run, and PyTorch is not needed.
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import pathlib

from absl import flags

from classifiers import networks
from misc.images import files
from misc.training import common_flags, weight_files

SUFFIXES = (weight_files.KERAS_SUFFIX, ".keras")


def define_flags():
    """Defines the flags of this command."""
    flags.DEFINE_enum(
        "network", None, networks.NAMES, "Architecture of the weights.", required=True
    )
    common_flags.define_names(
        "input_path", None, "File with the weights, or several that belong together."
    )
    flags.mark_flag_as_required("input_path")
    flags.DEFINE_string(
        "output_path", None, "File to write: .weights.h5, or .keras.", required=True
    )
    flags.DEFINE_integer(
        "image_size",
        None,
        "Side in pixels of the images that the weights serve; needed where that is not the usual "
        "224 of vit_b16 and clip_rn50.",
        lower_bound=1,
    )
    flags.DEFINE_bool("overwrite", False, "Replace a file that is there already.")


def convert(network, input_paths, output_path, image_size=None, overwrite=False):
    """Writes the weights of a network to one Keras file; returns the network of `networks.build`.

    Another kind of output, or a file that is there already, is a ValueError.
    """
    output_path = pathlib.Path(output_path)
    if not output_path.name.endswith(SUFFIXES):
        raise ValueError(
            f"--output_path must end in {' or '.join(SUFFIXES)}. Received: {output_path}"
        )
    if output_path.exists() and not overwrite:
        raise ValueError(f"--output_path={output_path} is there already; see --overwrite.")
    model = networks.build(network, weights=input_paths, image_size=image_size)
    if output_path.name.endswith(weight_files.KERAS_SUFFIX):
        weight_files.write(output_path, {network: model})
    else:
        with files.write_atomically(output_path) as temporary:
            model.save(temporary)
    return model


def main(settings):
    """Runs the command."""
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


if __name__ == "__main__":
    define_flags()
    entry_point.run(main, with_model=False)
