import os

import pytest

from tests import commands

# Before TensorFlow is loaded; which the process that only shares out the tests never does. Every
# process gets one core, and sums the same order on any number of them.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")


# Files of many seconds.
LONGEST = (
    *("test_entry_points.py", "test_parity.py", "test_commands.py", "test_perceptual.py"),
    *("test_registry.py", "test_nima.py", "test_names.py", "test_jpeg.py", "test_cbar.py"),
)


def pytest_collection_modifyitems(items):
    """Begins with the longest files, so that no process works on one while others are done."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(autouse=True)
def _same_weights_in_every_run():
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory):
    """A folder HR of eight smooth colour images of slightly different sizes."""
    import numpy as np
    import scipy.ndimage

    from misc.images import image_files

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


@pytest.fixture(scope="session")
def training_arguments(photo_folder):
    """Arguments of a training run of seconds on the eight images, without its folder."""
    from eusr.models import eusr

    settings = eusr.TINY | {
        "model": "eusr",
        "max_steps": 24,
        "log_freq": 1,
        "save_freq": 8,
        "summary_freq": 4,
        "seed": 7,
        "eusr_residual_factor": 0.1,
    }
    return [
        *commands.to_arguments(settings),
        f"--data_truth_path={photo_folder}",
        f"--data_validation_truth_path={photo_folder}",
    ]


@pytest.fixture(scope="session")
def trained(training_arguments, tmp_path_factory):
    """The folder of a finished training run; `output.txt` in it holds what was printed."""
    return train(["train.py", *training_arguments], tmp_path_factory.mktemp("trained") / "run")


def train(command, folder):
    output = commands.run(*command, f"--train_path={folder}")
    (folder / "output.txt").write_text(output)
    return folder
