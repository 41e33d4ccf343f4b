"""DIV2K from tensorflow-datasets -> patches for training, whole images for evaluation.

Agustsson and Timofte, "NTIRE 2017 Challenge on Single Image Super-Resolution: Dataset and Study",
CVPRW 2017; LR images: configs bicubic_x2, bicubic_x4, bicubic_x8 (the last one from NTIRE 2018).
The first use downloads the archives (about 3.5 GB of HR images per config), unless they have been
prepared before. Batches are those of `paired_images`.
"""

import functools
import hashlib
import io

import numpy as np
import PIL.Image
from absl import flags

from eusr import pairs as pairing
from eusr.dataloaders import paired_images
from misc.images import threads
from misc.training import settings


def define_flags():
    """Defines the flags of this dataloader."""
    flags.DEFINE_string(
        "div2k_data_dir",
        None,
        "Folder of tensorflow-datasets; default: TFDS_DATA_DIR, or ~/tensorflow_datasets.",
    )
    paired_images.define_patch_flags()
    settings.local("div2k_data_dir")


def create_data(flags):
    """Returns the `PatchData` of `paired_images`.

    `'validation'` and `'test'` are both DIV2K's validation images: there are no others with truth.

    Raises:
        ImportError: if tensorflow-datasets is not installed.
        ValueError: for a scale that DIV2K has no images of.
    """
    scales = [scale for scale in flags.scales if scale != 1]
    # The HR images, which are those of scale 1, are in every config.
    builders = _builders(scales or [2], flags.div2k_data_dir)
    prepared = functools.cache(lambda: _prepare(builders))
    cached = False if flags.data_service else flags.data_cached
    cache_path = flags.data_cache_path
    return paired_images.create_patch_data(
        flags,
        lambda: _build_store(prepared(), scales, cached, cache_path),
        lambda split: _EvaluationImages(prepared(), flags.scales),
    )


def _builders(scales, folder):
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            "--dataloader=div2k needs tensorflow-datasets: pip install 'degraded-vision[datasets]'"
        ) from error
    available = {
        int(name.removeprefix("bicubic_x"))
        for name in tfds.builder_cls("div2k").builder_configs
        if name.startswith("bicubic_x")
    }
    if not available.issuperset(scales):
        raise ValueError(
            f"DIV2K has LR images at the scales {sorted(available)}. Received: {scales}"
        )
    return {scale: tfds.builder(f"div2k/bicubic_x{scale}", data_dir=folder) for scale in scales}


def _prepare(builders):
    """Downloads what is not there yet; returns the builders."""
    for builder in builders.values():
        builder.download_and_prepare()
    return builders


def _examples(builder, split):
    """Yields the examples in a fixed order; `lr` and `hr` are the bytes of their files."""
    import tensorflow_datasets as tfds

    dataset = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders={"lr": tfds.decode.SkipDecoding(), "hr": tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
    )
    return dataset.prefetch(2).as_numpy_iterator()


def _build_store(builders, stored_scales, cached, cache_path):
    """Decodes the training images; the same HR image is in every config, in another order."""
    scales = list(builders)
    numbers = {}
    sizes = [_look(builders[scale], scale, numbers) for scale in scales]
    for scale, found in zip(scales, sizes, strict=True):
        missing = set(numbers.values()).difference(found)
        if missing:
            raise ValueError(
                f"{builders[scale].info.full_name} lacks {len(missing)} images of other scales"
            )

    def fill(write):
        for position, scale in enumerate(scales, start=1):

            def decode(example, position=position, scale=scale):
                number = numbers[_digest(example["hr"])]
                rows, columns = sizes[position - 1][number][1]
                if scale in stored_scales:
                    write(number, position, _decode(example["lr"])[:rows, :columns])
                if position == 1:
                    write(number, 0, _decode(example["hr"]))

            threads.for_each(
                decode,
                _examples(builders[scale], "train"),
                f"Decoding DIV2K x{scale}",
                total=len(numbers),
            )

    shapes = [size for found in sizes for _, size in found.values()]
    shapes += [high_size for high_size, _ in sizes[0].values()]
    names = [builders[scale].info.full_name for scale in stored_scales]
    key = ["div2k", names, list(numbers)]
    return pairing.choose_store(
        fill,
        key,
        sum(3 * rows * columns for rows, columns in shapes),
        cached,
        cache_path,
    )


def _look(builder, scale, numbers):
    """Returns `{number: (HR size, LR size)}` of a config; numbers its HR images by their bytes."""
    found = {}
    for example in _examples(builder, "train"):
        number = numbers.setdefault(_digest(example["hr"]), len(numbers))
        high_size = _size(example["hr"])
        name = f"{builder.info.full_name}, LR image {len(found)},"
        found[number] = high_size, pairing.low_size(high_size, scale, _size(example["lr"]), name)
    return found


class _EvaluationImages:
    """DIV2K's validation images as `paired_images.EvaluationImages` gives them.

    tensorflow-datasets does not keep the files' names: they are numbered in its order.
    """

    def __init__(self, builders, scales):
        self._builders = builders
        self._scales = scales

    def __iter__(self):
        any_builder = next(iter(self._builders.values()))
        for scale in self._scales:
            builder = self._builders.get(scale, any_builder)
            for number, example in enumerate(_examples(builder, "validation")):
                high = _decode(example["hr"])
                low = high if scale == 1 else _decode(example["lr"])
                name = f"{number:04d}"
                rows, columns = pairing.low_size(high.shape[:2], scale, low.shape[:2], name)
                yield paired_images.make_element(name, scale, low[:rows, :columns], high)


def _digest(encoded):
    return hashlib.sha256(encoded).hexdigest()


def _size(encoded):
    width, height = PIL.Image.open(io.BytesIO(encoded)).size
    return height, width


def _decode(encoded):
    return np.asarray(PIL.Image.open(io.BytesIO(encoded)).convert("RGB"))
