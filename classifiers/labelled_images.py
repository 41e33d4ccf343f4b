"""Images with class labels -> seeded batches: what the dataloaders of this package share.

A dataloader module gives a function that reads the training and the test part as `LabelledImages`;
everything else - held-out validation, order, shards, batches - is here.
"""

import dataclasses
import functools

import numpy as np
import tensorflow as tf
from absl import flags

from classifiers import image_reader
from misc.images import image_files, pixel_store, threads
from misc.images.degraded_copies import resize_and_crop
from misc.training import pipeline

SPLITS = ("train", "validation", "test")
VALIDATIONS = ("held_out", "test")
# Of the permutation that chooses held-out images. It is the same for all runs, so that no step of
# a chain of runs validates on images that another one was trained on.
_HELD_OUT_SEED = 2024


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
    """

    images: np.ndarray | list
    labels: np.ndarray
    class_names: list
    resize: int | None = None
    crop: int | None = None
    skip_broken: bool = False
    whole: np.ndarray | None = None

    def __post_init__(self):
        if len(self.images) != len(self.labels):
            raise ValueError(
                f"Every image needs a label. Received: {len(self.images)} images, "
                f"{len(self.labels)} labels"
            )

    def __len__(self):
        return len(self.labels)

    def take(self, indices):
        """Returns the chosen images as `LabelledImages`."""
        if isinstance(self.images, list):
            chosen = [self.images[index] for index in indices]
        else:
            chosen = self.images[indices]
        whole = None if self.whole is None else self.whole[indices]
        return dataclasses.replace(self, images=chosen, labels=self.labels[indices], whole=whole)

    def is_whole(self):
        """Returns bool `[N]`: whether each image can be read, as far as that is known."""
        return np.ones(len(self), bool) if self.whole is None else self.whole

    def read(self, index, decode=None):
        """Returns one image as uint8 RGB.

        Args:
            index: its number.
            decode: for paths: `None` for the central square, or a function of the path that returns
                another part of the image.

        Raises:
            ValueError: naming the file, if it is broken or too small, and what can be done.
        """
        if not isinstance(self.images, list):
            return self.images[index]
        try:
            return (decode or self._read_centre)(self.images[index])
        except ValueError as error:
            if self.skip_broken:
                raise
            message = f"{str(error).rstrip('.')}. --data_skip_broken leaves such images out."
            raise ValueError(message) from error

    def _read_centre(self, path):
        pixels = resize_and_crop(image_files.read_rgb(path), self.resize)
        if min(pixels.shape[:2]) < self.crop:
            raise ValueError(
                f"{path} has {pixels.shape[0]}x{pixels.shape[1]} pixels, fewer than the square of "
                f"{self.crop} that is to be cut out."
            )
        return resize_and_crop(pixels, crop=self.crop)

    def decoded(self, cached=None):
        """Returns the same with all images in memory, where they fit.

        Args:
            cached: whether to do so; `None`: if they need less than half of the free memory.

        Raises:
            ValueError: for a broken file, unless they are skipped: it then keeps its place, so
                that this changes neither the held-out images nor the order of the others.
        """
        if not isinstance(self.images, list):
            return self
        if cached is None:
            available = pixel_store.available_memory()
            cached = available is not None and len(self) * self.crop**2 * 3 < available / 2
        if not cached:
            return self
        pixels = np.zeros([len(self), self.crop, self.crop, 3], np.uint8)

        def work(index):
            pixels[index] = self.read(index)
            return True

        done, _ = threads.for_each(work, range(len(self)), "Decoding", self.skip_broken)
        return dataclasses.replace(self, images=pixels, whole=np.array(done, dtype=bool))


def define_flags():
    """Defines the flags that all dataloaders of labelled images have."""
    flags.DEFINE_integer(
        "batch_size",
        128,
        "Images per step and degradation, over all devices.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "evaluation_batch_size", 250, "Images per step of an evaluation.", lower_bound=1
    )
    flags.DEFINE_enum(
        "data_validation",
        "held_out",
        VALIDATIONS,
        "Images that choose the best weights: a part of the training set that is then not trained "
        "on, or the test set, as the authors of FusionDistill did.",
    )
    flags.DEFINE_float(
        "data_held_out",
        0.1,
        "Share of each class that --data_validation=held_out takes.",
        lower_bound=0,
        upper_bound=0.9,
    )


def define_broken_flag():
    """Defines the flag of dataloaders that read image files."""
    flags.DEFINE_bool(
        "data_skip_broken",
        False,
        "Report and leave out broken images instead of stopping; in training the next one takes "
        "the place.",
    )


def define_defaults(**values):
    """Makes what is known of a data set the default of the model's flags, where it has them."""
    for name, value in values.items():
        if name in flags.FLAGS:
            flags.FLAGS.set_default(name, value)


