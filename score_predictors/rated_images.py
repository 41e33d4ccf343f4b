"""Lists of rated pictures -> batches of patches with the distributions of their scores."""

import collections
import concurrent.futures
import dataclasses
import functools
import os
import pathlib
import threading

import numpy as np
import tensorflow as tf
from absl import flags, logging

from misc.images import image_files, threads
from score_predictors import windows

# Messages name that many files; what is left is counted.
SPLITS = ("train", "validation", "test")
SHOWN_NAMES = 10
_WORD = 2**64


@dataclasses.dataclass(frozen=True)
class RatedImages:
    """Pictures and what people said about them; all of one length.

    Attributes:
        paths: image files.
        scores: float32 `[N, K]`, shares of the bins.
        means: float32 `[N]`, mean scores on the data set's own axis.
        stds: float32 `[N]`, standard deviations of the scores, NaN where unknown.
        names: how results call the pictures.
        groups: what results are grouped by, such as the distortion; or None.
    """

    paths: list
    scores: np.ndarray
    means: np.ndarray
    stds: np.ndarray
    names: list
    groups: list | None = None

    def __len__(self):
        return len(self.paths)

    def take(self, numbers):
        """Returns the pictures with these numbers, in this order."""
        numbers = np.asarray(numbers, np.int64)
        return RatedImages(
            [self.paths[number] for number in numbers],
            self.scores[numbers],
            self.means[numbers],
            self.stds[numbers],
            [self.names[number] for number in numbers],
            None if self.groups is None else [self.groups[number] for number in numbers],
        )


def define_image_flags(prefix):
    """Defines the flags of reading pictures, for the dataloader of that name."""
    flags.DEFINE_bool(
        "data_skip_broken",
        False,
        "Report and leave out broken and missing images instead of stopping.",
    )
    flags.DEFINE_integer(
        f"{prefix}_num_threads",
        4,
        "Images that are decoded at the same time; 0: one after the other.",
        lower_bound=0,
    )


