"""SyMPIE: a module that is trained once and corrects images before any classifier.

Barbato, Michieli, Yucel, Zanuttigh and Ozay, "A Modular System for Enhanced Robustness of
Multimedia Understanding Networks via Deep Parametric Estimation", ACM MMSys 2024. The classifiers
are never changed:

    python train.py --model=sympie --dataloader=cifar10 --data_path=CIFAR10 \\
        --sympie_classifiers=runs/clean/best --train_path=runs/sympie
    python validate.py --restore_path=runs/sympie/best --degradations=imagenet_c --levels=all \\
        --sympie_classifiers=runs/clean/best,runs/other/best

Accuracies without and with the module are measured in one pass. Without --degradations they are
those of the distortions that were trained on.
"""

import functools

import keras
import tensorflow as tf
from absl import flags

import degradations
from classifiers import (
    comparison,
    comparison_page,
    correction,
    labelled_images,
    levels,
    losses,
    segmentation,
)
from classifiers import evaluation as evaluations
from classifiers import flags as classifier_flags
from classifiers.comparison import BATCH_NORM, BOTH, NONE, SYMPIE
from classifiers.models import _frozen, classifier
from classifiers.models.classifier import Classifier
from classifiers.networks import batch_norm, deeplab
from degradations.combined import OneOf
from misc.training import common_flags, seeds, settings
from misc.training.method import Method
from misc.training.run_folder import BEST

DATALOADER = "digits"
# Weights of the module, which can be used without --restore_path.
WEIGHTS_FLAG = "weights"
ESTIMATOR = "estimator"
OUTPUTS = ("image", "logits")
# A run of seconds, to try things.
TINY = {
    "num_classes": 10,
    "batch_size": 4,
    "evaluation_batch_size": 60,
    "sympie_classifiers": [f"cifar_resnet20:{_frozen.RANDOM}"],
    "sympie_distortions": ["contrast@0-5:step=1", "darken@0-5:step=1"],
}
# The 15 of ImageNet-C, its extras and the colour changes; severity 0 leaves an image as it is.
DISTORTIONS = tuple(f"{group}@0-5:step=1" for group in ("imagenet_c", "imagenet_c_extra", "colour"))


def define_flags():
    """Defines the flags of the module, its classifiers and its training."""
    classifier_flags.define_architecture_flags()
    classifier_flags.define_degradation_flags()
    classifier_flags.define_levels_flag()
    classifier_flags.define_reestimation_flag()
    flags.DEFINE_string(
        "weights",
        None,
        "File of the module's weights to start from or to use, PyTorch's or Keras'; absent: the "
        "module begins as the identity.",
    )
    common_flags.define_names(
        "sympie_classifiers",
        None,
        "Frozen classifiers behind the module, by turns in training: runs, or NAME:FILE of "
        "weights, or several FILE+FILE that belong together. NAME is one of --network, or of "
        f"{', '.join(_frozen.CLASSIFIERS)}; a FILE alone is of --network.",
    )
    flags.DEFINE_string(
        "sympie_segmenter",
        None,
        "File of PyTorch's weights of the network that finds the classes of pixels behind the "
        "module, a DeepLab v2 on ResNet50 with 19 classes; for --dataloader=cityscapes.",
    )
    flags.DEFINE_multi_string(
        "sympie_distortions",
        list(DISTORTIONS),
        "Distortions of training, one of which is drawn for each image: a degradation or a group. "
        "Repeat the flag for several.",
    )
    common_flags.define_float(
        "sympie_undamaged",
        0.0,
        "Share of training images that are left as they are, beside those of severity 0; "
        "validation distorts all.",
        at_least=0,
        below=1,
    )
    common_flags.define_float(
        "sympie_second_weight",
        0.5,
        "Weight of the loss of the module behind its averaged copy (--average_decay); 0: none.",
        at_least=0,
    )
    common_flags.define_float(
        "sympie_clip_norm",
        1.0,
        "Largest norm of each variable's gradient, of either loss; 0: any.",
        at_least=0,
    )
    common_flags.define_float(
        "sympie_learning_rate", 1e-3, "Learning rate of the first step.", at_least=0
    )
    common_flags.define_float(
        "sympie_learning_rate_decay",
        0.5,
        "Factor of --schedule=step and milestones.",
        above=0,
        at_most=1,
    )
    flags.DEFINE_integer(
        "sympie_learning_rate_decay_steps",
        10000,
        "Steps between two reductions of --schedule=step and cosine_staircase.",
        lower_bound=1,
    )
    flags.DEFINE_enum(
        "sympie_output",
        OUTPUTS[0],
        OUTPUTS,
        "What frozen files and misc.predict_folder give: the corrected image, or what the first "
        "of --sympie_classifiers says of it.",
    )
    settings.local("sympie_output", "sympie_segmenter")
    labelled_images.define_defaults(average_decay=0.9, schedule="cosine")


