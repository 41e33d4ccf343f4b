"""How several classifiers decide together."""

from keras import ops


def rank(votes, logits):
    """Returns values `[B, K]` whose largest is the decision, and which rank the other classes.

    Without a tie it is the class with most votes. With one, the largest summed logit of all
    classes decides, also of a class that is not among the tied ones, as in the code of Daultani &
    Larochelle (WACV-W 2024).

    Args:
        votes: float32 `[B, K]`, the number of classifiers that chose each class.
        logits: float32 `[B, K]`, the sum of their logits.
    """
    most = ops.max(votes, axis=-1, keepdims=True)
    tied = ops.sum(ops.cast(ops.equal(votes, most), "float32"), axis=-1, keepdims=True) > 1
    # Places by the summed logits, as numbers in [0, 1), order what has equally many votes.
    places = ops.argsort(ops.argsort(-logits, axis=-1), axis=-1)
    order = 1 - ops.cast(places + 1, "float32") / logits.shape[-1]
    return ops.where(tied, order, votes + order)
