"""EUSR, pre-trained with the L1 loss; with --degradations it also repairs what it upscales.

Kim and Lee, "Deep Residual Network with Enhanced Upscaling Module for Super-Resolution",
CVPR Workshops 2018.

    python train.py --model=eusr --scales=2,4,8 --data_input_path=DIV2K/train/LR \\
        --data_truth_path=DIV2K/train/HR --train_path=runs/eusr
    python train.py --model=eusr --scales=1 --degradations=jpeg:10-90 \\
        --data_truth_path=DIV2K/train/HR --train_path=runs/deblocking
"""

import collections
import dataclasses
import functools

import keras
import numpy as np
import tensorflow as tf
from absl import flags

from degradations import random, resize
from degradations.base import Degradation
from eusr import damage, losses, metrics, network, original_checkpoint
from eusr.original_graph import GRAPH
from misc.export import self_ensemble, tiling
from misc.training import common_flags, settings, trained_weights
from misc.training.method import Method, checkpoint_key

DATALOADER = "paired_images"
# A run that a CPU finishes within the hour.
SMALL_RECIPE = "eusr/recipes/small.flags"
# For each feature of the network and each output pixel; see `benchmarks/predict_folder.py`.
OUTPUT_BYTES = 14
# PSNR in dB that images which are equal count for in means, where one would make all infinite.
IDENTICAL = 100.0
# A run of seconds, to try things.
TINY = {
    "scales": [2, 4],
    "eusr_conv_features": 4,
    "eusr_shared_blocks": 1,
    "input_patch_size": 16,
    "batch_size": 2,
}


def define_flags():
    """Defines the flags of EUSR; the names are the original project's."""
    scales = {"order": "distinct", "at_least": 1}
    common_flags.define_numbers(
        "scales",
        [2, 4, 8],
        "Upscaling factors of this run, powers of two; 1 repairs images at their size.",
        **scales,
    )
    names = list(trained_weights.paths())
    flags.DEFINE_string(
        "weights",
        None,
        "Weights that come with the project, instead of --restore_path: "
        f"{', '.join(names) or 'none here'}.",
    )
    flags.register_validator(
        "weights",
        lambda value: value is None or value in names,
        f"it must be one of {', '.join(names) or 'none, as none came with the project'}",
    )
    settings.local("weights", changeable=True)
    common_flags.define_numbers(
        "eusr_model_scales",
        None,
        "Upscaling factors that the network has weights for; default: those of --scales.",
        **scales,
    )
    for name, default, least, help_text in (
        ("eusr_conv_features", 64, 1, "Features of every inner convolution."),
        ("eusr_shared_blocks", 32, 0, "Residual blocks that all scales share."),
        ("eusr_upscale_blocks", 1, 1, "Residual blocks per module of the upscaling."),
    ):
        flags.DEFINE_integer(name, default, help_text, lower_bound=least)
    common_flags.define_numbers(
        "eusr_rgb_mean",
        list(network.RGB_MEAN),
        "Mean intensity of R, G and B in 0-255.",
        float,
        length=3,
        at_least=0,
        at_most=255,
    )
    common_flags.define_float(
        "eusr_residual_factor",
        None,
        "Variance factor that initialises residual blocks; default: the published 1e-4 divided by "
        "the number of blocks. 0.1 learns faster at first in small networks.",
        above=0,
    )
    common_flags.define_float(
        "eusr_learning_rate", 1e-4, "Learning rate of the first step.", at_least=0
    )
    common_flags.define_float(
        "eusr_learning_rate_decay", 0.5, "Factor of --schedule=step.", above=0, at_most=1
    )
    flags.DEFINE_integer(
        "eusr_learning_rate_decay_steps", 200000, "Steps between two reductions.", lower_bound=1
    )
    flags.DEFINE_integer(
        "shave_size", 4, "Border pixels left out of PSNR and RMSE over R, G and B.", lower_bound=0
    )
    flags.DEFINE_bool(
        "compare_bicubic", False, "Also report the figures of MATLAB's bicubic interpolation."
    )
    flags.DEFINE_string(
        "degradations",
        None,
        "Damage of the LR images, with levels that are drawn per image: jpeg:10-90; "
        "'jpeg:30-95/noise:0-25', one of them for each image; 'blur:0-2,p=0.5|jpeg:30-95', one "
        "after the other. Default: none.",
    )
    flags.DEFINE_enum(
        "degrade_on",
        "device",
        damage.DEGRADE_ON,
        "Where training images are degraded: device: in the training step; host: in the input "
        "pipeline, which codecs need.",
    )
    # Whoever uses the network has images that are damaged already.
    settings.local("degradations", "degrade_on")
    common_flags.define_tiling_flags(default_tile=0)