def create_model(flags, training=False):
    """Returns the `Sympie` that the flags describe, with its optimizer for training.

    Classifiers are loaded for training, and else as soon as they are needed.
    """
    distortion = create_distortion(flags)
    evaluation = evaluations.create(flags, flags.num_classes)
    if not flags.degradations:
        evaluation.tested = [levels.TestDegradation("distorted", distortion, [None])]
    estimator = correction.build_estimator(
        synchronized=tf.distribute.get_strategy().num_replicas_in_sync > 1
    )
    if flags.weights and (training or not flags.get("restore_path")):
        correction.load_weights(estimator, flags.weights)
    options = {}
    if training:
        if flags.sympie_second_weight and not flags.average_decay:
            raise ValueError(
                "--average_decay=0 leaves no averaged copy for the second loss: give "
                "--sympie_second_weight=0 too."
            )
        options["optimizers"] = {ESTIMATOR: create_optimizer(flags)}
        options |= common_flags.create_training_options(flags)
    method = Sympie(
        estimator,
        lambda: _frozen.create_classifiers(flags),
        evaluation,
        OneOf(distortion.layers, p=1 - flags.sympie_undamaged),
        second_weight=flags.sympie_second_weight,
        clip_norm=flags.sympie_clip_norm,
        output=flags.sympie_output,
        create_segmenter=lambda: _frozen.create_segmenter(flags),
        prior=flags.reestimated_prior,
        **options,
    )
    if training:  # this loads the classifiers, in the strategy's scope
        method.settings = {"num_classes": method.evaluation.classes}
    return method


def create_distortion(flags):
    """Returns the layer that changes each image in one of the ways of --sympie_distortions."""
    texts = degradations.expand(flags.sympie_distortions)
    try:
        layers = degradations.parse_list(texts, flags.degradation_size)
    except ValueError as error:
        raise ValueError(f"--sympie_distortions: {error}") from error
    for text, layer in zip(texts, layers, strict=True):
        if layer.host_only:
            raise ValueError(f"--sympie_distortions={text} runs on the host, not in a step.")
    return OneOf(layers)


def create_optimizer(flags):
    """Returns Adam with the schedule that the flags describe, and PyTorch's epsilon."""
    rate = common_flags.create_schedule(
        flags,
        flags.sympie_learning_rate,
        flags.sympie_learning_rate_decay,
        flags.sympie_learning_rate_decay_steps,
    )
    return keras.optimizers.Adam(rate, epsilon=1e-8)


