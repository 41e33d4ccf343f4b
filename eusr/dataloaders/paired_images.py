"""Folders of LR and HR images -> patches for training, whole images for evaluation.

With HR images alone the LR images are made with MATLAB's bicubic; at scale 1 they are the HR
images, which --degradations damage. With no folder at all the embedded sample photographs are used.
Without folders for validation, some pairs are held out.
"""

import collections.abc
import dataclasses
import functools
import re
import socket

import numpy as np
from absl import flags, logging

from degradations import resize
from degradations.base import Degradation
from eusr import damage, patches
from eusr import pairs as pairing
from misc.images import sample_data, threads
from misc.training import common_flags, data, memory, seeds, settings
from misc.training.data import Data, check_split

FOLDERS = (
    "data_input_path",
    "data_truth_path",
    "data_validation_input_path",
    "data_validation_truth_path",
)
SPLITS = {"train": "training", "validation": "evaluation"}
# Messages name that many pairs.
SHOWN_NAMES = 10
SERVICE_SECONDS = 10


def define_flags():
    """Defines the flags of this dataloader."""
    flags.DEFINE_string(
        "data_input_path",
        None,
        "Folder of LR images, with x2/ x4/ x8/, and x1/ where damaged images of the same size are "
        "stored; absent: made from HR.",
    )
    flags.DEFINE_string(
        "data_truth_path", None, "Folder of HR images; absent: the embedded sample photographs."
    )
    flags.DEFINE_string("data_validation_input_path", None, "As --data_input_path, for validation.")
    flags.DEFINE_string(
        "data_validation_truth_path",
        None,
        "As --data_truth_path, for validation; absent: pairs that are held out.",
    )
    flags.DEFINE_integer(
        "data_validation_count",
        None,
        "Pairs that are held out for validation, and not trained on, without "
        "--data_validation_truth_path and --data_validation_input_path; default: 0801 to 0900 "
        "where these are among the images of DIV2K, else a tenth of the pairs, at most 10; 0: "
        "none, the sample photographs validate.",
        lower_bound=0,
    )
    # Older runs trained on all pairs.
    settings.introduced("data_validation_count", before=0)
    common_flags.define_skip_broken_flag()
    flags.DEFINE_enum(
        "data_edges",
        "mirror",
        resize.EDGES,
        "What lies beyond the border when LR images are made: mirror (MATLAB) or clamp "
        "(older versions of it).",
    )
    define_patch_flags()
    settings.local(*FOLDERS, "data_validation_count")


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

    Raises:
        ValueError: for folders that are missing, empty, or do not fit each other; see
            `pairs.find_pairs`.
    """
    scales, edges, skip_broken = flags.scales, flags.data_edges, flags.data_skip_broken
    paths = flags.data_input_path or None, flags.data_truth_path or None
    validation = flags.data_validation_input_path or None, flags.data_validation_truth_path or None
    cached = False if flags.data_service else flags.data_cached
    cache_path = flags.data_cache_path
    find = functools.cache(lambda *chosen: pairing.find_pairs(*chosen, scales, skip_broken)[0])
    # Before anything is downloaded or built.
    for flag in FOLDERS:
        if flags.get(flag):
            data.check_folder(flags.get(flag), flag)
    found = {chosen: find(*chosen) for chosen in (paths, validation) if any(chosen)}
    count = flags.data_validation_count
    if any(validation) or not any(paths):
        if count:
            raise ValueError(
                f"--data_validation_count={count} is for pairs of --data_truth_path, where no "
                "--data_validation_truth_path or --data_validation_input_path gives others."
            )
        count = 0
    elif count is None:
        count = pairing.default_held_out([pair.name for pair in found[paths]])
    parts = functools.cache(lambda: split_pairs(found.get(paths, []), count))

    def build_store():
        pairs = parts()[0] if any(paths) else sample_pairs("train", scales)
        return pairing.build_store(pairs, scales, edges, cached, cache_path, skip_broken)

    def evaluate(split):
        if split == "test" and any(paths):
            pairs = found[paths]
        elif any(validation):
            pairs = found[validation]
        else:
            pairs = parts()[1] if count else sample_pairs("validation", scales)
        return EvaluationImages(pairs, scales, edges, skip_broken)

    kept = {"data_validation_count": count}
    return create_patch_data(flags, build_store, evaluate, kept)


def create_patch_data(flags, build_store, evaluate, settings=None):
    """Returns the `PatchData` with the flags that `define_patch_flags` defines; see `Data`.

    Patches beyond the memory are a ValueError.
    """
    scale, patch = max(flags.scales), flags.input_patch_size
    memory.check_batch(
        flags.batch_size * 3 * patch**2 * (1 + scale**2),
        f"--batch_size={flags.batch_size} and --input_patch_size={patch} at x{scale}",
    )
    on_host = flags.get("degrade_on") == "host"
    if flags.data_service:
        check_service(flags.data_service)
        if on_host:
            raise ValueError("--data_service leaves damage to the step: --degrade_on=device.")
    return PatchData(
        settings=settings or {},
        images_per_step=flags.batch_size,
        build_store=build_store,
        evaluate=evaluate,
        scales=flags.scales,
        patch_size=flags.input_patch_size,
        service=flags.data_service,
        is_damaged=bool(flags.get("degradations")),
        damage=damage.create(flags) if on_host else None,
    )


def check_service(address):
    """Raises ValueError unless something listens where --data_service says.

    TensorFlow would wait for it without end, and without a word.
    """
    found = re.fullmatch(r"grpc://(.+):(\d+)", address)
    if not found:
        raise ValueError(f"--data_service must be such as grpc://host:5050. Received: {address}")
    try:
        socket.create_connection((found[1].strip("[]"), int(found[2])), SERVICE_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"--data_service={address} does not answer: {error}. "
            "python -m misc.data_service --dispatcher starts one."
        ) from error


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
        is_damaged: whether LR patches are damaged, here or in the step.
        damage: degradation of LR patches that is applied here, or None.
    """

    build_store: collections.abc.Callable
    evaluate: collections.abc.Callable
    scales: list
    patch_size: int
    service: str | None = None
    is_damaged: bool = False
    damage: Degradation | None = None

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
        if sampler.repairs_nothing and not self.is_damaged:
            raise ValueError(
                "--scales with 1 trains repair: give --degradations such as jpeg:10-90, or damaged "
                "images in the folder x1 of --data_input_path."
            )
        if self.service:
            return sampler.service_batches(self.service, first_step)
        batches = sampler.local_batches(first_step)
        if self.damage is None:
            return batches

        def apply(step, batch):
            # The training loop counts from 1.
            draws = seeds.of_step(seed, step + 1, host=shard[0])
            return batch | {"low": self.damage(batch["low"], seed=draws)}

        batches = batches.enumerate(first_step)
        return batches.map(apply, num_parallel_calls=4, deterministic=True).prefetch(2)

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


