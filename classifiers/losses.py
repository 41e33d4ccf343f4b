"""Losses of classifiers and of distillation, each the mean over a batch, computed in float32."""

import keras
from keras import ops


def cross_entropy(labels, logits):
    """Returns the mean cross-entropy, in nats.

    Args:
        labels: integers `[B]`.
        logits: `[B, K]`.
    """
    losses = keras.losses.sparse_categorical_crossentropy(
        labels, ops.cast(logits, "float32"), from_logits=True
    )
    return ops.mean(losses)


def cosine_embedding(student, teacher):
    """Returns the mean of 1 - cosine of the angle between features, from 0 to 2.

    Daultani & Larochelle (WACV-W 2024), as PyTorch's CosineEmbeddingLoss with target 1.

    Args:
        student: features `[B, ...]`, flattened here.
        teacher: features of the same shape.
    """
    student, teacher = (
        ops.reshape(ops.cast(x, "float32"), [ops.shape(x)[0], -1]) for x in (student, teacher)
    )

    def squared(x):
        # PyTorch's constant, which keeps the root away from 0.
        return ops.sum(x * x, axis=1) + 1e-12

    product = ops.sum(student * teacher, axis=1)
    return ops.mean(1.0 - product / ops.sqrt(squared(student) * squared(teacher)))


def distillation(student_logits, teacher_logits, temperature=1.0):
    """Returns the mean Kullback-Leibler divergence of the student from the teacher, in nats.

    Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015: both are softened
    by the temperature T, and the result is multiplied by T^2, which keeps its gradients' size.

    Args:
        student_logits: `[B, K]`.
        teacher_logits: `[B, K]`.
        temperature: T, above 0.
    """
    student, teacher = (
        ops.log_softmax(ops.cast(logits, "float32") / temperature)
        for logits in (student_logits, teacher_logits)
    )
    divergence = ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)
    return temperature**2 * ops.mean(divergence)
