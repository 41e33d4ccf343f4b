"""NIMA: a network of keras.applications, trained to predict how people's scores are distributed.

Talebi and Milanfar, "NIMA: Neural Image Assessment", IEEE Transactions on Image Processing 2018.

    python train.py --model=nima --nima_backbone=EfficientNetB0 --dataloader=ava \\
        --ava_dataset_path=AVA.txt --ava_image_path=images --weight_filename=nima.h5
"""

import keras
import numpy as np
import tensorflow as tf
from absl import flags

from misc.reports import plots
from misc.training import common_flags, weight_files
from misc.training.method import Method
from score_predictors import flags as predictor_flags
from score_predictors import losses, metrics, network
from score_predictors.original_graph import GRAPH

DATALOADER = "ava"
# A run that a CPU finishes within the hour.
SMALL_RECIPE = "score_predictors/recipes/quick.flags"
# A run of seconds, to try things.
TINY = {
    "nima_backbone": "MobileNetV3Small",
    "pretrained_weights": "none",
    "input_patch_size": 32,
    "batch_size": 2,
}
HISTOGRAM_PICTURES = 12


def define_flags():
    """Defines the flags of NIMA with any backbone."""
    predictor_flags.define_common_flags()
    flags.DEFINE_enum(
        "nima_backbone",
        "EfficientNetB0",
        network.list_backbones(),
        "Network of keras.applications.",
    )
    flags.DEFINE_bool(
        "nima_train_last_only", False, "Train the last layer alone; the others stay as they are."
    )


def create_model(flags, training=False):
    """Returns the `ScorePredictor` that the flags describe, with its optimizer for training."""
    return create_predictor(
        flags, flags.nima_backbone, last_only=flags.nima_train_last_only, training=training
    )


def create_predictor(flags, backbone, alpha=1.0, last_only=False, training=False):
    """Returns a `ScorePredictor` with a network of keras.applications; see its arguments."""
    predictor = network.create_network(backbone, len(flags.score_values), alpha)
    options = flags.score_values, flags.input_patch_size, flags.emd_r
    if not training:
        return ScorePredictor(predictor, backbone, alpha, *options)
    if flags.batch_norm_momentum is not None:
        network.set_batch_norm_momentum(predictor, flags.batch_norm_momentum)
    if last_only:
        for layer in network.features_part(predictor).layers:
            layer.trainable = False
    rate = common_flags.create_schedule(
        flags, flags.learning_rate, flags.learning_rate_decay, flags.learning_rate_decay_steps
    )
    return ScorePredictor(
        predictor,
        backbone,
        alpha,
        *options,
        dropout=flags.dropout,
        last_only=last_only,
        pretrained=flags.pretrained_weights,
        optimizers={"predictor": keras.optimizers.Adam(rate)},
        **common_flags.create_training_options(flags),
    )


