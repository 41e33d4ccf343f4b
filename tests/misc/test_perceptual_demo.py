import numpy as np
import pytest

from misc import perceptual_demo
from misc.images import image_files
from tests import commands


def test_table_names_every_figure():
    rows = {
        "bicubic": {"psnr_y": 27.125, "subjective": 4.5, "aesthetic": 3.25},
        "truth": {"psnr_y": np.inf, "subjective": 8.0, "aesthetic": 7.0},
    }
    assert perceptual_demo.table(rows) == [
        ["", "PSNR on Y in dB", "subjective", "aesthetic"],
        ["bicubic", "27.12", "4.50", "3.25"],
        ["truth", "inf", "8.00", "7.00"],
    ]


@pytest.mark.slow  # a dozen processes, each of which imports TensorFlow
def test_reduced_chain_makes_its_page_and_can_be_run_again(tmp_path):
    command = [
        *("-m", "misc.perceptual_demo", f"--output_path={tmp_path}/demo"),
        *("--eusr_steps=3", "--predictor_epochs=1", "--perceptual_steps=2"),
    ]
    outputs = []
    for _ in range(2):
        process = commands.start(*command)
        output, errors = process.communicate(timeout=1500)
        assert process.returncode == 0, output + errors
        outputs.append(output)
    assert outputs[0].count("\n$ python ") == 10
    assert "made up" in outputs[0]
    assert outputs[1].count("is already at step") == 4
    page = (tmp_path / "demo" / "index.html").read_text()
    for kind in perceptual_demo.SHOWN:
        for photo, (_, _, side) in perceptual_demo.WINDOWS.items():
            path = f"page/{photo}_{kind.replace(' ', '_')}.png"
            assert path in page
            assert image_files.read_rgb(tmp_path / "demo" / path).shape == (2 * side, 2 * side, 3)
    assert "made-up ratings" in page