def split_pairs(pairs, count):
    """Returns (pairs to train on, `count` pairs to validate on); says which are held out.

    Raises:
        ValueError: when none remains to train on, or they have no HR images.
    """
    if pairs[0].high is None:
        raise ValueError("Training needs HR images: give --data_truth_path")
    if count >= len(pairs):
        raise ValueError(
            f"--data_validation_count={count} leaves none of the {len(pairs)} pairs to train on."
        )
    training, held_out = pairing.hold_out(pairs, count)
    if held_out:
        names = ", ".join(pair.name for pair in held_out[:SHOWN_NAMES])
        names += f", ... {held_out[-1].name}" if len(held_out) > SHOWN_NAMES else ""
        logging.info(
            "Held out for validation, and not trained on: %d of the %d pairs (%s). "
            "--data_validation_truth_path gives others, --data_validation_count=0 trains on all.",
            len(held_out),
            len(pairs),
            names,
        )
    return training, held_out


def sample_pairs(split, scales):
    """Returns the pairs of the sample photographs of `'train'` or `'validation'`; says so."""
    photos = sample_data.sample_photos(split)
    names = ", ".join(name for name, _ in photos)
    logging.info("Sample photographs for %s: %s", SPLITS[split], names)
    return pairing.pairs_from_arrays(photos, scales)
