"""Images with class labels -> seeded batches: what the dataloaders of this package share.

A dataloader module gives a function that reads the training and the test part as `LabelledImages`;
everything else - held-out validation, order, shards, batches - is here.
"""

import collections.abc
import dataclasses
import functools

import numpy as np
import tensorflow as tf
from absl import flags

from classifiers import class_names, random_resized_crop, subsets, training_copies
from classifiers.training_copies import TrainingCopies
from misc.images import pixel_store, threads
from misc.images.resizing import INTERPOLATIONS, read_and_crop
from misc.training import common_flags, memory, reader, seeds, settings
from misc.training.data import Data, check_split
from misc.training.sampler import Sampler

VALIDATIONS = ("held_out", "every_nth", "test")
# Of the permutation that chooses held-out images. It is the same for all runs, so that no step of
# a chain of runs validates on images that another one was trained on.
_HELD_OUT_SEED = 2024
# Of the order of evaluations whose batches must not hold a few classes each.
_ORDER_SEED = 2020
# Training cuts squares from anywhere in images that are resized as for evaluations.
RANDOM_PLACE = "random"
# Of so many images --quick takes one.
QUICK_STEP = 50


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images of one size and their classes.

    Attributes:
        images: uint8 RGB `[N, height, width, 3]`, or a list of N paths.
        labels: int32 `[N]`, each in `[0, len(class_names))`.
        class_names: list of the names of the classes.
        resize: for paths: length that the shorter side is resized to, or `None`.
        crop: for paths: side of the central square that is cut out.
        skip_broken: for paths: whether broken files are reported and left out, and replaced by
            their successors in training, instead of raised.
        whole: for pixels: bool `[N]`, false for images that could not be read; `None`: all could.
        interpolation: for paths: one of `INTERPOLATIONS`, see `resize_and_crop`.
        upright: for paths: whether central squares are of images turned as EXIF says.
        size: for paths: side that the square is resized to at last, or `None`.
        read: for paths: function of a path that returns pixels that were resized and cut out
            before; `None`: image files are read, and this is done now.
        bytes: of stored images: sizes of their bit streams, int32 `[N]`, 0 without one; or `None`.
        places: places of the images in the split, int64 `[N]`; `None`: in order.
    """

    images: np.ndarray | list
    labels: np.ndarray
    class_names: list
    resize: int | None = None
    crop: int | None = None
    skip_broken: bool = False
    whole: np.ndarray | None = None
    interpolation: str = INTERPOLATIONS[0]
    upright: bool = True
    size: int | None = None
    read: collections.abc.Callable | None = None
    bytes: np.ndarray | None = None
    places: np.ndarray | None = None

    def __len__(self):
        return len(self.labels)

    def take(self, indices):
        """Returns the chosen images as `LabelledImages`."""
        if isinstance(self.images, list):
            chosen = [self.images[index] for index in indices]
        else:
            chosen = self.images[indices]
        rows = {name: getattr(self, name) for name in ("whole", "bytes", "places")}
        rows = {name: None if each is None else each[indices] for name, each in rows.items()}
        return dataclasses.replace(self, images=chosen, labels=self.labels[indices], **rows)

    @property
    def side(self):
        """Rows and columns of what is read from files."""
        return self.size or self.crop

    def decoded(self, cached=None):
        """Returns the same images of files in memory, where they fit.

        Args:
            cached: whether to do so; `None`: if they need less than half of the free memory.

        Raises:
            ValueError: for a broken file, unless they are skipped: it then keeps its place, so
                that this changes neither the held-out images nor the order of the others.
        """
        if cached is None:
            cached = pixel_store.fits_in_memory(len(self) * self.side**2 * 3)
        if not cached:
            return self
        pixels = np.zeros([len(self), self.side, self.side, 3], np.uint8)

        def work(index):
            pixels[index] = self._read_centre(index)
            return True

        try:
            done, _ = threads.for_each(work, range(len(self)), "Decoding", self.skip_broken)
        except ValueError as error:
            raise reader.name_remedy(error) from error
        return dataclasses.replace(self, images=pixels, whole=np.array(done, dtype=bool))

    def training_batches(self, sampler, first_step=0, area=None):
        """Returns the endless dataset of (uint8 images `[b, ...]`, numbers `[b]`) of a `Sampler`.

        Args:
            sampler: `Sampler`.
            first_step: step of the first batch.
            area: `None` for whole images or central squares; for files also `RANDOM_PLACE`, or the
                share of the area that random windows take, see `random_resized_crop`.
        """
        if isinstance(self.images, list):
            draws = random_resized_crop.DRAWS
            return self._reader(area).training_batches(sampler, draws, first_step)
        numbers = np.flatnonzero(self._is_whole())
        if not len(numbers):
            raise ValueError(f"All {len(self)} images are broken.")
        # The next one that is whole takes the place of a broken one.
        places = np.searchsorted(numbers, np.arange(len(self))) % len(numbers)
        pixels, whole = _on_host(self.images), _on_host(numbers[places])

        def make(step):
            numbers = tf.gather(whole, sampler.order(step, len(self)))
            return tf.gather(pixels, numbers), numbers

        return sampler.stream(make, first_step)

    def sampled(self, quick=False, shuffled=False, most=None, seed=0):
        """Returns the images that an evaluation takes.

        Args:
            quick: whether to take a fixed fiftieth.
            shuffled: whether to take them in a fixed random order instead of their own.
            most: how many to take at most, the same number of each class as far as there are so
                many, see `subsets.choose`; `None`: all.
            seed: of that choice.
        """
        chosen = np.arange(0, len(self), QUICK_STEP if quick else 1)
        if most is not None:
            chosen = chosen[subsets.choose(self.labels[chosen], most, seed)]
        if shuffled:
            chosen = np.random.default_rng(_ORDER_SEED).permutation(chosen)
        if not shuffled and len(chosen) == len(self):
            return self
        return dataclasses.replace(self.take(chosen), places=chosen)

    def one_pass(self, batch_size):
        """Returns all images that are whole in order, as a dataset of what `element` returns."""
        if isinstance(self.images, list):
            batches = self._reader().evaluation_batches(batch_size)
        else:
            pixels = _on_host(self.images)
            numbers = tf.data.Dataset.from_tensor_slices(np.flatnonzero(self._is_whole()))
            batches = numbers.batch(batch_size).map(lambda some: (tf.gather(pixels, some), some))
        return batches.map(self.element, num_parallel_calls=2, deterministic=True).prefetch(2)

    def element(self, pixels, numbers):
        """Returns a batch of uint8 images and their numbers.

        {"image": float32, "label": int32, "index": int64, places in the split} and, of stored
        images, {"bytes": int32, sizes of their bit streams}.
        """
        rows = {"label": self.labels.astype(np.int32)}
        if self.bytes is not None:
            rows["bytes"] = self.bytes.astype(np.int32)
        if self.places is not None:
            rows["index"] = self.places.astype(np.int64)
        rows = {name: tf.gather(_on_host(each), numbers) for name, each in rows.items()}
        return {"image": tf.cast(pixels, tf.float32), "index": numbers} | rows

    def _reader(self, area=None):
        def read(number, uniform):
            if area is None:
                return self._read_centre(number)
            path = self.images[number]
            if area == RANDOM_PLACE:
                reading = self.resize, self.crop, uniform, self.interpolation
                return random_resized_crop.read_shifted(path, *reading)
            return random_resized_crop.read(path, self.crop, uniform, area)

        return reader.Reader(read, len(self), [self.side, self.side, 3], self.skip_broken)

    def _is_whole(self):
        return np.ones(len(self), bool) if self.whole is None else self.whole

    def _read_centre(self, number):
        if self.read is not None:
            return self.read(self.images[number])
        return read_and_crop(
            self.images[number],
            self.upright,
            resize=self.resize,
            crop=self.crop,
            interpolation=self.interpolation,
            size=self.size,
        )


def from_files(
    found,
    class_names,
    resize,
    crop,
    skip_broken,
    interpolation=INTERPOLATIONS[0],
    upright=True,
    size=None,
):
    """Returns the `LabelledImages` of a list of (path, label); see there."""
    paths, labels = zip(*found, strict=True)
    images, labels = list(paths), np.array(labels, np.int32)
    reading = {"skip_broken": skip_broken, "interpolation": interpolation}
    reading |= {"upright": upright, "size": size}
    return LabelledImages(images, labels, class_names, resize, crop, **reading)


@dataclasses.dataclass(kw_only=True, eq=False)
class LabelledData(Data):
    """Training and test images with labels; see `Data`.

    Training batches: `image`, float32 RGB `[B, height, width, 3]` in 0-255, `label`, int32 `[B]`,
    and, unless random windows are cut, `index`, int64 `[B]`, the image's place in the set; with
    `copies` what these make of it. Evaluation batches hold `image`, `label` and `index`; their
    attribute `class_names` lists the names of the classes, `classes_present` the numbers of those
    that the split has images of. Of stored degraded images batches also hold `bytes`, int32 `[B]`,
    the sizes of their bit streams, 0 for those without one.

    Attributes:
        read: function of "train" or "test" that returns `LabelledImages`, or `None` where there is
            no such part; called once for each.
        evaluation_batch_size: images per step of an evaluation.
        validation: one of `VALIDATIONS`: which images choose the best weights.
        held_out: share of each class that "held_out" takes; "every_nth" takes this share of all.
        num_classes: classes of the network, `None` if it has none.
        copies: `TrainingCopies` that are made of a batch here, or `None`.
        area: see `LabelledImages.training_batches`.
        quick: whether evaluations take a fixed fiftieth of the images.
        max_images: how many evaluations take at most, see `LabelledImages.sampled`.
        seed: of that choice.
        shuffled: whether they take them in a fixed random order.
        read_clean: as `read`, of the images that the degraded ones of `read` were made of; `None`:
            `read` gives the images themselves.
    """

    read: collections.abc.Callable
    evaluation_batch_size: int
    validation: str
    held_out: float
    num_classes: int | None = None
    copies: TrainingCopies | None = None
    area: tuple | str | None = None
    quick: bool = False
    max_images: int | None = None
    seed: int = 0
    shuffled: bool = False
    read_clean: collections.abc.Callable | None = None

    def __post_init__(self):
        self.read = functools.cache(self.read)

    def clean(self):
        """Returns the same data without the stored degradation; itself if there is none."""
        if self.read_clean is None:
            return self
        return dataclasses.replace(self, read=self.read_clean, read_clean=None)

    def training_batches(self, seed, first_step=0, shard=(0, 1)):
        """Returns the endless batches; see `Data` and this class."""
        images = self._checked_part("train")
        batches = images.training_batches(
            Sampler(self.images_per_step, seed, shard), first_step, self.area
        )

        def make(step, pixels_and_numbers):
            pixels, numbers = pixels_and_numbers
            batch = images.element(pixels, numbers)
            if self.area is not None:
                # Random windows of an image are different images: what is known of one says
                # nothing of the others.
                del batch["index"]
            if self.copies is None:
                return batch
            # The training loop counts from 1.
            draws = seeds.of_step(seed, step + 1, host=shard[0])
            copies = self.copies(batch["image"], batch["label"], draws, batch.get("index"))
            if "bytes" in batch:
                # Of stored images there is no clean copy.
                copies = batch | copies
                del copies["image"]
            return copies

        batches = batches.enumerate(first_step)
        return batches.map(make, num_parallel_calls=4, deterministic=True).prefetch(2)

    def evaluation_batches(self, split):
        """Returns one pass over a split; see `Data` and this class."""
        check_split(split)
        if split == "validation" and self.validation != "test" and not self.held_out:
            return None
        images = self._checked_part(split)
        chosen = images.sampled(self.quick, self.shuffled, self.max_images, self.seed)
        batches = chosen.one_pass(self.evaluation_batch_size)
        batches.class_names = list(images.class_names)
        batches.classes_present = [int(number) for number in np.unique(images.labels)]
        return batches

    def count_images(self):
        """Returns the number of training images."""
        return len(self.part("train"))

    def describe(self):
        """Returns how the images of a folder become the network's.

        {"class_names": list of the names of the classes; "resize": length of the shorter side, or
        `None` for images as they are; "crop": side of the central square; "size": side that it is
        then resized to, `None` if it is not; "interpolation": how}.
        """
        images = self.part("train")
        resize, crop = images.resize, images.crop
        if crop is None:
            resize = crop = int(min(images.images.shape[1:3]))
        return {
            "class_names": list(images.class_names),
            "resize": resize,
            "crop": crop,
            "size": images.size,
            "interpolation": images.interpolation,
        }

    def part(self, split):
        """Returns the `LabelledImages` of "train", "validation" or "test".

        Raises:
            ValueError: if there are none.
        """
        if self.validation == "test" and self.read("test") is None:
            raise ValueError("--data_validation=test: this data set has no test images.")
        # Training images may be many: they are not read where the test images are enough.
        if split == "test" or (split == "validation" and self.validation == "test"):
            test = self.read("test")
            if test is not None:
                return test
        train = self.read("train")
        if self.validation == "test":
            return train
        if self.validation == "every_nth":
            kept, held_out = hold_out_every_nth(len(train), self.held_out)
        else:
            kept, held_out = hold_out(train.labels, self.held_out)
        chosen = kept if split == "train" else held_out
        if not len(chosen):
            raise ValueError(
                f"--data_held_out={self.held_out} leaves no image for the {split} split of "
                f"{len(train)}: another share leaves some, and 0 holds none out."
            )
        return train.take(chosen)

    def _checked_part(self, split):
        images = self.part(split)
        if self.num_classes is not None:
            class_names.check_count(images.class_names, self.num_classes)
        return images


def define_flags():
    """Defines the flags that all dataloaders of labelled images have."""
    flags.DEFINE_integer(
        "batch_size",
        128,
        "Images per step and degradation, over all devices.",
        lower_bound=1,
    )
    define_evaluation_flags()
    flags.DEFINE_enum(
        "data_validation",
        "held_out",
        VALIDATIONS,
        "Images that choose the best weights: a part of the training set that is then not trained "
        "on, the same share of each class (held_out) or the first of each N in the set's order, "
        "N being 1 / --data_held_out (every_nth); or the test set, as the authors of FusionDistill "
        "did.",
    )
    common_flags.define_float(
        "data_held_out",
        0.1,
        "Share of each class that --data_validation=held_out takes, or of all images, every_nth; "
        "0: nothing validates.",
        at_least=0,
        at_most=0.9,
    )


def define_evaluation_flags():
    """Defines the flags of evaluation batches."""
    flags.DEFINE_integer(
        "evaluation_batch_size", 250, "Images per step of an evaluation.", lower_bound=1
    )
    flags.DEFINE_bool("quick", False, "Evaluate on every 50th image alone, to try things.")
    flags.DEFINE_integer(
        "max_images",
        None,
        "Evaluate on so many images at most, chosen at random by --seed, the same number of each "
        "class as far as there are so many; default: all.",
        lower_bound=1,
    )
    settings.local("quick", "max_images")


def define_interpolation_flag():
    """Defines how image files are resized."""
    flags.DEFINE_enum(
        "data_interpolation",
        INTERPOLATIONS[0],
        INTERPOLATIONS,
        "How --data_resize works: bilinear or bicubic as torchvision does it with Pillow's images, "
        "or with OpenCV's INTER_AREA.",
    )


def define_defaults(**values):
    """Makes what is known of a data set the default of the model's flags, where it has them."""
    for name, value in values.items():
        if name in flags.FLAGS:
            flags.FLAGS.set_default(name, value)


