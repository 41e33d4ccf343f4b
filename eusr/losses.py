"""Losses of EUSR."""

import keras


def reconstruction(output, truth):
    """Returns the mean absolute difference of two image batches, in grey levels (scalar).

    Choi et al., "Deep learning-based image super-resolution considering quantitative and
    perceptual quality", Neurocomputing 2019, loss l_r; EUSR is pre-trained with it alone.
    """
    return keras.ops.mean(keras.ops.abs(output - truth))
