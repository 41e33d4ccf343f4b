"""Losses of classifiers and of FusionDistill, each the mean over a batch, computed in float32."""

import keras
from keras import ops


def cross_entropy(labels, logits):
    """Returns the mean cross-entropy, in nats, of integer labels `[B]` and logits `[B, K]`."""
    losses = keras.losses.sparse_categorical_crossentropy(
        labels, ops.cast(logits, "float32"), from_logits=True
    )
    return ops.mean(losses)


def kl_divergence(target, logits):
    """Returns the mean over a batch of KL(softmax target || softmax logits), in nats, at least 0.

    Both are `[B, K]`, and gradients reach both.
    """
    target, logits = (ops.log_softmax(ops.cast(x, "float32")) for x in (target, logits))
    return ops.mean(ops.sum(ops.exp(target) * (target - logits), axis=-1))


def cosine_embedding(student, teacher):
    """Returns the mean of 1 - cosine of the angle between features `[B, ...]`, from 0 to 2.

    Daultani & Larochelle (WACV-W 2024), as PyTorch's CosineEmbeddingLoss with target 1.
    """
    student, teacher = (
        ops.reshape(ops.cast(x, "float32"), [ops.shape(x)[0], -1]) for x in (student, teacher)
    )

    def squared(x):
        # PyTorch's constant, which keeps the root away from 0.
        return ops.sum(x * x, axis=1) + 1e-12

    product = ops.sum(student * teacher, axis=1)
    return ops.mean(1.0 - product / ops.sqrt(squared(student) * squared(teacher)))
