"""4PP-EUSR: EUSR tuned for how its x4 images look, with a discriminator and two score predictors.

Choi, Kim, Cheon and Lee, "Deep learning-based image super-resolution considering quantitative and
perceptual quality", Neurocomputing 2019 (arXiv 1809.04789). Three x4 images are made and judged in
each step: by the x2 path applied twice, by the x4 path, and by the x8 path reduced to half.

    python train.py --model=4pp_eusr --data_input_path=DIV2K/train/LR \\
        --data_truth_path=DIV2K/train/HR --restore_path=runs/eusr --restore_target=generator \\
        --eusr_aesthetic_nima_path=ava.pb --eusr_subjective_nima_path=tid2013.pb
"""

import dataclasses

import tensorflow as tf
from absl import flags

from eusr import losses
from eusr.discriminator import Discriminator
from eusr.models import eusr
from misc.export import loading
from misc.training import common_flags

DATALOADER = eusr.DATALOADER
# The output's size divided by the input's, whichever path makes it.
FACTOR = 4
PATHS = (2, 4, 8)
# A run that a CPU finishes within the hour.
SMALL_RECIPE = "eusr/recipes/perceptual_small.flags"
# A run of seconds, to try things; it needs no score predictors.
TINY = eusr.TINY | {
    "scales": [FACTOR],
    "input_patch_size": 12,
    "eusr_discriminator_features": 2,
    "eusr_weight_las": 0.0,
    "eusr_weight_lar": 0.0,
    "eusr_weight_lss": 0.0,
    "eusr_weight_lsr": 0.0,
}
PREDICTORS = ("aesthetic", "subjective")
# Files that run outside TensorFlow, so that no gradient passes through them.
WITHOUT_GRADIENT = (".onnx", ".tflite")


def define_flags():
    """Defines the flags of EUSR with the defaults of 4PP-EUSR, and its own."""
    eusr.define_flags()
    flags.FLAGS.set_default("scales", [FACTOR])
    flags.FLAGS.set_default("eusr_model_scales", list(PATHS))
    flags.FLAGS.set_default("eusr_learning_rate", 1e-5)
    flags.FLAGS.set_default("eusr_learning_rate_decay_steps", 1000000)
    common_flags.define_float(
        "eusr_learning_rate_discriminator",
        2e-5,
        "The discriminator's rate of the first step.",
        at_least=0,
    )
    flags.DEFINE_integer(
        "eusr_discriminator_features",
        32,
        "Features of the discriminator's first convolution; the last has 16 times as many.",
        lower_bound=1,
    )
    flags.DEFINE_bool(
        "eusr_disable_multipass", False, "Train on the image of the x4 path alone, not on three."
    )
    for name, default, kind in (
        ("aesthetic", "ava.pb", "how well people like an image (AVA)"),
        ("subjective", "tid2013.pb", "how little an image is distorted (TID2013)"),
    ):
        flags.DEFINE_string(
            f"eusr_{name}_nima_path",
            default,
            f"Trained score predictor for {kind}: a frozen .pb or SavedModel, or weights beside "
            "the arguments.json of their run. Not read if both its weights below are 0. The first "
            "two are programs: take them only from those whom you trust.",
        )
    for name, default, loss in (
        ("lr", 0.05, "mean absolute error"),
        ("lg", 0.1, "adversarial loss; 0 trains without discriminator"),
        ("las", 0.01, "aesthetic score loss"),
        ("lar", 0.1, "aesthetic representation loss"),
        ("lss", 0.01, "subjective score loss"),
        ("lsr", 0.1, "subjective representation loss"),
    ):
        common_flags.define_float(
            f"eusr_weight_{name}", default, f"Weight of the {loss}.", at_least=0
        )


def data_settings(flags):
    """Returns the settings that a dataloader is to see: all paths start from the same x4 pairs."""
    return flags | {"scales": [FACTOR]}


