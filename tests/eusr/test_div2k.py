import builtins
import io

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from degradations import resize
from eusr.dataloaders import div2k
from misc.training.settings import Settings

tfds = pytest.importorskip(
    "tensorflow_datasets", reason="tensorflow-datasets is of the extra datasets"
)

COUNT = 3


def make_flags(**values):
    defaults = {
        "div2k_data_dir": None,
        "batch_size": 4,
        "input_patch_size": 6,
        "data_cached": True,
        "data_cache_path": None,
        "data_service": None,
        "scales": [2, 4],
    }
    return Settings(defaults | values)


def photo(number):
    shape = (40 + 3 * number, 48 - number, 3)
    return np.random.default_rng(number).integers(0, 256, shape, np.uint8)


def encode(pixels):
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def mock_examples(builder, split, decoders=None, read_config=None, **_):
    """Encoded pairs, in another order in every config, as the real ones are."""
    assert isinstance(decoders["hr"], tfds.decode.SkipDecoding)
    scale = int(builder.builder_config.name[-1])
    order = np.random.default_rng(scale).permutation(COUNT)
    first = 10 if split == "validation" else 0
    highs = [photo(first + number) for number in order]
    lows = [resize.matlab_bicubic(high, 1 / scale) for high in highs]
    return tf.data.Dataset.from_tensor_slices(
        {"hr": [encode(high) for high in highs], "lr": [encode(low) for low in lows]}
    )


@pytest.fixture(autouse=True)
def div2k_mock():
    with tfds.testing.mock_data(num_examples=COUNT, as_dataset_fn=mock_examples):
        yield


def take(flags, count, **arguments):
    dataset = div2k.create_data(flags).training_batches(0, **arguments)
    return [(batch["low"].numpy(), batch["high"].numpy()) for batch in dataset.take(count)]


def test_nothing_is_downloaded_before_images_are_asked_for(monkeypatch):
    def download(builder):
        raise OSError(f"{builder.name} is downloaded")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", download)
    data = div2k.create_data(make_flags())
    with pytest.raises(OSError, match="is downloaded"):
        data.evaluation_batches("validation")


def test_training_pairs_images_of_all_scales():
    highs = [photo(number) for number in range(COUNT)]
    for low, high in take(make_flags(), 6):
        scale = high.shape[1] // low.shape[1]
        assert low.shape == (4, 6, 6, 3)
        assert high.shape == (4, 6 * scale, 6 * scale, 3)
        for patch in high:
            assert any(contains(image, patch) for image in highs)


def contains(image, patch):
    """Whether the patch, turned back in one of the eight ways, is a window of the image."""
    for turns in range(4):
        for turned in (np.rot90(patch, turns), np.rot90(patch, turns)[:, ::-1]):
            corner = np.all(image == turned[0, 0], axis=2)
            for top, left in zip(*np.nonzero(corner), strict=True):
                window = image[top : top + len(turned), left : left + len(turned)]
                if np.array_equal(window, turned):
                    return True
    return False


def test_low_is_the_reduced_high():
    # Away from the patch's border, where it knows its surroundings.
    for low, high in take(make_flags(scales=[2], input_patch_size=16), 3):
        for patch, truth in zip(low, high, strict=True):
            reduced = resize.matlab_bicubic(truth.astype(np.uint8), 1 / 2)
            difference = np.abs(reduced[2:-2, 2:-2] - patch[2:-2, 2:-2])
            # In a turned patch the two passes, which round, come in the other order.
            assert difference.max() <= 2
            assert difference.mean() < 0.5


@pytest.mark.slow  # test_paired_images has the same of folders
def test_disk_cache_and_resume_give_the_same_batches(tmp_path):
    flags = make_flags(data_cached=False, data_cache_path=str(tmp_path))
    whole = take(make_flags(), 5)
    for batches in (take(flags, 5)[2:], take(flags, 3, first_step=2)):
        for (low, high), (other_low, other_high) in zip(whole[2:], batches, strict=True):
            np.testing.assert_array_equal(low, other_low)
            np.testing.assert_array_equal(high, other_high)


def test_evaluation():
    elements = list(div2k.create_data(make_flags()).evaluation_batches("validation"))
    assert [element["scale"] for element in elements] == [2] * COUNT + [4] * COUNT
    for element in elements:
        low, high, scale = element["low"], element["high"], element["scale"]
        assert low.dtype == np.float32
        assert high.dtype == np.uint8
        assert high.shape[1:3] == (low.shape[1] * scale, low.shape[2] * scale)
    shown = {element["low"].tobytes() for element in elements}
    assert len(shown) == 2 * COUNT


def test_scale_that_div2k_lacks():
    with pytest.raises(ValueError, match=r"\[2, 3, 4, 8\]. Received: \[2, 16\]"):
        div2k.create_data(make_flags(scales=[2, 16]))


def test_missing_package_names_the_extra(monkeypatch):
    real_import = builtins.__import__

    def refuse(name, *arguments, **options):
        if name == "tensorflow_datasets":
            raise ImportError(name)
        return real_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"degraded-vision\[datasets\]"):
        div2k.create_data(make_flags())
