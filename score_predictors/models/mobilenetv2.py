"""NIMA with MobileNetV2, the score predictor of 4PP-EUSR, trained in two stages.

Choi, Kim, Cheon and Lee, "Deep learning-based image super-resolution considering quantitative and
perceptual quality", Neurocomputing 2019.

    python train.py --dataloader=ava --ava_dataset_path=AVA.txt --ava_image_path=images \\
        --mobilenetv2_train_last_only --batch_size=128 --epochs=5 --learning_rate=0.001 \\
        --train_path=train --weight_filename=ava_lastonly.h5
    python train.py --dataloader=ava --ava_dataset_path=AVA.txt --ava_image_path=images \\
        --batch_size=32 --epochs=5 --learning_rate=0.00001 \\
        --train_path=train --weight_filename=ava.h5 --restore_path=train/ava_lastonly.h5
"""

from absl import flags

from misc.training import common_flags
from score_predictors import flags as predictor_flags
from score_predictors import network
from score_predictors.models import nima

DATALOADER = "ava"
# A run that a CPU finishes within the hour.
SMALL_RECIPE = "score_predictors/recipes/quick.flags"
# A run of seconds, to try things.
TINY = {
    "mobilenetv2_alpha": 0.35,
    "pretrained_weights": "none",
    "input_patch_size": 32,
    "batch_size": 2,
}


def define_flags():
    """Defines the flags of the MobileNetV2 predictor; the names are the original project's."""
    predictor_flags.define_common_flags()
    common_flags.define_float("mobilenetv2_alpha", 1.0, "Width, as a factor.", at_least=0.01)
    flags.DEFINE_bool(
        "mobilenetv2_train_last_only",
        False,
        "Train the last layer alone; the others stay as they are.",
    )


def create_model(flags, training=False):
    """Returns the `nima.ScorePredictor` that the flags describe; with optimizer for training."""
    return nima.create_predictor(
        flags,
        network.MOBILENETV2,
        alpha=flags.mobilenetv2_alpha,
        last_only=flags.mobilenetv2_train_last_only,
        training=training,
    )