class ScorePredictor(Method):
    """A network of images to score distributions, trained with the earth mover's distance."""

    def __init__(
        self,
        predictor,
        backbone=network.MOBILENETV2,
        alpha=1.0,
        values=metrics.AVA_VALUES,
        patch_size=192,
        emd_r=2.0,
        dropout=network.DROPOUT,
        last_only=False,
        pretrained="none",
        optimizers=None,
        **kwargs,
    ):
        """Sets the method up.

        Args:
            predictor: network of `network.create_network`.
            backbone: its backbone's name.
            alpha: its backbone's width.
            values: scores that the bins stand for.
            patch_size: side of training images in pixels, which frozen files tell.
            emd_r: exponent of the loss.
            dropout: share of the features that a training step leaves out.
            last_only: whether only the last layer is trained; the backbone then computes as in
                use, its batch normalisation too.
            pretrained: see --pretrained_weights.
            optimizers: {"predictor": optimizer}, or `None` without training.
            **kwargs: for `Method`.
        """
        super().__init__({"predictor": predictor}, optimizers, **kwargs)
        self.predictor = predictor
        self.backbone = network.features_part(predictor)
        self.head = predictor.get_layer(network.SCORES_LAYER)
        self.values = tuple(float(value) for value in values)
        self.emd_r = emd_r
        self.dropout = dropout
        self.last_only = last_only
        self.objective = _distance_name(emd_r)
        self.export_names = {name: GRAPH[name] for name in ("images", "scale", "outputs")}
        self.export_normalization = (GRAPH["input_offset"], GRAPH["input_divisor"])
        self.export_check_sizes = ((2, 96, 131), (1, 139, 83))
        self.metadata = {"score_values": list(self.values), "patch_size": int(patch_size)}
        self._pretrained = pretrained
        self._backbone_name, self._alpha, self._patch_size = backbone, alpha, patch_size
        self._predict = self.compiled("scores")

    def load_pretrained(self):
        """Loads the backbone's weights that --pretrained_weights names, if any."""
        if self._pretrained == "imagenet":
            network.load_imagenet(
                self.predictor, self._backbone_name, self._alpha, self._patch_size
            )
        elif self._pretrained != "none":
            weight_files.restore(self._pretrained, {"predictor": self.backbone}, partly=True)
            network.finish_pretrained(self.predictor, self._backbone_name)
        self._restart_averages(self.averages)
        return self._pretrained != "none"

    def train_step(self, batch, seed):
        """Runs one update on {"image", "scores"} batches; see `Method.train_step`."""
        images, target = batch["image"], batch["scores"]
        # Nothing before the last layer needs a gradient where it alone is trained.
        features = self.backbone(images, training=False) if self.last_only else None
        with tf.GradientTape() as tape:
            if features is None:
                features = self.backbone(images, training=True)
            scores = self.head(_drop(features, self.dropout, seed))
            loss = losses.earth_movers_distance(scores, target, self.emd_r)
        self.update_weights("predictor", loss, tape)
        if not self.last_only:
            self.synchronize_statistics("predictor")
        values = tf.constant(self.values, tf.float32)
        error = tf.reduce_mean(tf.abs(tf.linalg.matvec(scores - target, values)))
        return {"loss": loss, "mean_score_error": error}

    def predict(self, images, scale=None):
        """Returns {"scores": `[batch, bins]`, "features": `[batch, F]`}; see `Method.predict`."""
        del scale  # this method has none
        return self.predictor(images, training=False)

    def receptive_radius(self, scale=None):
        """Returns `None`: every pixel can change every output."""
        return

    def pictures(self, batch):
        """Returns the images of a training batch."""
        return {"image": batch["image"]}

    def evaluate(self, batches, report=None):
        """Returns the figures of `metrics.compare`, and `floor/NAME`, what a constant gets.

        The batches have "image", "scores" and, where known, "mean", "std", "name", "group". Where
        they have an attribute `training_scores`, the mean distribution of the training images, that
        is the constant which the floor predicts; else it is the mean of what is evaluated.
        """
        columns = _collect(batches, self._predict)
        if not columns["name"]:
            return {}
        r_values = sorted({*metrics.REPORTED_R, self.emd_r})
        target = columns["target"]
        known = target, self.values, columns["mean"], columns["std"]
        figures = metrics.compare(columns["predicted"], *known, r_values=r_values)
        constant = getattr(batches, "training_scores", None)
        if constant is not None and len(constant) != target.shape[1]:
            constant = None
        floor = metrics.floor(*known, constant=constant, r_values=r_values)
        if report is not None:
            self._report(report, columns, known, figures, constant is not None)
        # Data with other bins than the predictor's has no such distance.
        figures.setdefault(self.objective, float("nan"))
        return figures | {f"floor/{name}": value for name, value in floor.items()}

    def summarize(self, results):
        """Returns loss and correlations in one line, the loss beside what a constant gets."""
        loss = results[self.objective]
        floor = results.get(f"floor/{self.objective}", float("nan"))
        correlations = " ".join(
            f"{name} {results.get(name, float('nan')):.3f}" for name in ("plcc", "srcc")
        )
        return f"{self.objective} {loss:.4f} (constant histogram: {floor:.4f}) {correlations}"

    def _report(self, report, columns, known, figures, has_training_scores):
        predicted, target = columns["predicted"], columns["target"]
        rated, deviation = metrics.rated_moments(*known)
        means = metrics.mean_scores(predicted, self.values)
        deviations = metrics.score_deviations(predicted, self.values)
        distances = [float("nan")] * len(means)
        if predicted.shape[1] == target.shape[1]:
            distances = metrics.earth_movers_distances(predicted, target, self.emd_r)
        for i, name in enumerate(columns["name"]):
            group = {"group": columns["group"][i]} if columns["group"] else {}
            row = {"name": name} | group
            row |= {
                "rated_mean": float(rated[i]),
                "predicted_mean": float(means[i]),
                "rated_std": float(deviation[i]),
                "predicted_std": float(deviations[i]),
                _distance_name(self.emd_r): float(distances[i]),
            }
            report.add_row(row)
        title = f"PLCC {figures.get('plcc', np.nan):.3f}  SRCC {figures.get('srcc', np.nan):.3f}"
        report.add_picture("scatter", plots.draw_scatter(rated, means, title))
        if predicted.shape[1] == target.shape[1]:
            labels = [f"{value:g}" for value in self.values]
            panels = [
                (columns["name"][i], predicted[i], target[i])
                for i in np.unique(np.linspace(0, len(means) - 1, HISTOGRAM_PICTURES).astype(int))
            ]
            report.add_picture("histograms", plots.draw_histograms(panels, labels))
            panel = [("mean of all images", predicted.mean(axis=0), target.mean(axis=0))]
            report.add_picture("mean_histogram", plots.draw_histograms(panel, labels))
        if columns["group"]:
            rows = metrics.by_group(columns["group"], predicted, *known, self.emd_r)
            report.add_table("groups", rows)
        source = "training images" if has_training_scores else "evaluated images themselves"
        report.add_note("floor", f"one constant distribution: the mean of the {source}")


def _collect(batches, predict):
    """Returns {name: array or list} of what is predicted and known of the images of batches."""
    columns = {"name": [], "group": []}
    numbers = {"predicted": [], "target": [], "mean": [], "std": []}
    for batch in batches:
        predicted = predict(tf.convert_to_tensor(batch["image"], tf.float32))
        start, count = len(columns["name"]), len(predicted)
        names = batch.get("name", [f"image {start + i}" for i in range(count)])
        columns["name"] += [_text(name) for name in names]
        columns["group"] += [_text(group) for group in batch.get("group", ())]
        unknown = np.full(count, np.nan)
        known = batch["scores"], batch.get("mean", unknown), batch.get("std", unknown)
        for column, values in zip(numbers.values(), (predicted, *known), strict=True):
            column.extend(np.asarray(values, np.float64))
    return columns | {name: np.array(column) for name, column in numbers.items()}


def _text(name):
    name = name.numpy() if hasattr(name, "numpy") else name
    return name.decode() if isinstance(name, bytes) else str(name)


def _distance_name(r):
    return f"emd_r{r:g}"


def _drop(features, rate, seed):
    """Returns features of which a share is 0 and the others are larger, so that the mean stays."""
    if not rate:
        return features
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    draws = tf.random.stateless_uniform(
        tf.shape(features), tf.random.fold_in(seed, replica), alg="philox"
    )
    return tf.where(draws >= rate, features / (1 - rate), 0.0)
