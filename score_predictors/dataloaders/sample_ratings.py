"""Made-up ratings of scikit-image's photographs: needs no files, and says nothing about quality.

The pictures are degraded copies, the scores a formula of the degradation (see
`score_predictors.sample_ratings`). They are written to a folder once, then read as `ratings` reads
a CSV of one's own, which they are an example of.
"""

from absl import flags, logging

from misc.training import common_flags, settings
from score_predictors import sample_ratings
from score_predictors.dataloaders import ratings

MODEL = "mobilenetv2"


def define_flags():
    """Defines the flags of this dataloader."""
    flags.DEFINE_string(
        "sample_ratings_path",
        None,
        "Folder that the pictures and ratings.csv are written to and read from; default: "
        "degraded-vision/ in the user's cache folder.",
    )
    common_flags.define_skip_broken_flag()
    flags.FLAGS.set_default("score_values", list(sample_ratings.VALUES))
    settings.local("sample_ratings_path")


def create_data(flags):
    """Returns the `RatedData`; `'test'` is the same as `'validation'`, `group` the degradation."""
    folder = flags.sample_ratings_path or sample_ratings.default_path()
    skip_broken = flags.data_skip_broken

    def load():
        table = sample_ratings.write_sample_ratings(folder)
        logging.info("Ratings in %s are made up: computed from known degradations", folder)
        return ratings.read_ratings(table, folder, sample_ratings.VALUES, skip=skip_broken)

    return ratings.create_from_table(flags, load)