def create_data(flags, read, side, area=None, settings=None, read_clean=None):
    """Returns the `LabelledData` that the flags of this module and of the model describe.

    Args:
        flags: settings of the run; of the model's flags those of `classifiers.flags`, if any.
        read: see `LabelledData`.
        side: rows and columns of the images.
        area: see `LabelledData`.
        settings: see `Data`.
        read_clean: see `LabelledData`.

    Raises:
        ValueError: for batches beyond the memory.
    """
    settings = settings or {}
    memory.check_batch(
        flags.batch_size * 3 * side**2,
        f"--batch_size={flags.batch_size} of {side}x{side} pixels",
    )
    return LabelledData(
        images_per_step=training_copies.images_per_step(
            flags.batch_size, flags.get("copies_images"), flags.get("degradations")
        ),
        settings=settings,
        read=read,
        evaluation_batch_size=flags.evaluation_batch_size,
        validation=flags.data_validation,
        held_out=flags.data_held_out,
        num_classes=settings.get("num_classes", flags.get("num_classes")),
        copies=training_copies.create(flags) if flags.get("degrade_on") == "host" else None,
        area=area,
        quick=flags.get("quick", False),
        max_images=flags.get("max_images"),
        seed=flags.get("seed", 0),
        shuffled=flags.get("reestimated_prior") is not None,
        read_clean=read_clean,
    )


def hold_out(labels, share):
    """Returns the indices (kept, held out), with about `share` of each class held out."""
    random = np.random.default_rng(_HELD_OUT_SEED)
    order = random.permutation(len(labels))
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        held_out[members[: round(share * len(members))]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def hold_out_every_nth(count, share):
    """Returns the indices (kept, held out), with the first of each 1 / `share` held out."""
    held_out = np.zeros(count, bool)
    if share:
        held_out[:: round(1 / share)] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _on_host(values):
    # The set may be larger than an accelerator's memory.
    with tf.device("CPU:0"):
        return tf.constant(values)