def create_model(flags, training=False):
    """Returns the `EUSR` that the flags describe, with optimizers when it is to be trained."""
    model_scales = flags.eusr_model_scales or flags.scales
    try:
        network.check_scales(model_scales)
    except ValueError as error:
        flag = "eusr_model_scales" if flags.eusr_model_scales else "scales"
        raise ValueError(f"--{flag}={_join(model_scales)}: {error}") from error
    if not set(flags.scales) <= set(model_scales):
        raise ValueError(
            f"--scales={_join(flags.scales)} must be among --eusr_model_scales="
            f"{_join(model_scales)}, the scales that the weights have."
        )
    generator = create_generator(flags, model_scales)
    evaluation = create_evaluation(flags)
    if not training:
        return EUSR(generator, evaluation)
    optimizer = create_optimizer(flags, flags.eusr_learning_rate)
    options = create_training_options(flags)
    return EUSR(generator, evaluation, {"generator": optimizer}, **options)


def create_generator(flags, model_scales):
    """Returns the network that the flags describe, with weights for `model_scales`."""
    return network.Generator(
        scales=model_scales,
        features=flags.eusr_conv_features,
        shared_blocks=flags.eusr_shared_blocks,
        upscale_blocks=flags.eusr_upscale_blocks,
        rgb_mean=flags.eusr_rgb_mean,
        residual_factor=flags.eusr_residual_factor,
    )


def create_evaluation(flags):
    """Returns the `Evaluation` that the flags describe; a bad --degradations is a ValueError."""
    names = ("tile", "overlap", "self_ensemble", "shave_size", "compare_bicubic")
    values = {name: getattr(flags, name) for name in names}
    return Evaluation(**values, damage=damage.create(flags), seed=flags.get("seed", 0))


def create_training_options(flags):
    """Returns the arguments of `EUSR` that the flags of training give."""
    layer = damage.create(flags, training=True)
    on_device = {} if flags.degrade_on == "host" else {"damage": layer}
    return on_device | common_flags.create_training_options(flags)


def create_optimizer(flags, learning_rate):
    """Returns an Adam that starts at `learning_rate`, with the schedule that the flags describe."""
    rate = common_flags.create_schedule(
        flags, learning_rate, flags.eusr_learning_rate_decay, flags.eusr_learning_rate_decay_steps
    )
    # Keras' own epsilon is 1e-7; the authors trained with TensorFlow 1's 1e-8.
    return keras.optimizers.Adam(rate, epsilon=1e-8)


@dataclasses.dataclass
class Evaluation:
    """How upscaled images are made and measured: the flags of the same names.

    Input images are damaged by `damage`, if any, with draws that depend on `seed` and on an image's
    place among those of its scale.
    """

    tile: int = 0
    overlap: int | None = None
    self_ensemble: bool = False
    shave_size: int = 4
    compare_bicubic: bool = False
    damage: Degradation | None = None
    seed: int = 0