def create_model(flags, training=False):
    """Returns the `PerceptualEUSR` that the flags describe, with optimizers if it is to be trained.

    Raises:
        ValueError: for other scales than those of `PATHS`, other training scales than 4, or a
            score predictor that cannot be used; names the flag.
    """
    check_scales(flags.eusr_model_scales, flags.scales, training)
    generator = eusr.create_generator(flags, flags.eusr_model_scales)
    evaluation = eusr.create_evaluation(flags)
    if not training:
        return PerceptualEUSR(generator, evaluation, paths=flags.scales)
    names = ("lr", "lg", "las", "lar", "lss", "lsr")
    weights = Weights(*(getattr(flags, f"eusr_weight_{name}") for name in names))
    if not any(dataclasses.astuple(weights)):
        raise ValueError(f"All of --eusr_weight_{', '.join(names)} are 0.")
    predictors = {
        name: load_predictor(name, getattr(flags, f"eusr_{name}_nima_path"))
        for name in PREDICTORS
        if weights.uses(name)
    }
    optimizers = {"generator": eusr.create_optimizer(flags, flags.eusr_learning_rate)}
    discriminator = None
    if weights.adversarial:
        discriminator = Discriminator(flags.eusr_discriminator_features)
        rate = flags.eusr_learning_rate_discriminator
        optimizers["discriminator"] = eusr.create_optimizer(flags, rate)
    return PerceptualEUSR(
        generator,
        evaluation,
        optimizers,
        discriminator,
        predictors,
        weights,
        paths=flags.scales,
        multipass=not flags.eusr_disable_multipass,
        **eusr.create_training_options(flags),
    )


def load_predictor(name, path):
    """Returns the predictor "aesthetic" or "subjective"; a ValueError names its flag."""
    start = f"--eusr_{name}_nima_path={path}"
    without = " and ".join(f"--eusr_weight_l{name[0]}{kind}=0" for kind in "sr")
    try:
        if not path or str(path).lower().endswith(WITHOUT_GRADIENT):
            raise ValueError("gradients pass only through .pb, SavedModel and weights of a run")
        predictor = loading.restore_trained(path)
        outputs = set(predictor.export_names["outputs"])
        if not {"scores", "features"} <= outputs:
            given = ", ".join(sorted(outputs))
            raise ValueError(f"it should give scores and features, and gives {given}")
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{start} is no score predictor to train with: {error}. "
            f"{without} train without this predictor."
        ) from error
    return predictor


def check_scales(model_scales, scales, training):
    """Raises ValueError unless a network has all paths, and `scales` are some of them."""
    if not set(PATHS) <= set(model_scales):
        raise ValueError(
            "4PP-EUSR needs weights for 2, 4 and 8: --eusr_model_scales=2,4,8. "
            f"Received: {model_scales}"
        )
    if training and list(scales) != [FACTOR]:
        raise ValueError(f"4PP-EUSR is trained with --scales=4. Received: {scales}")
    if not scales or not set(scales) <= set(PATHS):
        raise ValueError(
            "--scales picks paths of 4PP-EUSR, which all give x4 images: 2 (the x2 path twice), "
            f"4, or 8 (the x8 path, reduced). Received: {scales}"
        )


@dataclasses.dataclass(frozen=True)
class Weights:
    """Weights of the losses in the generator's; the defaults are the authors'. 0 leaves one out."""

    reconstruction: float = 0.05
    adversarial: float = 0.1
    aesthetic_score: float = 0.01
    aesthetic_representation: float = 0.1
    subjective_score: float = 0.01
    subjective_representation: float = 0.1

    def uses(self, predictor):
        """Returns whether any loss needs the predictor of that name."""
        return bool(
            getattr(self, f"{predictor}_score") or getattr(self, f"{predictor}_representation")
        )


