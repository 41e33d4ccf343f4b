"""A classifier trained with the cross-entropy, on clean or degraded images.

    python train.py --model=classifier --dataloader=cifar10 --data_path=FOLDER \\
        --train_path=runs/clean
    python train.py --model=classifier --degradations={jpeg,blur,saltpepper,noise} \\
        --restore_path=runs/clean/best --restore_target=classifier ...

With a starting point and --degradations this gives the baselines of FusionDistill (Daultani &
Larochelle, WACV-W 2024): scratch (no --restore_path), vanilla fine-tuning (from the clean model),
fusing (from fused weights); see recipes/.
"""

import pathlib
import types

import tensorflow as tf

from classifiers import evaluation as evaluations
from classifiers import flags as classifier_flags
from classifiers import losses, networks, training_copies
from misc import run_folder
from misc.method import Method

DATALOADER = "digits"
# A run of seconds, to try things.
TINY = {"network": "cifar_resnet20", "batch_size": 4, "evaluation_batch_size": 60}


def define_flags():
    """Defines the flags of classifiers."""
    classifier_flags.define_network_flags()
    classifier_flags.define_copies_flags()
    classifier_flags.define_optimizer_flags()
    classifier_flags.define_evaluation_flags()


def create_model(flags, training=False):
    """Returns the `Classifier` that the flags describe, with its optimizer for training."""
    return create_method(Classifier, flags, training)


def create_method(method, flags, training, **kwargs):
    """Returns a method with one classifier.

    Args:
        method: `Classifier` or a subclass.
        flags: values of the flags of `classifiers.flags`.
        training: whether to make the optimizer and what is needed for training alone.
        **kwargs: for `method`.
    """
    network = create_network(flags)
    evaluation = evaluations.create(flags)
    copies = training_copies.create(flags)
    if not training:
        return method(network, evaluation, copies, **kwargs)
    return method(
        network,
        evaluation,
        copies,
        optimizers={"classifier": classifier_flags.create_optimizer(flags)},
        average_decay=flags.average_decay,
        gradient_clip_norm=flags.gradient_clip_norm,
        **kwargs,
    )


def create_network(flags, weights=None):
    """Returns the network that the flags describe, with --weights or those of another file."""
    load_head = bool(weights) or not flags.weights or getattr(flags, "load_head", True)
    return networks.build(
        flags.network,
        flags.num_classes,
        weights=weights or flags.weights,
        load_head=load_head,
        mean=[value / 255 for value in flags.image_mean],
        std=[value / 255 for value in flags.image_deviation],
    )


def load_network(path, flags):
    """Returns a trained network.

    Args:
        path: folder or checkpoint of a run, whose arguments.json says what network it is; or a
            file of weights for the network that the flags describe.
        flags: values of the flags of `classifiers.flags`.

    Raises:
        ValueError: if the weights do not fit, or belong to another number of classes.
        FileNotFoundError: if there is no such checkpoint.
    """
    if not (pathlib.Path(path).is_dir() or pathlib.Path(f"{path}.index").exists()):
        return create_network(flags, weights=path)
    settings = run_folder.read_arguments(path)
    if settings.get("num_classes", flags.num_classes) != flags.num_classes:
        raise ValueError(
            f"{path} was trained for {settings['num_classes']} classes. "
            f"Received: --num_classes={flags.num_classes}"
        )
    names = ("network", "num_classes", "image_mean", "image_deviation")
    described = {name: settings.get(name, getattr(flags, name)) for name in names}
    method = Classifier(create_network(types.SimpleNamespace(**described, weights=None)))
    method.restore(run_folder.find_checkpoint(path), ["classifier"], use_averages=True)
    return method.network


