"""How far confidence is from accuracy: the expected calibration error."""

import numpy as np

BINS = 15


def expected_calibration_error(confidence, right, bins=BINS):
    """Returns the expected calibration error in percent, NaN without images.

    Confidences fall into bins of equal width, (0, 1/15], (1/15, 2/15], ...; the error is the mean
    distance between accuracy and mean confidence of a bin, weighted by the images in it: Guo,
    Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, equation 3,
    with the 15 bins of its section 5.

    Args:
        confidence: probabilities of the answers, `[N]` in 0-1; NaN where a model gave none, which
            counts as 0.
        right: whether the answers are right, bool `[N]`.
        bins: number of bins.
    """
    confidence = np.nan_to_num(np.asarray(confidence, np.float64))
    right = np.asarray(right, np.float64)
    if not len(confidence):
        return float("nan")
    places = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    # The images of a bin cancel out: |sum(right) - sum(confidence)| over all images.
    gaps = np.bincount(places, right - confidence, minlength=bins)
    return 100 * float(np.abs(gaps).sum() / len(confidence))