class PerceptualEUSR(eusr.EUSR):
    """The generator, trained against a discriminator and with score predictors."""

    def __init__(
        self,
        generator,
        evaluation=None,
        optimizers=None,
        discriminator=None,
        predictors=None,
        weights=None,
        paths=(FACTOR,),
        multipass=True,
        **kwargs,
    ):
        """Sets the method up.

        Args:
            generator: `network.Generator` with weights for 2, 4 and 8.
            evaluation: `eusr.Evaluation`; `None` for its defaults.
            optimizers: {"generator", "discriminator": optimizer}, or `None` without training.
            discriminator: `Discriminator`, or `None` without training or adversarial loss.
            predictors: {"aesthetic", "subjective": predictor} for the losses with weights. Its
                `predict(images)` takes float32 RGB, nominally 0-255 but not clipped, and returns
                {"scores": `[batch, K]`, "features": `[batch, F]`}; it is not changed.
            weights: `Weights`; `None` for the defaults.
            paths: those of `PATHS` that `evaluate` measures.
            multipass: whether to train all paths, or the x4 path alone.
            **kwargs: for `EUSR`.
        """
        others = {} if discriminator is None else {"discriminator": discriminator}
        super().__init__(generator, evaluation, optimizers, others, **kwargs)
        self.scales = PATHS
        self.discriminator = discriminator
        self.predictors = dict(predictors or {})
        self.weights = weights or Weights()
        self.paths = tuple(paths)
        self.trained_paths = PATHS if multipass else (FACTOR,)

    def train_step(self, batch, seed):
        """Runs one update of both networks on {"low", "high"} batches at x4.

        All images are made and judged once; each network has a tape that follows it alone.
        """
        low, high = self._degrade(batch["low"], seed), batch["high"]
        # Outside the tapes: nothing of what the truth is like can be learned from.
        truth = self._judge(high)
        with _watch(self.generator) as generator_tape:
            outputs = tf.concat([self._pass(low, path) for path in self.trained_paths], 0)
            terms = self._compare(outputs, high, truth)
            if self.discriminator is not None:
                with _watch(self.discriminator) as discriminator_tape:
                    output_logits = self.discriminator(outputs)
                    # Not joined to the outputs, so that the generator's gradient passes them alone.
                    truth_logits = self.discriminator(high)
                    discrimination = losses.discrimination(output_logits, truth_logits)
                terms["adversarial"] = losses.adversarial(output_logits)
            loss = sum(getattr(self.weights, name) * term for name, term in terms.items())
        self.update_weights("generator", loss, generator_tape)
        scalars = {"loss": loss} | {f"loss_{name}": term for name, term in terms.items()}
        if self.discriminator is not None:
            self.update_weights("discriminator", discrimination, discriminator_tape)
            scalars["loss_discriminator"] = discrimination
        return scalars

    def predict(self, images, scale=None):
        """Returns {"output": images of four times the size}, by the path that `scale` names."""
        return {"output": self._pass(images, scale)}

    def receptive_radius(self, scale=None):
        """Returns the reach of a path in input pixels."""
        radius = super().receptive_radius(scale)
        # The second pass of the x2 path sees as far in pixels of half the size.
        return radius + -(-radius // 2) if scale == 2 else radius

    def output_bytes(self, scale=None):
        """Returns the memory that each output pixel needs; the x8 path makes four of it."""
        return super().output_bytes(scale) * (4 if scale == 8 else 1)

    def factor(self, scale=None):
        """Returns 4, the factor of all paths."""
        return FACTOR

    def evaluated_scales(self, item):
        """Returns the paths to measure."""
        return self.paths

    def pictures(self, batch):
        """Returns input, outputs of all trained paths and truth of a training batch."""
        low = self._degrade(batch["low"], 0)
        outputs = {
            f"output_x{path}": self._upscale_function(path)(low) for path in self.trained_paths
        }
        return {"input": low, **outputs, "truth": batch["high"]}

    def _pass(self, images, path):
        if path == 2:
            return self.generator(self.generator(images, scale=2), scale=2)
        output = self.generator(images, scale=path)
        # TensorFlow 1's bicubic interpolation has no half-pixel centres: at this factor, every
        # second pixel is its exact result.
        return output[:, ::2, ::2] if path == 8 else output

    def _judge(self, images):
        """Returns {predictor: {output: tensor}}, in the images' precision."""
        return {
            name: {
                key: tf.cast(value, images.dtype)
                for key, value in predictor.predict(images).items()
            }
            for name, predictor in self.predictors.items()
        }

    def _compare(self, outputs, high, truth):
        """Returns {loss: value} of outputs of all paths, joined along the batch."""
        terms = {}
        if self.weights.reconstruction:
            terms["reconstruction"] = losses.reconstruction(outputs, self._repeat(high))
        for name, judged in self._judge(outputs).items():
            scores, features = (self._repeat(truth[name][key]) for key in ("scores", "features"))
            if getattr(self.weights, f"{name}_score"):
                terms[f"{name}_score"] = losses.score(judged["scores"], scores)
            if getattr(self.weights, f"{name}_representation"):
                terms[f"{name}_representation"] = losses.representation(
                    judged["features"], features
                )
        return terms

    def _repeat(self, values):
        """Returns something of the truth once for each path, in the order of the outputs."""
        return tf.concat([values] * len(self.trained_paths), 0)


def _watch(network):
    """Returns a tape that follows the weights of one network and nothing else."""
    tape = tf.GradientTape(watch_accessed_variables=False)
    with tape:
        tape.watch([variable.value for variable in network.trainable_variables])
    return tape