def create_batches(find_images, cropping, prefix, flags, split, seed, first_step, shard):
    """Returns the batches of a split, with the flags that `define_image_flags` defines.

    Evaluations know what a constant would be that was learnt on the images of `'train'`.

    Args:
        find_images: function of flags and split that returns `RatedImages`.
        cropping: `windows.Cropping`.
        prefix: name of the dataloader.
        flags: parsed flags, with `batch_size` too.
        split: `'train'` for endless random batches, `'validation'` or `'test'` for one pass.
        seed: integer seed of all draws.
        first_step: step of the first training batch.
        shard: `(index, count)` of this process among those that share a training batch.

    Raises:
        ValueError: for an unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be train, validation or test. Received: {split!r}")
    rated = find_images(flags, split)
    number_of_threads = getattr(flags, f"{prefix}_num_threads")
    if split == "train":
        sampler = TrainingSampler(
            rated, cropping, flags.batch_size, seed, shard, flags.data_skip_broken
        )
        return sampler.batches(first_step, number_of_threads)
    batches = EvaluationBatches(
        rated, cropping, flags.batch_size, number_of_threads, flags.data_skip_broken
    )
    batches.training_scores = _mean_scores(find_images, flags)
    return batches


def _mean_scores(find_images, flags):
    """Returns the mean distribution `[K]` of the training images, None where there are none."""
    try:
        return find_images(flags, "train").scores.astype(np.float64).mean(axis=0)
    except ValueError as error:
        logging.info("No training images to compare with: %s", error)
        return None


class TrainingSampler:
    """Random patches; what step n shows depends on the seed and on n alone.

    The pictures come in passes over all of them, each in an order of its own. A batch may hold the
    end of one pass and the beginning of the next, so that no picture is left out.

    Args:
        rated: `RatedImages`, at least one.
        cropping: `windows.Cropping`.
        batch_size: patches per step over all shards.
        seed: integer seed of all draws.
        shard: `(index, count)`; this shard reads rows `index * batch_size / count` and following.
        skip_broken: whether a broken picture is reported once and replaced by the next one of the
            list instead of ending the run.

    Raises:
        ValueError: without pictures, or if the batch cannot be divided.
    """

    def __init__(self, rated, cropping, batch_size, seed, shard=(0, 1), skip_broken=False):
        index, count = shard
        if batch_size < 1 or batch_size % count or not 0 <= index < count:
            raise ValueError(
                "batch_size must be a positive multiple of the number of shards. "
                f"Received: batch_size={batch_size}, shard={index} of {count}"
            )
        if not len(rated):
            raise ValueError("There is no image to train on")
        self._rated = rated
        self._cropping = cropping
        self._batch_size = batch_size
        self._rows = slice(index * batch_size // count, (index + 1) * batch_size // count)
        self._seed = seed
        self._skip_broken = skip_broken
        self._broken = _BrokenImages(len(rated))
        # Sorting 255,000 numbers for every batch would take as long as decoding it.
        self._order = functools.lru_cache(maxsize=4)(self._draw_order)

    def batches(self, first_step=0, number_of_threads=4):
        """Returns the endless tf.data.Dataset of batches from `first_step` on.

        Elements: `image`, float32 `[b, p, p, 3]` in 0-255, and `scores`, float32 `[b, K]`.
        """
        rows, size = self._rows.stop - self._rows.start, self._cropping.patch_size
        pool = None
        if number_of_threads:
            pool = concurrent.futures.ThreadPoolExecutor(number_of_threads)

        def make(step):
            # Functions that count as stateful run one after the other where determinism is asked
            # for.
            image, scores = tf.numpy_function(
                lambda number: self._make_batch(number, pool),
                [step],
                [tf.float32, tf.float32],
                stateful=False,
            )
            image.set_shape([rows, size, size, 3])
            scores.set_shape([rows, self._rated.scores.shape[1]])
            return {"image": image, "scores": scores}

        # Two at a time: the pool has work while the last image of a batch is being read.
        parallel = 2 if number_of_threads else None
        steps = tf.data.Dataset.range(first_step, tf.int64.max)
        return steps.map(make, parallel, deterministic=parallel and True).prefetch(2)

    def _make_batch(self, step, pool):
        numbers, uniform = self.draw(step)
        size = self._cropping.patch_size
        # One call and one array for the batch: calls and copies for each image would add up.
        images = np.empty((len(numbers), size, size, 3), np.float32)
        scores = np.empty((len(numbers), self._rated.scores.shape[1]), np.float32)

        def fill(row):
            images[row], scores[row] = self.read(numbers[row], uniform[row])

        for _ in (pool.map if pool else map)(fill, range(len(numbers))):
            pass
        return images, scores

    def draw(self, step):
        """Returns this shard's part of a step: numbers int64 `[b]`, uniform `[b, DRAWS]`."""
        first = int(step) * self._batch_size
        count = len(self._rated)
        numbers = [
            self._order((first + row) // count)[(first + row) % count]
            for row in range(self._rows.start, self._rows.stop)
        ]
        uniform = self._generator(int(step)).random((self._batch_size, windows.DRAWS))
        return np.array(numbers, np.int64), uniform[self._rows]

    def read(self, number, uniform):
        """Returns the patch and the scores of a picture, or of its first successor that is whole.

        Raises:
            ValueError: for a broken picture, unless they are skipped.
        """
        for following in range(len(self._rated)):
            candidate = (int(number) + following) % len(self._rated)
            if candidate in self._broken:
                continue
            try:
                patch = windows.read_patch(self._rated.paths[candidate], self._cropping, uniform)
            except ValueError as error:
                if not self._skip_broken:
                    # TensorFlow buries the message under its own.
                    logging.error("%s. --data_skip_broken leaves broken images out.", error)
                    raise
                self._broken.add(candidate, error)
                continue
            return patch, self._rated.scores[candidate]
        raise ValueError(f"All {len(self._rated)} images are broken")

    def _draw_order(self, epoch):
        # Half of all counters serve the steps, the other half the passes.
        return np.argsort(self._generator(2**63 + epoch).random(len(self._rated)), kind="stable")

    def _generator(self, counter):
        # As a list, numbers beyond 63 bits would become floating-point ones.
        key = np.array([self._seed % _WORD, counter], np.uint64)
        return np.random.Generator(np.random.Philox(key=key))


class EvaluationBatches:
    """Central patches of all pictures in the order of the list; may be iterated again.

    Elements are dicts: `image`, float32 `[b, p, p, 3]` in 0-255; `scores`, float32 `[b, K]`; `mean`
    and `std`, float32 `[b]`; `name` and, if there are any, `group`, lists of text. The last batch
    may be smaller (tf-perceptual-eusr drops it). `training_scores`, `[K]`, is the mean distribution
    of the training images, None where it is unknown.

    Args:
        rated: `RatedImages`, at least one.
        cropping: `windows.Cropping`.
        batch_size: patches per batch.
        number_of_threads: pictures that are decoded at the same time; 0: one after the other.
        skip_broken: whether broken pictures are reported and left out instead of raised.

    Raises:
        ValueError: without pictures; while iterating, for a broken one.
    """

    training_scores = None

    def __init__(self, rated, cropping, batch_size, number_of_threads=4, skip_broken=False):
        if not len(rated):
            raise ValueError("There is no image to evaluate")
        self._rated = rated
        self._cropping = cropping
        self._batch_size = batch_size
        self._threads = number_of_threads
        self._skip_broken = skip_broken
        self._broken = _BrokenImages(len(rated))

    def __len__(self):
        """Returns the number of batches, if no picture is broken."""
        return -(-len(self._rated) // self._batch_size)

    def __iter__(self):
        numbers, patches = [], []
        for number, patch in self._patches():
            numbers.append(number)
            patches.append(patch)
            if len(numbers) == self._batch_size:
                yield self._element(numbers, patches)
                numbers, patches = [], []
        if numbers:
            yield self._element(numbers, patches)

    def _patches(self):
        """Yields (number, patch) in order; broken pictures are raised or left out."""
        for number, read in self._reading():
            try:
                yield number, read()
            except ValueError as error:
                if not self._skip_broken:
                    raise
                self._broken.add(number, error)

    def _reading(self):
        """Yields (number, function that returns the patch); reads ahead on several threads."""

        def read(number):
            return windows.read_patch(self._rated.paths[number], self._cropping)

        if not self._threads:
            for number in range(len(self._rated)):
                yield number, functools.partial(read, number)
            return
        with concurrent.futures.ThreadPoolExecutor(self._threads) as pool:
            pending = collections.deque()
            try:
                for number in range(len(self._rated)):
                    pending.append((number, pool.submit(read, number).result))
                    if len(pending) > 2 * self._threads + self._batch_size:
                        yield pending.popleft()
                while pending:
                    yield pending.popleft()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _element(self, numbers, patches):
        rows = self._rated.take(numbers)
        element = {
            "image": np.stack(patches).astype(np.float32),
            "scores": rows.scores,
            "mean": rows.means,
            "std": rows.stds,
            "name": rows.names,
        }
        return element if rows.groups is None else element | {"group": rows.groups}


class _BrokenImages:
    """Numbers of broken pictures; reports each of them once."""

    def __init__(self, total):
        self._numbers = set()
        self._total = total
        self._lock = threading.Lock()

    def __contains__(self, number):
        return number in self._numbers

    def add(self, number, error):
        with self._lock:
            if number not in self._numbers:
                self._numbers.add(number)
                logging.warning(
                    "Skipped: %s (%d of %d so far)", error, len(self._numbers), self._total
                )


def drop_broken(rated, description):
    """Decodes every picture once, on all cores; reports the broken ones and leaves them out."""

    def decode(number):
        image_files.read_rgb(rated.paths[number])
        return number

    whole, _ = threads.for_each(decode, range(len(rated)), description, skip_broken=True)
    return rated.take([number for number in whole if number is not None])


def find_by_name(folder, flag, extensions=image_files.EXTENSIONS):
    """Returns {name in lower case: path} of the image files in a folder and its subfolders.

    Of several files with one name the first path counts; the others are reported.

    Args:
        folder: where to search.
        flag: name of the flag that gave it, for the message.
        extensions: those that count, in lower case.

    Raises:
        ValueError: when there is no such folder.
    """
    if not os.path.isdir(folder):
        raise ValueError(f"--{flag} must be a folder of images. Received: {folder}")
    found, repeated = {}, []
    for path in image_files.find_images(folder):
        if path.suffix.lower() in extensions:
            if path.name.lower() in found:
                repeated.append(path)
            found.setdefault(path.name.lower(), path)
    if repeated:
        logging.warning(
            "--%s holds files of the same name; not used: %s", flag, shorten_list(repeated)
        )
    return found


def require(value, flag, what):
    """Returns the value of a flag that has no default.

    Raises:
        ValueError: if it is missing; says what it must be, and what needs no download.
    """
    if not value:
        raise ValueError(
            f"--{flag} is missing: {what}. --dataloader=sample_ratings needs no files of yours."
        )
    return value


def report_missing(missing, total, skip, where):
    """Reports rows of a table that have no image.

    Args:
        missing: names of the images, or their expected paths.
        total: number of rows.
        skip: whether that is a warning or an error.
        where: where the images were looked for.

    Raises:
        ValueError: if there are any and they may not be skipped, or if there are no others.
    """
    if not missing:
        return
    message = f"{len(missing)} of {total} rated images are not in {where}: {shorten_list(missing)}"
    if len(missing) == total:
        raise ValueError(message)
    if not skip:
        raise ValueError(f"{message}. --data_skip_broken leaves them out.")
    logging.warning("Skipped: %s", message)


def shorten_list(names):
    """Returns the first names as text, and how many there are besides."""
    shown = ", ".join(str(name) for name in names[:SHOWN_NAMES])
    rest = len(names) - SHOWN_NAMES
    return f"{shown} and {rest} more" if rest > 0 else shown


def slice_of_range(numbers, flag):
    """Returns the slice that a range flag such as -5000,0 means: an end of 0 is the list's end.

    Raises:
        ValueError: unless there are two numbers.
    """
    if len(numbers) != 2:
        raise ValueError(f"--{flag} must be two numbers, start and end. Received: {numbers}")
    start, end = numbers
    return slice(start, end or None)


def take_range(rated, numbers, flag):
    """Returns the pictures in the range that a flag gives.

    Raises:
        ValueError: if it holds none.
    """
    taken = rated.take(range(len(rated))[slice_of_range(numbers, flag)])
    if not len(taken):
        start, end = numbers
        raise ValueError(f"--{flag}={start},{end} leaves none of the {len(rated)} images")
    return taken


def absolute(path):
    """Returns the path without ~ and as text, so that it can be a key."""
    return str(pathlib.Path(path).expanduser().absolute())
