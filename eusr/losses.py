"""Losses of EUSR and 4PP-EUSR, all scalars.

Choi, Kim, Cheon and Lee, "Deep learning-based image super-resolution considering quantitative and
perceptual quality", Neurocomputing 2019 (arXiv 1809.04789); constants of the authors' public code.
"""

import keras
import numpy as np

# An output whose distance from the best score is this part of the truth's costs nothing.
SCORE_MARGIN = 0.8


def reconstruction(output, truth):
    """Returns the mean absolute difference of two image batches, in grey levels (scalar).

    Choi et al., "Deep learning-based image super-resolution considering quantitative and
    perceptual quality", Neurocomputing 2019, loss l_r; EUSR is pre-trained with it alone.
    """
    return keras.ops.mean(keras.ops.abs(output - truth))


def adversarial(output_logits):
    """Returns how little a discriminator takes upscaled images for photographs: loss l_g.

    Args:
        output_logits: its logits of upscaled images, of any shape.

    Returns:
        Mean sigmoid cross-entropy against 1, in nats.
    """
    return keras.ops.mean(keras.ops.softplus(-output_logits))


def discrimination(output_logits, truth_logits):
    """Returns the discriminator's own loss.

    Args:
        output_logits: its logits of upscaled images, of any shape.
        truth_logits: its logits of photographs, of any shape.

    Returns:
        Sum of the mean sigmoid cross-entropies against 0 and against 1, in nats.
    """
    fake = keras.ops.mean(keras.ops.softplus(output_logits))
    return fake + keras.ops.mean(keras.ops.softplus(-truth_logits))


def distance_from_best(scores):
    """Returns how far mean scores are below the best one, `[batch]`; 0 is best.

    Args:
        scores: distributions over K bins `[batch, K]`; the bins count as 1..K, also those of
            predictors whose own axis is another (TID2013: 0..9), as the authors do.
    """
    count = scores.shape[-1]
    bins = keras.ops.convert_to_tensor(np.arange(1, count + 1), scores.dtype)
    return count - keras.ops.sum(scores * bins, -1)


def score(output_scores, truth_scores):
    """Returns by how much outputs are rated worse than their truths: losses l_as and l_ss.

    Args:
        output_scores: predicted distributions of the outputs, `[batch, K]`.
        truth_scores: those of the truths, `[batch, K]`.

    Returns:
        Mean of max(0, q(output) - 0.8 q(truth)), q being `distance_from_best`.
    """
    difference = distance_from_best(output_scores) - SCORE_MARGIN * distance_from_best(truth_scores)
    return keras.ops.mean(keras.ops.relu(difference))


def representation(output_features, truth_features):
    """Returns the mean squared difference of a predictor's features: losses l_ar and l_sr.

    Args:
        output_features: features of the outputs, `[batch, F]`.
        truth_features: features of the truths, `[batch, F]`.
    """
    return keras.ops.mean(keras.ops.square(output_features - truth_features))
