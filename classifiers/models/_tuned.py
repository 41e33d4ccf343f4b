"""What expert training and stability training share: one degradation, Adam, course, figures.

Marie, Desnos, Morin & Zhang, "Expert Training: Enhancing AI Resilience to Image Coding Artifacts",
Electronic Imaging 2022.
"""

import abc
import dataclasses

import tensorflow as tf
from absl import flags

import degradations
from classifiers import flags as classifier_flags
from classifiers.epoch_figures import EpochFigures
from classifiers.models import classifier
from classifiers.models.classifier import Classifier
from misc.training import optimizers
from misc.training.method import Decision

REDUCTIONS = ("sum", "mean")
BETAS = (0.5, 0.99)
EPOCHS = 45
# The rate falls to a fifth.
FACTOR = 0.2
SCHEDULES = ("plateau", "constant")
# Number of the validation after the first epoch, which steers nothing; 0 comes before training.
_IGNORED = 1
COLUMNS = (
    *("classification_loss", "distillation_loss", "loss", "top1", "top5"),
    *("bytes", "bits_per_pixel"),
)


def define_flags(patience):
    """Defines the flags of the network, of its degradation and of evaluation.

    Args:
        patience: validations without a better result after which the rate falls.
    """
    classifier_flags.define_network_flags()
    classifier_flags.define_copies_flags()
    classifier_flags.define_evaluation_flags()
    # The published images are prepared for training as for validation.
    course = {"schedule": "plateau", "plateau_patience": patience, "plateau_factor": FACTOR}
    unchanged = {"augment_flip": False, "augment_padding": 0}
    for name, value in (course | unchanged | {"epochs": EPOCHS}).items():
        if name in flags.FLAGS:
            flags.FLAGS.set_default(name, value)


def define_reduction_flag(method):
    """Defines how the divergence of a batch is taken together."""
    flags.DEFINE_enum(
        f"{method}_reduction",
        "sum",
        REDUCTIONS,
        "How the divergences of a batch are taken together: sum, as published, where the weight of "
        "the divergence grows with --batch_size; or mean, where it does not.",
    )


def create(method, flags, training, learning_rate, **kwargs):
    """Returns a `Tuned` method that the flags describe.

    Raises:
        ValueError: for several degradations, or a course that the method does not have.
    """
    texts = degradations.expand(flags.degradations)
    if len(texts) > 1:
        raise ValueError(
            f"--degradations: one degradation is trained on. Received: {', '.join(texts)}. "
            "'a/b' is one of them for each image, 'a|b' one after the other."
        )
    if training and flags.schedule not in SCHEDULES:
        raise ValueError(
            f"--schedule must be one of {', '.join(SCHEDULES)} here. Received: {flags.schedule}"
        )
    return classifier.create_method(
        method,
        flags,
        training,
        lambda flags: optimizers.Adam(learning_rate, *BETAS),
        batch_size=flags.get("batch_size", 1),
        **kwargs,
    )


