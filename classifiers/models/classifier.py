"""A classifier trained with the cross-entropy, on clean or degraded images.

    python train.py --model=classifier --dataloader=cifar10 --data_path=FOLDER \\
        --train_path=runs/clean
    python train.py --model=classifier --degradations={jpeg,blur,saltpepper,noise} \\
        --restore_path=runs/clean/best --restore_target=classifier ...

With a starting point and --degradations this gives the baselines of FusionDistill (Daultani &
Larochelle, WACV-W 2024): scratch (no --restore_path), vanilla fine-tuning (from the clean model),
fusing (from fused weights); see recipes/.

Pretrained weights are used as they are, or tuned for other classes:

    python validate.py --model=classifier --network=resnet50 --weights=resnet50.pth \\
        --dataloader=class_folders --data_test_path=ImageNet/val --degradations=imagenet_c \\
        --levels=all
    python train.py --model=classifier --network=resnet50 --weights=resnet50.pth --noweights_head \\
        --dataloader=class_folders --data_path=PETS --data_training_crop=random_resized
"""

import pathlib

import tensorflow as tf

from classifiers import evaluation as evaluations
from classifiers import flags as classifier_flags
from classifiers import losses, networks, normalisation, training_copies
from misc.training import common_flags, run_folder, seeds, summaries, weight_files
from misc.training.method import Method

DATALOADER = "digits"
# Flags that say what a network computes; models whose weights are averaged must agree in them.
NETWORK_FLAGS = ("network", "num_classes", "image_mean", "image_deviation", "image_size")
# Weights that can be used without --restore_path.
WEIGHTS_FLAG = "weights"
# A run that a CPU finishes within the hour.
SMALL_RECIPE = "classifiers/recipes/quick_clean.flags"
# A run of seconds, to try things.
TINY = {
    "network": "cifar_resnet20",
    "num_classes": 10,
    "batch_size": 4,
    "evaluation_batch_size": 60,
}


def define_flags():
    """Defines the flags of classifiers."""
    classifier_flags.define_network_flags()
    classifier_flags.define_copies_flags()
    classifier_flags.define_optimizer_flags()
    classifier_flags.define_evaluation_flags()


def create_model(flags, training=False):
    """Returns the `Classifier` that the flags describe, with its optimizer for training."""
    return create_method(Classifier, flags, training)


def create_method(method, flags, training, optimizer=classifier_flags.create_optimizer, **kwargs):
    """Returns a method with one classifier: `Classifier` or a subclass, with `kwargs`.

    For training it gets the optimizer that `optimizer`, a function of the flags, returns.
    """
    # First what is read fast, and where most mistakes are.
    copies = training_copies.create(flags, training)
    network = create_starting_network(flags, training)
    classes = network.output_shape[-1]
    if training:
        kwargs["optimizers"] = {"classifier": optimizer(flags)}
        kwargs |= common_flags.create_training_options(flags)
    made = method(network, evaluations.create(flags, classes), copies, **kwargs)
    mean, deviation = normalisation.create(flags)
    made.settings = {"num_classes": classes, "image_mean": mean, "image_deviation": deviation}
    return made


def create_starting_network(flags, training=False):
    """Returns the network that the flags describe, with --weights where nothing replaces them."""
    if not training and flags.get("restore_path"):
        # The file need not be there any more.
        return create_network(flags)
    if not flags.weights_head and not flags.weights:
        raise ValueError("--noweights_head leaves the last layer of --weights out: give --weights.")
    if not flags.weights_head and not training:
        raise ValueError("--noweights_head is for training: without it the last layer is random.")
    for path in flags.weights or ():
        if not pathlib.Path(path).is_file():
            raise FileNotFoundError(f"--weights={path} does not exist.")
    return create_network(flags, flags.weights or None, flags.weights_head)


def create_network(flags, weights=None, load_head=True):
    """Returns the network that the flags describe, with random weights or those of files."""
    mean, deviation = normalisation.create(flags)
    return networks.build(
        flags.network,
        flags.num_classes,
        weights,
        load_head,
        mean=[value / 255 for value in mean],
        std=[value / 255 for value in deviation],
        image_size=flags.image_size,
    )


