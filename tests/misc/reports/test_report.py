import csv
import json
import os

import numpy as np
import pytest

from misc.images import image_files
from misc.reports import report


def test_results_are_shown_and_kept(tmp_path, capsys):
    results = report.Results(tmp_path)
    results.add_row({"scale": 2, "name": "a", "psnr_y": 30.0})
    results.add_row({"scale": 2, "name": "b", "psnr_y": float("inf")})
    results.add_picture("x2/a", np.full((4, 5, 3), 7, np.uint8))
    results.finish({"x2/psnr_y": float("inf"), "psnr_y": float("inf")}, {"model": "eusr"})
    output = capsys.readouterr().out
    assert "30.000" in output
    assert "mean of 2" in output
    assert image_files.read_rgb(tmp_path / "x2/a.png").shape == (4, 5, 3)
    kept = json.loads((tmp_path / "results.json").read_text())
    assert kept["model"] == "eusr"
    assert kept["images"][1] == {"scale": 2, "name": "b", "psnr_y": "inf"}
    with open(tmp_path / "results.csv") as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["a", "b"]


def test_a_page_is_one_file_beside_the_results(tmp_path, capsys):
    results = report.Results(tmp_path)
    results.add_row({"name": "a", "accuracy": 50.0})
    results.add_page("What < was found", ["<p>a part</p>"])
    results.finish({"accuracy": 50.0}, {})
    page = (tmp_path / "index.html").read_text()
    assert "<h1>What &lt; was found</h1>\n<p>a part</p>" in page
    assert str(tmp_path / "index.html") in capsys.readouterr().out


def test_tables_are_aligned_whatever_their_names(capsys):
    results = report.Results()
    results.add_row({"name": "blur:2|jpeg:10", "level": 2.0, "top1": 50.0})
    rows = [
        {"degradation": "clean", "class": "cat", "a long name": 3, "dog": 0},
        {"degradation": "noise:0-50,step=10", "class": "hippopotamus", "a long name": 12, "dog": 4},
    ]
    results.add_table("confusion", rows)
    results.add_table("nothing", [])
    results.finish({"accuracy": 50.0, "accuracy/blur:2|jpeg:10,subsampling": 50.0}, {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["degradation", "level", "top1"]
    table = next(i for i, line in enumerate(lines) if "hippopotamus" in line)
    assert len({len(line) for line in lines[table - 2 : table + 1]}) == 1
    figures = [line for line in lines if line.startswith("accuracy")]
    assert len({len(line) for line in figures}) == 1


def test_existing_results_are_not_replaced_silently(tmp_path):
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(FileExistsError, match="--overwrite"):
        report.Results(tmp_path)
    assert report.Results(tmp_path, overwrite=True)


def test_nothing_evaluated_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="No image"):
        report.Results(tmp_path).finish({}, {})


def test_figures_stand_beside_what_a_constant_gets(tmp_path, capsys):
    results = report.Results(tmp_path)
    for number in range(report.SHOWN_ROWS + 5):
        results.add_row({"name": f"image {number}", "group": "blur", "emd_r2": 0.25})
    results.add_table("groups", [{"group": "blur", "images": 5, "srcc": 0.5}])
    results.add_note("floor", "one constant distribution")
    results.finish({"emd_r2": 0.0801, "plcc": 0.5, "floor/emd_r2": 0.0893}, {})
    lines = capsys.readouterr().out.splitlines()
    assert ["emd_r2", "0.0801", "0.0893"] in [line.split() for line in lines]
    assert ["plcc", "0.5000"] in [line.split() for line in lines]
    assert ["blur", "5", "0.5000"] in [line.split() for line in lines]
    assert "floor: one constant distribution" in lines
    assert "..." in lines
    assert not any(f"image {report.SHOWN_ROWS}" in line for line in lines)
    kept = json.loads((tmp_path / "results.json").read_text())
    assert len(kept["images"]) == report.SHOWN_ROWS + 5
    assert kept["notes"] == {"floor": "one constant distribution"}
    with open(tmp_path / "groups.csv") as file:
        assert list(csv.DictReader(file)) == [{"group": "blur", "images": "5", "srcc": "0.5"}]


@pytest.mark.parametrize(
    ("total", "expected"),
    [(3, "0 1 2"), (4, "0 1 2 3"), (5, "0 1 ... 1 more 3 4"), (9, "0 1 ... 5 more 7 8")],
)
def test_long_lists_show_their_ends(total, expected, capsys):
    report.print_ends([str(number) for number in range(total)], 2)
    assert capsys.readouterr().out.split() == expected.split()


def test_names_that_are_no_text_are_kept_as_text(tmp_path):
    report.write_table(tmp_path / "a.csv", [{"image": os.fsdecode(b"caf\xe9 \xc3\xa9"), "mean": 1}])
    assert (tmp_path / "a.csv").read_bytes().decode() == "image,mean\r\ncaf\\udce9 é,1\r\n"
