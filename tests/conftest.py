import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
import scipy.ndimage

from eusr.models import eusr
from misc.images import image_files
from tests import commands


@pytest.fixture(autouse=True)
def _same_weights_in_every_run():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory):
    """A folder HR of eight smooth colour images of slightly different sizes."""
    folder = tmp_path_factory.mktemp("photos") / "HR"
    for index in range(8):
        random = np.random.default_rng(index)
        noise = random.normal(size=(72 + 4 * (index % 2), 80, 3))
        smooth = scipy.ndimage.gaussian_filter(noise, (2, 2, 0.5))
        pixels = 127.5 + 55 * smooth / smooth.std()
        image_files.write_image(
            folder / f"{index:04}.png", np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
        )
    return folder


TRAINING = commands.to_arguments(
    eusr.TINY
    | {
        "model": "eusr",
        "max_steps": 60,
        "log_freq": 1,
        "save_freq": 20,
        "summary_freq": 5,
        "seed": 7,
        "eusr_residual_factor": 0.1,
    }
)


@pytest.fixture(scope="session")
def training_arguments(photo_folder):
    """Arguments of a training run of seconds on the eight images, without its folder."""
    return [
        *TRAINING,
        f"--data_truth_path={photo_folder}",
        f"--data_validation_truth_path={photo_folder}",
    ]


@pytest.fixture(scope="session")
def trained(training_arguments, tmp_path_factory):
    """The folder of a finished training run; `output.txt` in it holds what was printed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    output = commands.run("train.py", *training_arguments, f"--train_path={folder}")
    (folder / "output.txt").write_text(output)
    return folder
