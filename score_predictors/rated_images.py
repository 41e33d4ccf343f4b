"""Lists of rated pictures -> batches of patches with the distributions of their scores."""

import collections.abc
import dataclasses
import functools
import os
import pathlib

import numpy as np
import tensorflow as tf
from absl import flags, logging

from misc.images import image_files, threads
from misc.training import data, memory, settings
from misc.training.data import Data, check_split
from misc.training.reader import Reader
from misc.training.sampler import Sampler
from score_predictors import windows

# Messages name that many files; what is left is counted.
SHOWN_NAMES = 10


@dataclasses.dataclass(frozen=True)
class RatedImages:
    """Pictures and what people said about them; all of one length.

    Attributes:
        paths: image files; None where there is none.
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

    def with_files(self):
        """Returns the pictures that have a path."""
        return self.take([number for number, path in enumerate(self.paths) if path])

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


@dataclasses.dataclass(kw_only=True, eq=False)
class RatedData(Data):
    """Rated pictures to train and to evaluate on; see `Data`.

    Training batches: `image`, float32 `[b, p, p, 3]` in 0-255, random patches; `scores`, float32
    `[b, K]`. Evaluation batches are `EvaluationBatches`.

    Attributes:
        find: function of "train", "validation" or "test" that returns `RatedImages`, or None for a
            validation set of nothing; called once for each.
        cropping: `windows.Cropping`.
        skip_broken: see `Reader`.
        threads: see `Reader`.
    """

    find: collections.abc.Callable
    cropping: windows.Cropping
    skip_broken: bool = False
    threads: int | None = None

    def __post_init__(self):
        self.find = functools.cache(self.find)

    def training_batches(self, seed, first_step=0, shard=(0, 1)):
        """Returns the endless batches; see `Data` and this class."""
        rated = self.find("train")
        sampler = Sampler(self.images_per_step, seed, shard)
        batches = self._reader(rated).training_batches(sampler, windows.DRAWS, first_step)
        scores = tf.constant(rated.scores)

        def make(pixels, numbers):
            return {"image": tf.cast(pixels, tf.float32), "scores": tf.gather(scores, numbers)}

        return batches.map(make).prefetch(2)

    def evaluation_batches(self, split):
        """Returns one pass over a split; see `Data` and this class."""
        check_split(split)
        rated = self.find(split)
        if rated is None:
            return None
        patches = self._reader(rated).evaluation_batches(self.images_per_step).prefetch(2)
        return EvaluationBatches(rated, patches, self._mean_scores())

    def count_images(self):
        """Returns the number of training images."""
        return len(self.find("train"))

    def _reader(self, rated):
        def read(number, uniform):
            return windows.read_patch(rated.paths[number], self.cropping, uniform)

        side = self.cropping.patch_size
        return Reader(read, len(rated), [side, side, 3], self.skip_broken, self.threads)

    def _mean_scores(self):
        """Returns the mean distribution `[K]` of the training images, None without any."""
        try:
            return self.find("train").scores.astype(np.float64).mean(axis=0)
        except ValueError as error:
            logging.info("No training images to compare with: %s", error)
            return None


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationBatches:
    """Central patches of all pictures in the order of the list; may be iterated again.

    Elements are dicts: `image`, float32 `[b, p, p, 3]` in 0-255; `scores`, float32 `[b, K]`; `mean`
    and `std`, float32 `[b]`; `name` and, if there are any, `group`, lists of text. The last batch
    may be smaller (tf-perceptual-eusr drops it).

    Attributes:
        rated: `RatedImages`.
        patches: dataset of (pixels, numbers).
        training_scores: `[K]`, the mean distribution of the training images, None where unknown.
    """

    rated: RatedImages
    patches: tf.data.Dataset
    training_scores: np.ndarray | None = None

    def __iter__(self):
        for pixels, numbers in self.patches.as_numpy_iterator():
            rows = self.rated.take(numbers)
            element = {
                "image": pixels.astype(np.float32),
                "scores": rows.scores,
                "mean": rows.means,
                "std": rows.stds,
                "name": rows.names,
            }
            yield element if rows.groups is None else element | {"group": rows.groups}


def define_thread_flag(prefix):
    """Defines the flag of threads of a dataloader; tf-perceptual-eusr has it too."""
    flags.DEFINE_integer(
        f"{prefix}_num_threads", 4, "Images that are decoded at the same time.", lower_bound=1
    )
    settings.local(f"{prefix}_num_threads", changeable=True)


def create_data(flags, find, cropping, threads=None):
    """Returns the `RatedData` of a dataloader; arguments as there.

    Patches beyond the memory are a ValueError.
    """
    memory.check_batch(
        flags.batch_size * 3 * cropping.patch_size**2,
        f"--batch_size={flags.batch_size} and --input_patch_size={cropping.patch_size}",
    )
    return RatedData(
        images_per_step=flags.batch_size,
        find=find,
        cropping=cropping,
        skip_broken=flags.data_skip_broken,
        threads=threads,
    )


def drop_broken(rated, description):
    """Decodes every picture once, on all cores; reports the broken ones and leaves them out."""

    def decode(number):
        image_files.read_rgb(rated.paths[number])
        return number

    whole, _ = threads.for_each(decode, range(len(rated)), description, skip_broken=True)
    return rated.take([number for number in whole if number is not None])


def find_images(names, folder, flag, skip, extensions=image_files.EXTENSIONS, all_rated=True):
    """Returns the paths of images in a folder and its subfolders, None where there is none.

    Reports rows without an image, and images without a row.

    Args:
        names: names of the files, in any case; extensions are ignored.
        folder: where to search.
        flag: name of the flag that gave it, for the message.
        skip: whether images may be missing.
        extensions: those that count, in lower case.
        all_rated: whether images of other names are to be reported.

    Raises:
        ValueError: when there is no such folder, or an image is missing.
    """
    folder = os.path.expanduser(folder)
    data.check_folder(folder, flag)
    stems = [pathlib.Path(name).stem.lower() for name in names]
    found, unused = dict.fromkeys(stems), []
    for path in image_files.find_images(folder):
        if path.suffix.lower() in extensions:
            if found.get(path.stem.lower(), path) is None:
                found[path.stem.lower()] = str(path)
            elif all_rated or path.stem.lower() in found:
                unused.append(path)
    if unused:
        logging.warning(
            "--%s: %d of the images have no row of their own and are left out: %s",
            flag,
            len(unused),
            shorten_list(unused),
        )
    missing = [name for name, stem in zip(names, stems, strict=True) if found[stem] is None]
    report_missing(missing, len(names), skip, f"{folder} ({' or '.join(extensions)})")
    return [found[stem] for stem in stems]


def require(value, flag, what, check=data.check_folder):
    """Returns the path that a flag without default gives.

    Raises:
        ValueError: if it is missing, or is no folder (or what `check` checks); says what it must
            be, and what needs no download.
    """
    if not value:
        raise ValueError(
            f"--{flag} is missing: {what}. --dataloader=sample_ratings needs no files of yours."
        )
    check(value, flag)
    return value


def report_missing(missing, total, skip, where):
    """Reports rows of a table that have no image.

    Raises:
        ValueError: if there are any, unless `skip`, or if there are no others.
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


def take_range(rated, numbers, flag):
    """Returns the pictures in the range that a flag such as -5000,0 gives: 0 is the list's end.

    Raises:
        ValueError: unless there are two numbers, or if the range holds none.
    """
    if len(numbers) != 2:
        raise ValueError(f"--{flag} must be two numbers, start and end. Received: {numbers}")
    start, end = numbers
    taken = rated.take(range(len(rated))[start : end or None])
    if not len(taken):
        raise ValueError(f"--{flag}={start},{end} leaves none of the {len(rated)} images")
    return taken