class Tuned(Classifier):
    """A pretrained classifier, tuned with the cross-entropy and a divergence of two answers.

    The loss is the mean cross-entropy plus `weight` times the divergence, summed over the batch or
    the mean over it.
    """

    validates_first = True

    def __init__(
        self,
        network,
        evaluation=None,
        copies=None,
        optimizers=None,
        weight=0.0,
        reduction="sum",
        batch_size=1,
        falls=1,
        **kwargs,
    ):
        """Sets the method up; see `Classifier` too.

        Args:
            network: the pretrained network.
            evaluation: as there.
            copies: as there.
            optimizers: as there.
            weight: factor of the divergence.
            reduction: one of `REDUCTIONS`.
            batch_size: images of a training step, which validations are to be compared with.
            falls: the training ends when the rate falls for the `falls`-th time.
            **kwargs: for `Method`.
        """
        if copies is not None:
            copies = dataclasses.replace(copies, with_bytes=copies.has_codec)
        super().__init__(network, evaluation, copies, optimizers, **kwargs)
        self.weight, self.reduction, self.batch_size = weight, reduction, batch_size
        self.epoch = EpochFigures()
        self._seen = EpochFigures()
        self.validations = tf.Variable(0, dtype=tf.int64, trainable=False)
        # The best result that the course of the rate knows.
        self.best_counted = tf.Variable(float("-inf"), dtype=tf.float64, trainable=False)
        if optimizers:
            rate = self.learning_rates()["classifier"]
            self._last_rate = rate * self.plateau_factor**falls
        self._measure_compiled = tf.function(
            lambda copies: self._add_to(self._seen, copies), reduce_retracing=True
        )

    def state(self):
        """See `Method`; also what has been summed up of an epoch that has begun."""
        state = super().state()
        state["progress"] |= {
            "validations": self.validations,
            "best_counted": self.best_counted,
            "epoch": self.epoch.sums,
        }
        return state

    @abc.abstractmethod
    def measure(self, copies, training):
        """Returns the mean cross-entropy, the mean divergence, and the logits that are counted.

        Args:
            copies: those of a batch, see `TrainingCopies`.
            training: whether the network is in training mode.
        """

    def train_step(self, batch, seed):
        """Runs one update on {"image", "label"} batches; see `Method.train_step`."""
        copies = self.make_copies(batch, seed)
        count = tf.distribute.get_replica_context().num_replicas_in_sync
        count *= tf.cast(tf.shape(copies["label"])[0], tf.float32)
        with tf.GradientTape() as tape:
            cross_entropy, divergence, logits = self.measure(copies, training=True)
            distillation = self._factor(count) * divergence
            loss = cross_entropy + distillation
        self.update_weights("classifier", loss, tape)
        self.synchronize_statistics("classifier")
        self.epoch.add(cross_entropy, distillation, logits, copies)
        return {
            "loss": loss,
            "classification_loss": cross_entropy,
            "distillation_loss": distillation,
            "accuracy": classifier.batch_accuracy(copies["label"], logits),
        }

    def _factor(self, count):
        """Returns what the mean divergence is multiplied by in batches of `count` images."""
        return self.weight * count if self.reduction == "sum" else self.weight

    def evaluate(self, batches, report=None):
        """Measures the degradation with the losses of training; a trained model: `Classifier`'s."""
        if not self.optimizers:
            return super().evaluate(batches, report)
        self._seen.reset()
        place = 0
        for batch in batches:
            for copies in self._validation_copies(batch, place):
                self._measure_compiled(copies)
            place += len(batch["label"])
        return self._seen.means()

    def _add_to(self, figures, copies):
        cross_entropy, divergence, logits = self.measure(copies, training=False)
        figures.add(cross_entropy, self._factor(self.batch_size) * divergence, logits, copies)

    def _validation_copies(self, batch, place):
        """Yields the copies of a batch at each level; `place` is that of its first image."""
        copies = {name: batch[name] for name in ("image", "label", "index") if name in batch}
        if "bytes" in batch:  # stored as they are to be seen
            yield copies | {"degraded": batch["image"], "bytes": batch["bytes"]}
            return
        for tested in self.evaluation.tested:
            for value in tested.values:
                images, sizes = self.evaluation.degrade(tested, value, batch["image"], place)
                made = copies | {"degraded": images}
                yield made if sizes is None else made | {"bytes": sizes}
        if not self.evaluation.tested:
            yield copies | {"degraded": batch["image"]}

    def epoch_rows(self, results):
        """Returns what was trained on since the last validation, and what that measured."""
        trained = self.epoch.means()
        self.epoch.reset()
        number = int(self.validations.numpy()) - 1
        rate = self.learning_rates()["classifier"]
        return [
            {"epoch": number, "split": split}
            | {name: figures.get(name) for name in COLUMNS}
            | {"learning_rate": rate}
            for split, figures in (("train", trained), ("validation", results))
            if figures
        ]

    def after_validation(self, results):
        """Returns what follows from a validation; see `Method`.

        Validations without a better result count since the last better one, and since the rate fell
        last; with `plateau_patience` of them the rate falls and Adam starts afresh. The validation
        after the first epoch is left out of this.
        """
        number = int(self.validations.numpy())
        self.validations.assign_add(1)
        improved = tuple(name for name in self.bests if self._improve(name, results))
        if number == _IGNORED:
            return Decision(improved)
        value, best = results[self.objective], float(self.best_counted.numpy())
        since = 0 if value > best else int(self.validations_since_best.numpy()) + 1
        self.best_counted.assign(max(value, best))
        if not self.plateau_patience or since < self.plateau_patience:
            self.validations_since_best.assign(since)
            return Decision(improved)
        self.validations_since_best.assign(0)
        rate = self.plateau_factor * self.learning_rates()["classifier"]
        ends = rate <= 1.001 * self._last_rate  # but for float32
        return Decision(improved, self.plateau_factor, restart=True, stop=ends)