class Sympie(Method):
    """The estimator of corrections, trained through frozen classifiers."""

    objective = "difference/corrupted"
    higher_is_better = True

    def __init__(
        self,
        estimator,
        create_classifiers,
        evaluation,
        distortion,
        second_weight=0.5,
        clip_norm=1.0,
        output="image",
        create_segmenter=None,
        prior=None,
        **kwargs,
    ):
        """Sets the method up.

        Args:
            estimator: network of `correction.build_estimator`.
            create_classifiers: function that returns {name: frozen `Classifier`}; called once.
            evaluation: `Evaluation`.
            distortion: layer that distorts training images.
            second_weight: weight of the loss behind the averaged copy.
            clip_norm: 0, or the largest norm of each variable's gradient, of either loss.
            output: one of `OUTPUTS`.
            create_segmenter: function that returns the network of `deeplab.build`; called once.
            prior: see `batch_norm.with_reestimated_statistics`; `None`: not measured.
            **kwargs: for `Method`.
        """
        super().__init__({ESTIMATOR: estimator}, **kwargs)
        self.estimator = estimator
        self._in_use = correction.for_use(estimator)
        self._create_classifiers = create_classifiers
        self._create_segmenter = create_segmenter
        self._evaluation = evaluation
        self.distortion = distortion
        self.second_weight = second_weight
        self.clip_norm = clip_norm
        self.output = output
        self.prior = prior
        if output == "image":
            self.metadata = {"whole_images": True}
        names = {"image": {"output": "output_images"}, "logits": {"logits": "output_logits"}}
        self.export_names = {"images": "images", "scale": None, "outputs": names[output]}

    @functools.cached_property
    def classifiers(self):
        """{name: frozen `Classifier`}."""
        with tf.init_scope():  # a function that is being traced may be the first to ask
            return self._create_classifiers()

    @functools.cached_property
    def reestimated(self):
        """{name: `Classifier` with the statistics of each batch}; empty without a prior."""
        if self.prior is None:
            return {}
        with tf.init_scope():
            return {
                name: Classifier(batch_norm.with_reestimated_statistics(one.network, self.prior))
                for name, one in self.classifiers.items()
            }

    @property
    def first(self):
        """The first of the classifiers, whose answers are frozen."""
        return next(iter(self.classifiers.values()))

    @property
    def evaluation(self):
        """What is measured, for as many classes as the classifiers have."""
        self._evaluation.classes = self.first.network.output_shape[-1]
        return self._evaluation

    @property
    def export_check_sizes(self):
        """Of small, odd and large images; or those that the first classifier takes."""
        if self.output == "logits":
            return self.first.export_check_sizes
        return (2, 46, 53), (1, 32, 32), (1, 260, 300)

    @property
    def bests(self):
        """Of the gain on distorted images, and of that on clean ones, which is mostly a loss."""
        return super().bests | {f"{BEST}_clean": ("difference/clean_corrected", True)}

    def variables(self):
        """Returns the variables that `predict` needs."""
        frozen = self.first.variables() if self.output == "logits" else []
        return super().variables() + frozen

    def train_step(self, batch, seed):
        """Runs one update on {"image", "label"} batches; see `Method.train_step`."""
        images = self.distortion(batch["image"], seed=seed)
        loss, gradients, logits, parameters = self._learn(images, batch["label"])
        found = {
            "loss": loss,
            "cross_entropy": loss,
            "accuracy": classifier.batch_accuracy(batch["label"], logits),
        }
        if self.second_weight:
            average = self.averages[ESTIMATOR]
            again = correction.correct(images, average(images, training=False))
            second, more, _, _ = self._learn(again, batch["label"], self.second_weight)
            gradients = [one + other for one, other in zip(gradients, more, strict=True)]
            found |= {"loss": loss + second, "second": second}
        self.apply(ESTIMATOR, gradients)
        self.synchronize_statistics(ESTIMATOR)
        changes = tf.abs(parameters - correction.identity())
        for name, values in _parts(changes).items():
            found[f"change/{name}"] = tf.reduce_mean(values)
        return found

    def _learn(self, images, labels, weight=1.0):
        """Returns a weighted loss, its clipped gradients, the logits and the parameters."""
        with tf.GradientTape() as tape:
            parameters = self.estimator(images, training=True)
            corrected = correction.correct(images, parameters, clamp=False)
            logits = self._classify_by_turns(corrected)
            loss = weight * losses.cross_entropy(labels, logits)
        gradients = self.gradients(ESTIMATOR, loss, tape)
        if self.clip_norm:
            limit = self.clip_norm * self.loss_scale(ESTIMATOR)
            gradients = [tf.clip_by_norm(gradient, limit) for gradient in gradients]
        return loss, gradients, logits, parameters

    def _classify_by_turns(self, images):
        """Returns the logits of the classifier whose turn it is in this step."""
        branches = [functools.partial(one.classify, images) for one in self.classifiers.values()]
        if len(branches) == 1:
            return branches[0]()
        turn = self.scaled_optimizer(ESTIMATOR).iterations % len(branches)
        return tf.switch_case(tf.cast(turn, tf.int32), branches)

    def correct(self, images, portable=False):
        """Returns corrected images, float32 `[B, H, W, 3]` in 0-255; see `correction.warp`."""
        return correction.correct(images, self._in_use(images, training=False), portable=portable)

    def predict(self, images, scale=None):
        """Returns {"output": images in 0-255} or {"logits": `[B, K]`}; see `Method.predict`."""
        del scale
        corrected = self.correct(images, portable=True)
        if self.output == "image":
            return {"output": corrected}
        return {"logits": self.first.classify(corrected)}

    def classify(self, images):
        """Returns {(classifier, what is done for it): logits `[B, K]`} of all classifiers."""
        corrected = self.correct(images)
        found = {}
        for name, one in self.classifiers.items():
            found |= {(name, NONE): one.classify(images), (name, SYMPIE): one.classify(corrected)}
        for name, one in self.reestimated.items():
            found[name, BATCH_NORM] = one.classify(images)
            found[name, BOTH] = one.classify(corrected)
        return found

    def segmented(self, images, size):
        """Returns {what is done: (images `[B, h, w, 3]`, classes `[B, H, W]`)} of size (H, W)."""
        seen = {NONE: images, SYMPIE: self.correct(images)}
        return {
            name: (one, tf.argmax(deeplab.segment(self._segmenter, one, size), axis=-1))
            for name, one in seen.items()
        }

    @functools.cached_property
    def _segmenter(self):
        with tf.init_scope():
            return self._create_segmenter()

    def evaluate(self, batches, report=None):
        """Measures accuracy without and with the module; see `comparison.summarize`.

        Of images without labels it reports the answers; see `comparison.answer`. Where every pixel
        has a class, it measures how well these are found; see `segmentation.measure`.
        """
        if hasattr(batches, "segmented"):
            segment = tf.function(self.segmented, reduce_retracing=True)
            return segmentation.measure(segment, batches, report)
        if hasattr(batches, "categories"):
            return comparison.answer(tf.function(self.classify), batches, report)
        examples = {}
        counted = self.evaluation.count(self.classify, batches, examples=examples)
        grids = {}
        for (name, module), grid in counted.items():
            grids.setdefault(name, {})[module] = grid
        if not grids:
            raise ValueError("No image was evaluated: the dataloader gave none.")
        if report is not None:
            comparison.show(grids, report)
            pairs = comparison.correct_examples(examples, self.correct)
            report.add_picture("corrected", comparison.draw_examples(pairs))
            units = {tested.name: tested.unit for tested in self.evaluation.tested}
            report.add_page(*comparison_page.describe(grids, pairs, units, degradations.label))
        return comparison.summarize(grids)

    def summarize(self, results):
        """Returns what is shown of a validation in a line."""
        shown = ("accuracy/clean", "accuracy/corrupted", "accuracy/corrected")
        return ", ".join(f"{name} {results[name]:.2f}" for name in shown if name in results)

    def receptive_radius(self, scale=None):
        """Returns `None`: every pixel has a part in the correction."""
        return

    def pictures(self, batch):
        """Returns training images as they are, distorted, and corrected."""
        distorted = self._distorted_anew(batch)
        return {
            "image": batch["image"],
            "distorted": distorted,
            "corrected": self.correct(distorted),
        }

    def figures(self, batch):
        """Returns accuracies of the first classifier, and the parameters that are predicted.

        The images are distorted as in `pictures`, and corrected as in use. The accuracies have the
        names of those of `evaluate`; the parameters are arrays `[B, 9]`, `[B, 3]` and `[B, 25]`.
        """
        distorted = self._distorted_anew(batch)
        parameters = self._in_use(distorted, training=False)
        seen = {
            "clean": batch["image"],
            "corrupted": distorted,
            "corrected": correction.correct(distorted, parameters),
        }
        accuracies = {
            name: classifier.batch_accuracy(batch["label"], self.first.classify(images))
            for name, images in seen.items()
        }
        found = {f"accuracy/{name}": value for name, value in accuracies.items()}
        for name in ("corrupted", "clean"):
            found[f"difference/{name}"] = accuracies["corrected"] - accuracies[name]
        return found | {f"parameters/{name}": v for name, v in _parts(parameters).items()}

    def _distorted_anew(self, batch):
        """Returns the images of a batch with other draws at each step than at the ones before."""
        steps = int(self.scaled_optimizer(ESTIMATOR).iterations.numpy())
        return self.distortion(batch["image"], seed=seeds.of_step(0, steps))


def _parts(parameters):
    """Returns {"matrix", "shift" and "kernel": those of the parameters `[B, 37]`}."""
    places = {name: getattr(correction, name.upper()) for name in ("matrix", "shift", "kernel")}
    return {name: parameters[:, place] for name, place in places.items()}
