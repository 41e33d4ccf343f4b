"""Losses, accuracies and rate of the images of an epoch, summed up batch by batch."""

import tensorflow as tf
from keras import ops

from classifiers.metrics import TOP

# Of all images: their number, sums of both losses, right answers; the same answers, bytes and bits
# per pixel of those that have a bit stream.
_SUMS = (
    *("images", "classification", "distillation", "top1", "top5"),
    *("coded", "coded_top1", "coded_top5", "bytes", "bits_per_pixel"),
)


class EpochFigures:
    """Sums that replicas add to, and the means of them.

    Attributes:
        sums: float64 variable, to be kept in checkpoints.
    """

    def __init__(self):
        self.sums = tf.Variable(
            tf.zeros([len(_SUMS)], tf.float64),
            trainable=False,
            aggregation=tf.VariableAggregation.SUM,
        )

    def add(self, classification, distillation, logits, copies):
        """Adds a batch.

        Args:
            classification: mean of the cross-entropy, a scalar.
            distillation: mean of the other term of the loss, a scalar.
            logits: `[B, K]`, the answers that count.
            copies: {"label": `[B]`, "degraded": `[B, H, W, 3]`} and, where there is a codec,
                "bytes": `[B]`, 0 for images without a bit stream.
        """
        rank = _rank(copies["label"], logits)
        hits = [ops.cast(rank < count, "float64") for count in (1, TOP)]
        sizes = ops.cast(copies.get("bytes", ops.zeros_like(rank)), "float64")
        coded = ops.cast(sizes > 0, "float64")
        pixels = copies["degraded"].shape[1] * copies["degraded"].shape[2]
        count = ops.cast(ops.shape(rank)[0], "float64")
        added = [
            *(count, count * ops.cast(classification, "float64")),
            *(count * ops.cast(distillation, "float64"), ops.sum(hits[0]), ops.sum(hits[1])),
            *(ops.sum(coded), ops.sum(coded * hits[0]), ops.sum(coded * hits[1])),
            *(ops.sum(sizes), 8 * ops.sum(sizes) / pixels),
        ]
        self.sums.assign_add(ops.stack(added))

    def reset(self):
        """Begins anew."""
        self.sums.assign(tf.zeros_like(self.sums))

    def means(self):
        """Returns {name: float}, {} where nothing was added.

        `classification_loss`, `distillation_loss` and their sum, `loss`, per image; `accuracy`: of
        all images, in percent; `top1` and `top5`: of the images that have a bit stream, of all
        where none has; `bytes` and `bits_per_pixel`: means of these, where there are any.
        """
        found = dict(zip(_SUMS, self.sums.numpy().tolist(), strict=True))
        if not found["images"]:
            return {}
        classification, distillation, accuracy = (
            found[name] / found["images"] for name in ("classification", "distillation", "top1")
        )
        means = {
            "classification_loss": classification,
            "distillation_loss": distillation,
            "loss": classification + distillation,
            "accuracy": 100 * accuracy,
        }
        prefix, among = ("coded_", "coded") if found["coded"] else ("", "images")
        for name in ("top1", "top5"):
            means[name] = 100 * found[f"{prefix}{name}"] / found[among]
        if found["coded"]:
            means |= {name: found[name] / found["coded"] for name in ("bytes", "bits_per_pixel")}
        return means


def _rank(labels, logits):
    """Returns how many classes come before the right one, int32 `[B]`: `metrics.rank_of_label`."""
    logits, labels = ops.cast(logits, "float32"), ops.cast(labels, "int32")[:, None]
    classes = ops.arange(logits.shape[1], dtype="int32")
    own = ops.take_along_axis(logits, labels, axis=1)
    ahead = ops.logical_or(logits > own, ops.logical_and(ops.equal(logits, own), classes < labels))
    rank = ops.sum(ops.cast(ahead, "int32"), axis=1)
    finite = ops.all(ops.isfinite(logits), axis=1)
    return ops.where(finite, rank, logits.shape[1])
