"""What `create_data(flags)` of a dataloader module returns."""

import abc
import dataclasses
import pathlib

SPLITS = ("validation", "test")


@dataclasses.dataclass(kw_only=True, eq=False)
class Data(abc.ABC):
    """Images to train and to evaluate on; they are looked for when they are asked for.

    Attributes:
        images_per_step: images of a training step.
        settings: {flag: value}: flags that were not given and that the data tell.
    """

    images_per_step: int
    settings: dict = dataclasses.field(default_factory=dict)

    @abc.abstractmethod
    def training_batches(self, seed, first_step=0, shard=(0, 1)):
        """Returns the endless tf.data.Dataset of dicts that training reads.

        Step n depends on the seed and on n alone, and the shards' rows put together are the batch
        of a single process.

        Args:
            seed: integer seed of all draws.
            first_step: step of the first batch, from 0.
            shard: `(index, count)` of this process among those that share a batch.

        Raises:
            ValueError: for images that cannot be used (named), or a batch that cannot be shared.
        """

    @abc.abstractmethod
    def evaluation_batches(self, split):
        """Returns one pass of dicts in order, which may be iterated again; None: no such images.

        Args:
            split: `'validation'` or `'test'`.

        Raises:
            ValueError: for images that cannot be used (named), or an unknown split.
        """

    def count_images(self):
        """Returns the number of training images; raises ValueError where it is unknown."""
        raise ValueError("This --dataloader does not count training images: give --max_steps.")

    def describe(self):
        """Returns {name: JSON value}: what a run keeps of its data, such as the classes' names."""
        return {}


def check_folder(path, flag):
    """Raises ValueError unless the path that a flag gave is a folder."""
    _check_path(path, flag, "folder", pathlib.Path.is_dir)


def check_file(path, flag):
    """Raises ValueError unless the path that a flag gave is a file."""
    _check_path(path, flag, "file", pathlib.Path.is_file)


def _check_path(path, flag, kind, is_kind):
    path = pathlib.Path(path).expanduser()
    if not is_kind(path):
        what = f"is no {kind}" if path.exists() else f"there is no such {kind}"
        raise ValueError(f"--{flag}={path}: {what}.")


def check_split(split):
    """Raises ValueError unless the split is one that is evaluated on."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}. Received: {split!r}")
