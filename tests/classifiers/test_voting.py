import numpy as np
import pytest

from classifiers import voting


@pytest.mark.parametrize(
    ("votes", "logits", "order"),
    [
        ([2, 1, 0], [0, 9, 8], [0, 1, 2]),  # the majority, whatever the sums
        ([1, 1, 0], [3, 4, 0], [1, 0, 2]),  # a tie: the largest sum
        ([1, 1, 0], [3, 3, 5], [2, 0, 1]),  # a tie: the largest sum of all classes
        ([9, 8, 0], [-900, 900, 0], [0, 1, 2]),  # sums so far apart that shares of them are 0
        ([3, 0, 0], [0, 0, 0], [0, 1, 2]),  # of equal ones the first
    ],
)
def test_all_places_are_decided(votes, logits, order):
    values = np.asarray(voting.rank(np.float32([votes]), np.float32([logits])))[0]
    assert np.argsort(-values, kind="stable").tolist() == order
    assert len(np.unique(values)) == 3
