"""Made-up ratings of scikit-image's photographs: needs no files, and says nothing about quality.

The pictures are degraded copies, the scores a formula of the degradation (see
`score_predictors.sample_ratings`). They are written to a folder once, then read as `ratings` reads
a CSV of one's own, which they are an example of.
"""

import functools

from absl import flags, logging

from score_predictors import rated_images, sample_ratings
from score_predictors.dataloaders import ratings

MODEL = "mobilenetv2"
_PREFIX = "sample_ratings"


def define_flags():
    """Defines the flags of this dataloader."""
    flags.DEFINE_string(
        "sample_ratings_path",
        None,
        "Folder that the pictures and ratings.csv are written to and read from; default: "
        "degraded-vision/ in the user's cache folder.",
    )
    ratings.define_reading_flags(_PREFIX)
    flags.FLAGS.set_default("score_values", list(sample_ratings.VALUES))


def create_batches(flags, split, seed, first_step=0, shard=(0, 1)):
    """Returns the batches of a split, see `rated_images`.

    `'test'` is the same as `'validation'`. `group` is the degradation.

    Raises:
        ValueError: for an unknown split, or a folder that holds something else.
    """
    return ratings.batches_of(_images, flags, _PREFIX, split, seed, first_step, shard)


def count_images(flags):
    """Returns the number of training images."""
    return len(_images(flags, "train"))


def _images(flags, split):
    path = rated_images.absolute(flags.sample_ratings_path or sample_ratings.default_path())
    table = _load(path, flags.sample_ratings_target, flags.data_skip_broken)
    return table.take_split(split)


@functools.lru_cache(maxsize=2)
def _load(folder, target, skip_broken):
    table = sample_ratings.write_sample_ratings(folder)
    logging.info("Ratings in %s are made up: computed from known degradations", folder)
    return ratings.read_ratings(str(table), folder, sample_ratings.VALUES, (), target, skip_broken)
