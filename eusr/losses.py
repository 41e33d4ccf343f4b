"""Losses of EUSR and 4PP-EUSR, all scalars.

Choi, Kim, Cheon and Lee, "Deep learning-based image super-resolution considering quantitative and
perceptual quality", Neurocomputing 2019 (arXiv 1809.04789); constants of the authors' public code.
"""

import keras
import numpy as np

# An output whose distance from the best score is this part of the truth's costs nothing.
SCORE_MARGIN = 0.8


def reconstruction(output, truth):
    """Returns loss l_r, the mean absolute difference of two image batches in grey levels.

    EUSR is pre-trained with it alone.
    """
    return keras.ops.mean(keras.ops.abs(output - truth))


def adversarial(output_logits):
    """Returns loss l_g: how little a discriminator takes upscaled images for photographs.

    It is the mean sigmoid cross-entropy, in nats, of their logits, of any shape, against 1.
    """
    return keras.ops.mean(keras.ops.softplus(-output_logits))


def discrimination(output_logits, truth_logits):
    """Returns the discriminator's own loss, of logits of any shape.

    It is the sum of the mean sigmoid cross-entropies, in nats, of upscaled images against 0 and of
    photographs against 1.
    """
    fake = keras.ops.mean(keras.ops.softplus(output_logits))
    return fake + keras.ops.mean(keras.ops.softplus(-truth_logits))


def distance_from_best(scores):
    """Returns how far the means of score distributions `[batch, K]` are below the best, `[batch]`.

    The bins count as 1..K, also those of predictors whose own axis is another (TID2013: 0..9), as
    the authors do.
    """
    count = scores.shape[-1]
    bins = keras.ops.convert_to_tensor(np.arange(1, count + 1), scores.dtype)
    return count - keras.ops.sum(scores * bins, -1)


def score(output_scores, truth_scores):
    """Returns by how much outputs are rated worse than their truths: losses l_as and l_ss.

    It is the mean of max(0, q(output) - 0.8 q(truth)), q being `distance_from_best`, of predicted
    distributions `[batch, K]`.
    """
    difference = distance_from_best(output_scores) - SCORE_MARGIN * distance_from_best(truth_scores)
    return keras.ops.mean(keras.ops.relu(difference))


def representation(output_features, truth_features):
    """Returns losses l_ar and l_sr: the mean squared difference of features `[batch, F]`."""
    return keras.ops.mean(keras.ops.square(output_features - truth_features))