class Classifier(Method):
    """One network, trained with the cross-entropy on degraded copies."""

    objective = "accuracy"
    higher_is_better = True
    export_check_sizes = ((2, 32, 32), (1, 32, 32))

    def __init__(self, network, evaluation=None, copies=None, optimizers=None, **kwargs):
        """Sets the method up.

        Args:
            network: network of `networks.build`.
            evaluation: `Evaluation`; `None` for clean images alone.
            copies: `TrainingCopies`; `None` where nothing is done with training images.
            optimizers: {"classifier": optimizer}, or `None` without training.
            **kwargs: for `Method`.
        """
        super().__init__({"classifier": network}, optimizers, **kwargs)
        self.network = network
        classes = network.output_shape[-1]
        self.evaluation = evaluation or evaluations.Evaluation(classes=classes)
        self.copies = copies
        self.export_names = {
            "images": "images",
            "scale": None,
            "outputs": {"logits": "output_logits"},
        }

    def train_step(self, batch, seed):
        """Runs one update on {"image", "label"} batches; see `Method.train_step`."""
        copies = self.make_copies(batch, seed)
        with tf.GradientTape() as tape:
            logits = self.network(copies["degraded"], training=True)
            loss = losses.cross_entropy(copies["label"], logits)
        self.update_weights("classifier", loss, tape)
        return {"loss": loss, "accuracy": batch_accuracy(copies["label"], logits)}

    def make_copies(self, batch, seed):
        """Returns the copies of a batch; with --degrade_on=host the dataloader has made them."""
        if "degraded" in batch:
            return batch
        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            seed = tf.random.fold_in(seed, context.replica_id_in_sync_group, alg="philox")
        return self.copies(batch["image"], batch["label"], seed, batch.get("index"))

    def predict(self, images, scale=None):
        """Returns {"logits": `[B, K]`}; see `Method.predict`."""
        del scale
        return {"logits": self.network(images, training=False)}

    def classify(self, images):
        """Returns the logits `[B, K]` that are evaluated."""
        return self.predict(images)["logits"]

    def evaluate(self, batches, report=None):
        """Measures accuracy on clean and degraded images; see `Evaluation.run`."""
        return self.evaluation.run(self.classify, batches, report)

    def receptive_radius(self, scale=None):
        """Returns `None`: every pixel counts, and large images cannot be classified in tiles."""
        return

    def pictures(self, batch):
        """Returns the copies of a batch that are trained on, the first of each degradation."""
        copies = self.make_copies(batch, tf.constant([0, 0]))
        blocks = len(self.copies.layers) if self.copies and self.copies.layers else 1
        rows = int(copies["image"].shape[0]) // blocks
        return {name: copies[name][:: max(rows, 1)] for name in ("image", "degraded")}

    def reestimate_statistics(self, batches, steps, seed):
        """Sets the moving statistics of batch normalisation to their means over training batches.

        As Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization",
        UAI 2018, do for averaged weights: the trainable variables stay, means and variances are
        averaged over the batches, each weighing the same.

        Args:
            batches: iterable of training batches, as for `train_step`.
            steps: number of batches.
            seed: int32 tensor of shape [2].
        """
        normalisations = [
            layer for layer in self.network.layers if hasattr(layer, "moving_variance")
        ]
        kept = [layer.momentum for layer in normalisations]
        statistics = [
            variable.value
            for layer in normalisations
            for variable in (layer.moving_mean, layer.moving_variance)
        ]
        sums = [tf.Variable(tf.zeros_like(value)) for value in statistics]

        @tf.function
        def observe(batch, seed):
            self.network(self.make_copies(batch, seed)["degraded"], training=True)
            for total, value in zip(sums, statistics, strict=True):
                total.assign_add(value)

        try:
            for layer in normalisations:
                layer.momentum = 0.0  # the statistics become those of the newest batch
            for step, batch in zip(range(1, steps + 1), batches, strict=False):
                observe(batch, tf.random.fold_in(seed, step))
        finally:
            for layer, momentum in zip(normalisations, kept, strict=True):
                layer.momentum = momentum
        for total, value in zip(sums, statistics, strict=True):
            value.assign(total / steps)


def batch_accuracy(labels, logits):
    """Returns the share of right answers in percent, a scalar."""
    right = tf.argmax(logits, axis=-1, output_type=tf.int32) == tf.cast(labels, tf.int32)
    return 100 * tf.reduce_mean(tf.cast(right, tf.float32))