class EUSR(Method):
    """The generator, trained with the mean absolute error."""

    objective = "psnr_y"
    higher_is_better = True

    def __init__(
        self,
        generator,
        evaluation=None,
        optimizers=None,
        other_networks=None,
        damage=None,
        **kwargs,
    ):
        """Sets the method up.

        Args:
            generator: `network.Generator`.
            evaluation: `Evaluation`; `None` for its defaults.
            optimizers: see `Method`.
            other_networks: {name: network} beside the generator, or `None`.
            damage: degradation that the step applies to its LR images, or `None`.
            **kwargs: for `Method`.
        """
        networks = {"generator": generator} | (other_networks or {})
        super().__init__(networks, optimizers, **kwargs)
        self.generator = generator
        # Whoever asks for some of the scales still needs a network that fits the weights.
        self.settings = {"eusr_model_scales": list(generator.scales)}
        self.evaluation = evaluation or Evaluation()
        self.damage = damage
        self.scales = generator.scales
        self.export_names = {name: GRAPH[name] for name in ("images", "scale", "outputs")}
        # One trace of each scale serves all image sizes.
        self._upscale_function = functools.cache(functools.partial(self.compiled, "output"))

    def train_step(self, batch, seed):
        """Runs one update on {"low", "high"} batches; see `Method.train_step`."""
        low, high = self._degrade(batch["low"], seed), batch["high"]
        with tf.GradientTape() as tape:
            output = self.generator(low, scale=_scale(batch))
            loss = losses.reconstruction(output, high)
        self.update_weights("generator", loss, tape)
        return {"loss": loss}

    def _degrade(self, low, seed):
        """Returns LR images as the step sees them."""
        return low if self.damage is None else self.damage(low, seed=seed)

    def predict(self, images, scale=None):
        """Returns {"output": upscaled images}; see `Method.predict`."""
        return {"output": self.generator(images, scale=scale)}

    def part_of(self, variable):
        """Returns the branch of a scale, which training may add to a network or leave out."""
        scale = network.branch_of(variable)
        return scale and f"the branch of scale {scale}"

    def open_checkpoint(self, path):
        """Returns a reader of a checkpoint; also of one by the original project's `save`."""
        reader = super().open_checkpoint(path)
        if original_checkpoint.FIRST not in reader.get_variable_to_shape_map():
            return reader
        return original_checkpoint.Checkpoint(reader, path, self.state(), checkpoint_key)

    def receptive_radius(self, scale=None):
        """Returns the generator's reach in input pixels."""
        return self.generator.receptive_radius(scale)

    def output_bytes(self, scale=None):
        """Returns the memory that each output pixel needs: several of its features are kept."""
        return OUTPUT_BYTES * self.generator.features

    def tag(self, batch):
        """Returns the batch's scale, such as "x2"."""
        return f"x{_scale(batch)}"

    def pictures(self, batch):
        """Returns input, output and truth of a training batch; the damage is the same each time."""
        low = self._degrade(batch["low"], 0)
        output = self._upscale_function(_scale(batch))(low)
        return {"input": low, "output": output, "truth": batch["high"]}

    def upscale(self, low, scale):
        """Returns float32 `[height, width, 3]` in 0-255 upscaled, rounded and clipped to 8 bits."""
        function = self._upscale_function(scale)
        if self.evaluation.self_ensemble:
            function = self_ensemble.self_ensemble(function)
        overlap = self.evaluation.overlap
        if overlap is None:
            overlap = self.receptive_radius(scale)
        return tiling.apply_tiled(function, low, self.evaluation.tile, overlap, self.factor(scale))

    def evaluated_scales(self, item):
        """Returns the scales at which `evaluate` upscales an image of the dataloader."""
        return (item["scale"],)

    def evaluate(self, batches, report=None):
        """Returns means over the images of each scale, "x2/psnr_y", and over all, "psnr_y".

        The batches have "low" `[1, height, width, 3]`, "scale", "name" and, to be measured, "high"
        `[1, scale * height, scale * width, 3]`; pictures are named x2/NAME, and input_x2/NAME where
        input is damaged here.
        """
        rows = []
        places = collections.Counter()
        for item in batches:
            item = self._damage_input(item, places[item["scale"]], report)
            places[item["scale"]] += 1
            for scale in self.evaluated_scales(item):
                output, row = self._measure(item, scale)
                rows.append(row)
                if report is not None:
                    report.add_row(row)
                    report.add_picture(f"x{scale}/{item['name']}", output)
        return _means(rows)

    def _damage_input(self, item, place, report):
        """Returns an image of the dataloader damaged, and "clean" as it was, where this is due."""
        layer = self.evaluation.damage
        if layer is None:
            return item
        seed = random.fold_in(self.evaluation.seed, place)
        low = np.asarray(layer(item["low"], seed=seed))
        if report is not None:
            report.add_picture(f"input_x{item['scale']}/{item['name']}", metrics.to_uint8(low[0]))
        return item | {"low": low, "clean": item["low"]}

    def _measure(self, item, scale):
        """Returns an image of the dataloader upscaled, and its figures."""
        low, factor = np.asarray(item["low"][0]), self.factor(scale)
        output = self.upscale(low, scale)
        row = {"scale": scale, "name": item["name"]}
        if "high" in item:
            truth = metrics.to_uint8(item["high"][0])[: output.shape[0], : output.shape[1]]
            if "clean" in item:
                row |= _measure_input(low, item["clean"][0])
            row |= metrics.compare(output, truth, factor, self.evaluation.shave_size)
            if self.evaluation.compare_bicubic:
                bicubic = resize.matlab_bicubic(metrics.to_uint8(low), factor)
                figures = metrics.compare(bicubic, truth, factor, self.evaluation.shave_size)
                row |= {f"bicubic_{name}": value for name, value in figures.items()}
        return output, row


def _measure_input(low, clean):
    """Returns how near a damaged LR image is to what it was, over all of it."""
    figures = metrics.compare(metrics.to_uint8(low), metrics.to_uint8(clean), 0, 0)
    return {f"input_{name}": figures[name] for name in ("psnr_rgb", "psnr_y")}


def _scale(batch):
    return int(batch["high"].shape[1] // batch["low"].shape[1])


def _means(rows):
    groups = {
        f"x{scale}/": [row for row in rows if row["scale"] == scale]
        for scale in sorted({row["scale"] for row in rows})
    }
    return {
        prefix + name: float(np.mean([_countable(name, row[name]) for row in group]))
        for prefix, group in (groups | {"": rows}).items()
        for name in (rows[0] if rows else {})
        if name not in ("scale", "name")
    }


def _countable(name, value):
    """Returns a figure as it counts in a mean; see `IDENTICAL`."""
    return min(value, IDENTICAL) if "psnr" in name else value


def _join(values):
    return ",".join(str(value) for value in values)