def create_trained_network(flags, path, flag):
    """Returns a trained network.

    Args:
        flags: values of the flags.
        path: folder, checkpoint or weight file of a run, whose arguments.json says what network it
            is; or a file of weights for the network that the flags describe.
        flag: name of the flag that the path comes from, for messages.

    Raises:
        ValueError: if the weights do not fit, or belong to another number of classes.
        FileNotFoundError: if there is no such checkpoint or file.
    """
    settings = run_folder.read_arguments(path)
    is_file = pathlib.Path(path).is_file() and not str(path).endswith(".index")
    try:
        if is_file and not (weight_files.is_weight_file(path) and "network" in settings):
            return create_network(flags, weights=path)
        checkpoint = run_folder.find_checkpoint(path, flag=flag)
        classes = settings.get("num_classes", flags.num_classes)
        if flags.num_classes not in (None, classes):
            raise ValueError(f"It has {classes} classes: --num_classes={flags.num_classes}.")
        kept = {name: settings[name] for name in NETWORK_FLAGS if name in settings}
        # Only what that run knew: neither the run nor the data of this one.
        others = {"restore_path": None, "data_normalisation": None}
        method = Classifier(create_network(flags | others | kept))
        method.restore(checkpoint, ["classifier"], use_averages=True)
    except ValueError as error:
        raise ValueError(f"--{flag}={path} cannot be used. {error}") from error
    return method.network


class Classifier(Method):
    """One network, trained with the cross-entropy on degraded copies."""

    objective = "accuracy"
    higher_is_better = True

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
        # Some networks take one size alone, others no small one.
        known = networks.NETWORKS.get(network.name)
        side = network.input_shape[1] or (known.image_size if known else 32)
        self.export_check_sizes = ((2, side, side), (1, side, side))
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
        self.synchronize_statistics("classifier")
        return {"loss": loss, "accuracy": batch_accuracy(copies["label"], logits)}

    def make_copies(self, batch, seed):
        """Returns the copies of a batch; with --degrade_on=host the dataloader has made them.

        Images that come with "bytes" were degraded before they were stored, without clean ones.
        """
        self._check_size(batch["degraded" if "degraded" in batch else "image"])
        if "degraded" in batch:
            return batch
        copies = self.copies(batch["image"], batch["label"], seed, batch.get("index"))
        if "bytes" in batch:
            del copies["image"]
            copies["bytes"] = batch["bytes"]
        return copies

    def predict(self, images, scale=None):
        """Returns {"logits": `[B, K]`}; see `Method.predict`."""
        del scale
        return {"logits": self.network(self._check_size(images), training=False)}

    def _check_size(self, images):
        """Returns the images, of known size where the network takes one size alone."""
        size, given = tuple(self.network.input_shape[1:3]), tuple(images.shape[1:3])
        if None in given:
            return tf.ensure_shape(images, [None, *size, 3])
        if None not in size and size != given:
            raise ValueError(
                f"{self.network.name} was made for images of {size[0]}x{size[1]} pixels. "
                f"Received: {given[0]}x{given[1]}. Give such images (--data_crop={size[0]}, where "
                f"the dataloader has it), or make the network for these: --image_size={given[0]}."
            )
        known = networks.NETWORKS.get(self.network.name)
        if known and min(given) < known.smallest_size:
            raise ValueError(
                f"{self.network.name} takes images of at least {known.smallest_size} pixels a "
                f"side. Received: {given[0]}x{given[1]}. Give larger ones (--data_crop, where the "
                "dataloader has it), or another --network."
            )
        return images

    def classify(self, images):
        """Returns the logits `[B, K]` that are evaluated."""
        return self.predict(images)["logits"]

    def evaluate(self, batches, report=None):
        """Measures accuracy on clean and degraded images; see `Evaluation.run`."""
        names = self.metadata.get("class_names")
        return self.evaluation.run(self.classify, batches, report, names)

    def receptive_radius(self, scale=None):
        """Returns `None`: every pixel counts, and large images cannot be classified in tiles."""
        return

    def pictures(self, batch):
        """Returns the copies of a batch that are trained on, some of each degradation."""
        copies = self.make_copies(batch, tf.constant([0, 0]))
        layers = self.copies.layers if self.copies else ()
        # Stored degraded images come without clean ones.
        names = [name for name in ("image", "degraded") if name in copies]
        names = names if layers else names[:1]
        blocks = max(len(layers), 1)
        rows = max(int(copies["degraded"].shape[0]) // blocks, 1)
        shown = min(max(summaries.MAX_PICTURES // blocks, 1), rows)
        chosen = [block * rows + row for block in range(blocks) for row in range(shown)]
        return {name: tf.gather(copies[name], chosen) for name in names}

    def reestimate_statistics(self, batches, steps, seed):
        """Sets the moving statistics to their means over `steps` training batches.

        As Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization",
        UAI 2018, do for averaged weights: the trainable variables stay, all batches weigh the same.
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
                observe(batch, seeds.of_step(seed, step))
        finally:
            for layer, momentum in zip(normalisations, kept, strict=True):
                layer.momentum = momentum
        for total, value in zip(sums, statistics, strict=True):
            value.assign(total / steps)


def batch_accuracy(labels, logits):
    """Returns the share of right answers in percent, a scalar."""
    right = tf.argmax(logits, axis=-1, output_type=tf.int32) == tf.cast(labels, tf.int32)
    return 100 * tf.reduce_mean(tf.cast(right, tf.float32))
