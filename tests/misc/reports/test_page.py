import numpy as np

from misc.images import image_files
from misc.reports import page


def test_lines_are_aligned():
    lines = page.align([["", "bicubic"], ["x2", "32.92"], ["mean of all", "1.5"]]).splitlines()
    assert lines == ["             bicubic", "x2             32.92", "mean of all      1.5"]


def test_a_page_shows_its_table_and_its_window(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (12, 14, 3), np.uint8)
    path = tmp_path / "index.html"
    cell = page.enlarged_window(path, "x2 <input>", image, (2, 3, 5))
    page.write(path, "A & B", page.table([["", "input"], ["x2", cell]]))
    text = path.read_text()
    assert "<h1>A &amp; B</h1>" in text
    assert 'alt="x2 &lt;input&gt;"' in text
    assert "<th>x2</th><td><img" in text
    shown = image_files.read_rgb(tmp_path / "page" / "x2_input.png")
    np.testing.assert_array_equal(shown[::2, ::2], image[2:7, 3:8])
    assert shown.shape == (10, 10, 3)


def test_commands_stand_below_each_other():
    assert page.commands(["python a.py", "python b.py --c=<d>"]) == (
        "<pre>python a.py\npython b.py --c=&lt;d&gt;</pre>"
    )
