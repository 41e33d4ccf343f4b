"""Folders of LR and HR images -> patches for training, whole images for evaluation.

With HR images alone the LR images are made with MATLAB's bicubic; with no folder at all the
embedded sample photographs are used.
"""

import numpy as np
from absl import flags, logging

from degradations import resize
from eusr import pairs as pairing
from eusr import patches
from misc.images import sample_data


def define_flags():
    """Defines the flags of this dataloader."""
    flags.DEFINE_string(
        "data_input_path", None, "Folder of LR images, with x2/ x4/ x8/; absent: made from HR."
    )
    flags.DEFINE_string(
        "data_truth_path", None, "Folder of HR images; absent: the embedded sample photographs."
    )
    flags.DEFINE_string("data_validation_input_path", None, "As --data_input_path, for validation.")
    flags.DEFINE_string(
        "data_validation_truth_path",
        None,
        "As --data_truth_path, for validation; absent: held-out sample photographs.",
    )
    flags.DEFINE_bool(
        "data_skip_broken",
        False,
        "Report and leave out broken images, images without a partner and images whose size "
        "does not fit, instead of stopping.",
    )
    flags.DEFINE_enum(
        "data_edges",
        "mirror",
        resize.EDGES,
        "What lies beyond the border when LR images are made: mirror (MATLAB) or clamp "
        "(older versions of it).",
    )
    define_patch_flags()


def define_patch_flags():
    """Defines the flags of training with patches, whatever the images come from."""
    flags.DEFINE_integer("batch_size", 16, "Patches per step, over all devices.", lower_bound=1)
    flags.DEFINE_integer(
        "input_patch_size", 48, "Rows and columns of an LR patch, in pixels.", lower_bound=1
    )
    flags.DEFINE_bool(
        "data_cached",
        None,
        "Keep the decoded images in memory (true), or as raw files on disk that are mapped into "
        "memory (false). Default: memory if they need less than half of what is available.",
    )
    flags.DEFINE_string(
        "data_cache_path",
        None,
        "Folder of the raw files; default: degraded-vision/images in the user's cache folder.",
    )
    flags.DEFINE_string(
        "data_service",
        None,
        "Dispatcher of a tf.data service that cuts the patches, such as grpc://host:5050. Its "
        "workers must see --data_cache_path under the same path. The batches are the same; their "
        "order is that of arrival, so a resumed run is not exactly the uninterrupted one.",
    )


def create_batches(flags, split, seed, first_step=0, shard=(0, 1)):
    """Returns the batches of a split.

    `'train'`: an endless tf.data.Dataset. One element is one step: `low`, float32
    `[b, p, p, 3]`, and `high`, float32 `[b, sp, sp, 3]`, both 0-255, at one scale s drawn per
    step. Step n depends on the seed and on n alone, and the shards' rows put together are the
    batch of a single process.

    `'validation'` and `'test'`: one pass over whole images, see `EvaluationImages`. `'test'`
    reads --data_input_path and --data_truth_path (or, if neither is given, the validation ones).

    Args:
        flags: values of this module's flags, and `scales`.
        split: `'train'`, `'validation'` or `'test'`.
        seed: integer seed of all draws.
        first_step: step of the first batch of `'train'`.
        shard: `(index, count)` of this process among those that share a training batch.

    Raises:
        ValueError: for broken, unpaired or misfit images (named), an unknown split, or images
            that are all too small.
    """
    if split in ("validation", "test"):
        return EvaluationImages(_evaluation_pairs(flags, split), flags)
    if split != "train":
        raise ValueError(f"split must be train, validation or test. Received: {split!r}")
    found = _pairs(flags, "train", flags.data_input_path, flags.data_truth_path)
    if found[0].high is None:
        raise ValueError("Training needs HR images: give --data_truth_path")
    store = pairing.build_store(
        found,
        flags.scales,
        flags.data_edges,
        False if flags.data_service else flags.data_cached,
        flags.data_cache_path,
        flags.data_skip_broken,
    )
    return patch_batches(store, flags, seed, first_step, shard)


def patch_batches(store, flags, seed, first_step, shard):
    """Returns the training batches of a store with the groups [HR, LR at each of the scales]."""
    sampler = patches.PatchSampler(
        store, flags.scales, flags.input_patch_size, flags.batch_size, seed, shard
    )
    if not flags.data_service:
        return sampler.local_batches(first_step)
    if shard[1] > 1:
        # Processes that train together must see the same scale at the same step.
        raise ValueError(
            "--data_service serves one training process, because its order is not fixed. "
            f"Received: {shard[1]} processes"
        )
    return sampler.service_batches(flags.data_service, first_step)


class EvaluationImages:
    """Whole images, one at a time: by scale, then by name; may be iterated again.

    Elements are dicts: `low`, float32 `[1, h, w, 3]` in 0-255; `high`, uint8 `[1, sh, sw, 3]`,
    absent if there is no HR image; `name`; `scale`. An image that is smaller than `scale` is left
    out.
    """

    def __init__(self, found, flags):
        self._flags = flags
        self._items = [
            (scale, pair)
            for scale in flags.scales
            for pair in found
            if min(pair.low_sizes.get(scale, (0, 0))) > 0
        ]
        if not self._items:
            raise ValueError(f"There is no image to evaluate at the scales {flags.scales}")

    def __len__(self):
        return len(self._items)

    def __iter__(self):
        for scale, pair in self._items:
            try:
                yield self._read(scale, pair)
            except ValueError as error:
                if not self._flags.data_skip_broken:
                    raise
                logging.warning("Skipped: %s", error)

    def _read(self, scale, pair):
        high = None if pair.high is None else pair.read_high()
        low = pair.read_low(scale, self._flags.data_edges, high)
        element = {"low": low[None].astype(np.float32), "name": pair.name, "scale": scale}
        if high is not None:
            rows, columns = low.shape[:2]
            element["high"] = high[None, : rows * scale, : columns * scale]
        return element


def _evaluation_pairs(flags, split):
    validation = flags.data_validation_input_path, flags.data_validation_truth_path
    paths = flags.data_input_path, flags.data_truth_path
    if split == "validation" or not any(paths):
        paths = validation
    return _pairs(flags, "validation", *paths)


def _pairs(flags, sample_split, input_path, truth_path):
    if input_path or truth_path:
        found, _ = pairing.find_pairs(
            input_path or None, truth_path or None, flags.scales, flags.data_skip_broken
        )
        return found
    logging.info("No folder of images was given: using the sample photographs (%s)", sample_split)
    return pairing.pairs_from_arrays(sample_data.sample_photos(sample_split), flags.scales)