def create_batches(read, flags, split, seed, first_step=0, shard=(0, 1), cropping=None):
    """Returns the batches of a split.

    `'train'`: an endless tf.data.Dataset of `image`, float32 RGB `[B, height, width, 3]` in 0-255,
    `label`, int32 `[B]`, and, unless random windows are cut, `index`, int64 `[B]`, the image's
    place in the set. Step n depends on the seed and on n alone; each pass over the images has an
    order of its own. With --degrade_on=host the batch also holds `degraded`, and is what
    `training_copies.TrainingCopies` makes of it.

    `'validation'` and `'test'`: one pass in order, the last batch may be smaller; can be iterated
    again. Their attribute `class_names` lists the names of the classes.

    Args:
        read: function of "train" or "test" that returns `LabelledImages`, or `None` where there is
            no such part.
        flags: values of this module's flags.
        split: `'train'`, `'validation'` or `'test'`.
        seed: integer seed of all draws.
        first_step: step of the first batch of `'train'`.
        shard: `(index, count)` of this process among those that share a training batch.
        cropping: `None`, or the share of the area that random windows for training take, see
            `random_resized_crop`; the training images must then be files.

    Raises:
        ValueError: for an unknown split, a batch that can't be shared, or images without a class
            among --num_classes.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}. Received: {split!r}")
    data = part(read, flags, split)
    _check_classes(data, getattr(flags, "num_classes", None))
    if split != "train":
        batches = one_pass(data, flags.evaluation_batch_size)
        batches.class_names = list(data.class_names)
        return batches
    if flags.batch_size % shard[1]:
        raise ValueError(
            f"--batch_size must be divisible by the number of hosts, {shard[1]}. "
            f"Received: {flags.batch_size}"
        )
    return _endless(data, flags, seed, first_step, shard, cropping)


def describe(read, flags):
    """Returns what a run keeps of its data: how the images of a folder become the network's.

    {"class_names": list of the names of the classes; "resize": length of the shorter side, or
    `None` for images as they are; "crop": side of the central square}.
    """
    data = part(read, flags, "train")
    described = {"class_names": list(data.class_names)}
    if data.crop:
        return described | {"resize": data.resize, "crop": data.crop}
    side = int(min(data.images.shape[1:3]))
    return described | {"resize": side, "crop": side}


def part(read, flags, split):
    """Returns the `LabelledImages` of a split; see `create_batches`."""
    if flags.data_validation == "test" and read("test") is None:
        raise ValueError("--data_validation=test: this data set has no test images.")
    # Training images may be many: they are not read where the test images are enough.
    if split == "test" or (split == "validation" and flags.data_validation == "test"):
        test = read("test")
        if test is not None:
            return test
    train = read("train")
    if flags.data_validation == "test":
        return train
    kept, held_out = hold_out(train.labels, flags.data_held_out)
    chosen = kept if split == "train" else held_out
    if not len(chosen):
        raise ValueError(
            f"--data_held_out={flags.data_held_out} leaves no image for the {split} split of "
            f"{len(train)}."
        )
    return train.take(chosen)


def hold_out(labels, share):
    """Returns the indices (kept, held out), with about `share` of each class held out."""
    random = np.random.default_rng(_HELD_OUT_SEED)
    order = random.permutation(len(labels))
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        held_out[members[: round(share * len(members))]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _check_classes(data, num_classes):
    found = len(data.class_names)
    if num_classes is not None and found != num_classes:
        raise ValueError(
            f"The data have {found} classes: give --num_classes={found}. Received: {num_classes}"
        )


def _endless(data, flags, seed, first_step, shard, cropping):
    from classifiers import training_copies

    batch_size = training_copies.images_per_step(flags)
    index, count = shard
    share = batch_size // count
    read = image_reader.create(data, cropping, seed)
    labels = tf.constant(data.labels, tf.int32)
    copies = training_copies.create_for_host(flags)

    def make(step):
        counter = step * batch_size + tf.range(batch_size, dtype=tf.int64)
        order = pipeline.shuffled_index(
            counter, tf.constant(len(data), tf.int64), tf.constant(seed, tf.int64)
        )
        chosen = tf.ensure_shape(order[index * share : (index + 1) * share], [share])
        images, chosen = read(chosen, step, (index * share, batch_size))
        batch = {"image": images, "label": tf.gather(labels, chosen)}
        if cropping is None:
            # Random windows of an image are different images: what is known of one says nothing
            # of the others.
            batch["index"] = chosen
        if copies is None:
            return batch
        # Step n is the n-th from 1 in the training loop, and has the same seed there.
        step_seed = tf.random.fold_in(
            tf.constant([index, seed], tf.int32), tf.cast(step + 1, tf.int32), alg="philox"
        )
        return copies(batch["image"], batch["label"], step_seed, batch.get("index"))

    return pipeline.step_stream(make, first_step).prefetch(2)


def one_pass(data, batch_size):
    """Returns `LabelledImages` in order, as a dataset of `image` and `label`."""
    read = image_reader.create_for_evaluation(data)
    labels = tf.constant(data.labels, tf.int32)

    def make(start):
        images, chosen = read(tf.range(start, tf.minimum(start + batch_size, len(data))))
        return {"image": images, "label": tf.gather(labels, chosen)}

    starts = tf.data.Dataset.range(0, len(data), batch_size)
    return starts.map(make, num_parallel_calls=2, deterministic=True).prefetch(2)


def remember(function):
    """Keeps the latest results of a reading function: its data are asked for several times."""
    return functools.lru_cache(maxsize=4)(function)
