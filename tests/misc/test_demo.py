import re

import pytest

from misc import demo
from tests import commands


@pytest.mark.slow  # several processes, each of which imports TensorFlow
def test_reduced_demo_makes_its_page(tmp_path):
    # Two steps teach nothing: bicubic is better, which the exit status says.
    output = commands.run(
        *("-m", "misc.demo", "--max_steps=2", f"--output_path={tmp_path}/demo"),
        status=1,
        timeout=1500,
    )
    assert "Bicubic is still better at x2, x4, x8" in output
    page = (tmp_path / "demo" / "index.html").read_text()
    pictures = re.findall(r'src="([^"]+)"', page)
    assert len(pictures) >= len(demo.SCALES) * 4 + 2
    assert all((tmp_path / "demo" / path).is_file() for path in pictures)
    assert page.index("<h2>Go on</h2>") > page.index("<h2>Training</h2>")
    assert f"--restore_path={tmp_path}/demo/run --scale=4" in page
