import numpy as np
import pytest

from misc.images import sample_data


def test_photos_are_rgb_and_the_split_keeps_them_apart():
    train = dict(sample_data.sample_photos("train"))
    held_out = dict(sample_data.sample_photos("validation"))
    assert len(train) == 5
    assert set(held_out) == {"chelsea", "coffee"}
    assert not set(train) & set(held_out)
    assert {"motorcycle_left", "motorcycle_right"} <= set(train)
    for photo in [*train.values(), *held_out.values()]:
        assert photo.dtype == np.uint8
        assert photo.shape[2] == 3
        assert 300 <= min(photo.shape[:2]) <= 1000
    # 48-pixel patches at x8.
    assert all(min(photo.shape[:2]) >= 384 for photo in train.values())


def test_unknown_split():
    with pytest.raises(ValueError, match="half"):
        sample_data.sample_photos("half")


def test_digits_are_enlarged_and_split_by_writers():
    images, labels = sample_data.sample_digits("train")
    test, test_labels = sample_data.sample_digits("test")
    assert (len(images), len(test)) == (1437, 360)
    assert images.dtype == np.uint8
    assert images.shape[1:] == (32, 32, 3)
    assert (images[..., 0] == images[..., 2]).all()
    assert set(labels) == set(test_labels) == set(range(10))
    with pytest.raises(ValueError, match="train or test"):
        sample_data.sample_digits("validation")
