"""Folders of LR and HR images -> patches for training, whole images for evaluation.

With HR images alone the LR images are made with MATLAB's bicubic; with no folder at all the
embedded sample photographs are used.
"""

import collections.abc
import dataclasses

import numpy as np
from absl import flags, logging

from degradations import resize
from eusr import pairs as pairing
from eusr import patches
from misc.images import sample_data, threads
from misc.training import common_flags, settings
from misc.training.data import Data, check_split


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
    common_flags.define_skip_broken_flag()
    flags.DEFINE_enum(
        "data_edges",
        "mirror",
        resize.EDGES,
        "What lies beyond the border when LR images are made: mirror (MATLAB) or clamp "
        "(older versions of it).",
    )
    define_patch_flags()
    settings.local("data_input_path", "data_truth_path")
    settings.local("data_validation_input_path", "data_validation_truth_path")


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
    settings.local("data_cached", "data_cache_path", "data_service", changeable=True)


def create_data(flags):
    """Returns the `PatchData` of folders of images.

    `'test'` reads --data_input_path and --data_truth_path, or, if neither is given, the validation
    images.
    """
    scales, edges, skip_broken = flags.scales, flags.data_edges, flags.data_skip_broken
    paths = flags.data_input_path, flags.data_truth_path
    validation_paths = flags.data_validation_input_path, flags.data_validation_truth_path
    cached = False if flags.data_service else flags.data_cached
    cache_path = flags.data_cache_path

    def build_store():
        found = find_pairs("train", *paths, scales, skip_broken)
        if found[0].high is None:
            raise ValueError("Training needs HR images: give --data_truth_path")
        return pairing.build_store(found, scales, edges, cached, cache_path, skip_broken)

    def evaluate(split):
        chosen = paths if split == "test" and any(paths) else validation_paths
        found = find_pairs("validation", *chosen, scales, skip_broken)
        return EvaluationImages(found, scales, edges, skip_broken)

    return create_patch_data(flags, build_store, evaluate)


def create_patch_data(flags, build_store, evaluate):
    """Returns the `PatchData` with the flags that `define_patch_flags` defines."""
    return PatchData(
        images_per_step=flags.batch_size,
        build_store=build_store,
        evaluate=evaluate,
        scales=flags.scales,
        patch_size=flags.input_patch_size,
        service=flags.data_service,
    )


@dataclasses.dataclass(kw_only=True, eq=False)
class PatchData(Data):
    """Patches to train and whole images to evaluate on; see `Data`.

    A training batch is `low`, float32 `[b, p, p, 3]`, and `high`, float32 `[b, sp, sp, 3]`, both
    0-255, at one scale s that is drawn per step. Evaluation batches are `EvaluationImages`.

    Attributes:
        build_store: function that returns the `PixelStore` of `patches.PatchSampler`.
        evaluate: function of a split that returns `EvaluationImages`.
        scales: scale factors.
        patch_size: rows and columns of an LR patch.
        service: dispatcher of a tf.data service, or None.
    """

    build_store: collections.abc.Callable
    evaluate: collections.abc.Callable
    scales: list
    patch_size: int
    service: str | None = None

    def training_batches(self, seed, first_step=0, shard=(0, 1)):
        """Returns the endless batches; see `Data` and this class."""
        if self.service and shard[1] > 1:
            # Processes that train together must see the same scale at the same step.
            raise ValueError(
                "--data_service serves one training process, because its order is not fixed. "
                f"Received: {shard[1]} processes"
            )
        sampler = patches.PatchSampler(
            self.build_store(), self.scales, self.patch_size, self.images_per_step, seed, shard
        )
        if self.service:
            return sampler.service_batches(self.service, first_step)
        return sampler.local_batches(first_step)

    def evaluation_batches(self, split):
        """Returns one pass over whole images; see `Data` and this class."""
        check_split(split)
        return self.evaluate(split)


class EvaluationImages:
    """Whole images, one at a time: by scale, then by name; may be iterated again.

    Elements are dicts: `low`, float32 `[1, h, w, 3]` in 0-255; `high`, uint8 `[1, sh, sw, 3]`,
    absent if there is no HR image; `name`; `scale`. An image that is smaller than `scale` is left
    out.
    """

    def __init__(self, found, scales, edges, skip_broken):
        self._edges = edges
        self._skip_broken = skip_broken
        self._items = [
            (scale, pair)
            for scale in scales
            for pair in found
            if min(pair.low_sizes.get(scale, (0, 0))) > 0
        ]
        if not self._items:
            raise ValueError(f"There is no image to evaluate at the scales {scales}")

    def __iter__(self):
        for _, element, error in threads.ahead(self._read, self._items, 2):
            if error is None:
                yield element
            elif self._skip_broken:
                logging.warning("Skipped: %s", error)
            else:
                raise error

    def _read(self, item):
        scale, pair = item
        high = None if pair.high is None else pair.read_high()
        return make_element(pair.name, scale, pair.read_low(scale, self._edges, high), high)


def make_element(name, scale, low, high=None):
    """Returns what `EvaluationImages` yields of uint8 images `[h, w, 3]` and `[H, W, 3]`."""
    element = {"low": low[None].astype(np.float32), "name": name, "scale": scale}
    if high is not None:
        rows, columns = low.shape[:2]
        element["high"] = high[None, : rows * scale, : columns * scale]
    return element


def find_pairs(sample_split, input_path, truth_path, scales, skip_broken):
    """Returns the pairs in folders, or, without any, of the sample photographs of a split."""
    if input_path or truth_path:
        return pairing.find_pairs(input_path or None, truth_path or None, scales, skip_broken)[0]
    logging.info("No folder of images was given: using the sample photographs (%s)", sample_split)
    return pairing.pairs_from_arrays(sample_data.sample_photos(sample_split), scales)
