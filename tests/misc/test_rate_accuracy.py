"""Rate-accuracy curves from results and from runs."""

import csv
import json
import math

import pytest

from misc import rate_accuracy as command
from misc.images import image_files
from misc.reports import bjontegaard, rate_accuracy, report
from misc.training.settings import Settings

CLEAN = {"name": "clean", "level": "nan", "top1": 90.0, "top5": 99.0}
CLEAN |= {"bytes": "nan", "bits_per_pixel": "nan", "codec": ""}


def row(name, size, top1, level=math.nan, **more):
    sizes = {"bytes": size, "bits_per_pixel": size / 128}
    accuracies = {"top1": top1, "top5": top1 + 5}
    return {"name": name, "level": level} | accuracies | sizes | {"codec": ""} | more


def write(folder, *rows):
    results = report.Results(folder)
    for one in rows:
        results.add_row({name: float(v) if v == "nan" else v for name, v in one.items()})
    results.finish({}, {})
    return folder


def settings(folder, *results, **values):
    common = {"output_path": str(folder), "overwrite": False, "rate": "bytes", "reference": None}
    return Settings(common | {"results": list(map(str, results))} | values)


@pytest.fixture
def measured(tmp_path):
    """JPEG at four levels in one folder; BPG in a folder and a text for each level."""
    jpeg = [(100, 20), (200, 50), (400, 70), (800, 80)]
    bpg = [(60, 30), (150, 60), (300, 75)]
    rows = [
        row("jpeg:1-100", size, top1, level=size / 10, codec="JPEG 4:2:0") for size, top1 in jpeg
    ]
    write(tmp_path / "jpeg", CLEAN, *rows)
    for number, (size, top1) in enumerate(bpg):
        write(tmp_path / f"b{number}", CLEAN, row(f"bpg:{51 - 5 * number}", size, top1))
    paths = [tmp_path / "jpeg", *(f"BPG & co={tmp_path}/b{number}" for number in range(3))]
    return tmp_path, paths, jpeg, bpg


def test_a_page_of_several_results(measured, capsys):
    folder, paths, jpeg, bpg = measured
    assert command.main(settings(folder / "out", *paths)) == 0
    content = json.loads((folder / "out/rate_accuracy.json").read_text())
    assert content["clean"] == {"top1": 90, "top5": 99}
    assert [(p["series"], p["bytes"], p["top1"]) for p in content["points"]] == [
        *(("jpeg", *pair) for pair in jpeg),
        *(("BPG & co", *pair) for pair in bpg),
    ]
    with open(folder / "out/bd.csv") as file:
        (first, second) = csv.DictReader(file)
    assert (first["series"], first["figure"]) == ("BPG & co", "top1")
    assert float(first["bd_rate"]) == pytest.approx(bjontegaard.bd_rate(jpeg, bpg))
    assert float(second["bd_accuracy"]) == pytest.approx(bjontegaard.bd_quality(jpeg, bpg))
    assert (float(first["from"]), float(first["to"])) == (30, 75)

    page = (folder / "out/index.html").read_text()
    assert "data:image/png;base64," in page
    assert "BPG &amp; co" in page
    assert "JPEG 4:2:0" in page
    assert "http" not in page
    picture = image_files.read_rgb(folder / "out/rate_accuracy.png")
    assert picture.std() > 5
    assert f"{float(first['bd_rate']):+.1f}" in capsys.readouterr().out

    with pytest.raises(FileExistsError, match="--overwrite"):
        command.main(settings(folder / "out", *paths))
    command.main(settings(folder / "out", *paths, overwrite=True, reference="BPG & co"))
    content = json.loads((folder / "out/rate_accuracy.json").read_text())
    back, forth = content["differences"][0]["bd_rate"], float(first["bd_rate"])
    assert (1 + back / 100) * (1 + forth / 100) == pytest.approx(1)


def test_accuracies_are_those_of_coded_images(tmp_path):
    rows = [row("jpeg:90-101", 300, 85.0, top1_coded=80.0, top5_coded=88.0)]
    rows.append(row("blur:2|webp:30,p=0.5", 100, 60.0, top1_coded=40.0, top5_coded=50.0))
    rows.append(row("noise:5", math.nan, 60.0, top1_coded=math.nan, top5_coded=math.nan))
    series, clean = rate_accuracy.read(write(tmp_path / "mixed", *rows))
    assert [(codec, p.top1, p.top5) for codec, (p,) in series.items()] == [
        ("jpeg", 80, 88),
        ("blur:2|webp", 40, 50),
    ]
    assert clean == {}
    labels, _ = command.collect([str(tmp_path / "mixed")])
    assert list(labels) == ["mixed jpeg", "mixed blur:2|webp"]


def test_the_last_epoch_of_a_run_counts(tmp_path):
    header = "epoch,split,step,loss,top1,top5,bytes,bits_per_pixel\n"
    (tmp_path / "epochs.csv").write_text(
        header + "1,train,10,2.0,40,60,300,1.5\n1,validation,10,2.0,41,61,301,1.6\n"
        "2,train,20,1.0,50,70,302,1.7\n2,validation,20,1.0,51,71,303,1.8\n"
    )
    ((points,), _) = (list(part.values()) for part in rate_accuracy.read(tmp_path))
    assert [(p.top1, p.top5, p.bytes, p.bits_per_pixel) for p in points] == [(51, 71, 303, 1.8)]


def test_what_cannot_be_drawn_is_named(tmp_path, measured):
    folder, paths, _, _ = measured
    write(tmp_path / "noise", {name: CLEAN[name] for name in ("name", "level", "top1", "top5")})
    for result, message in (
        (tmp_path / "noise", r"--results=.*noise: .*results\.json has no bytes"),
        (tmp_path / "none", r"--results=.*none: .* holds neither results\.json"),
    ):
        with pytest.raises(ValueError, match=message):
            command.main(settings(folder / "other", result))
    with pytest.raises(ValueError, match="--reference must be one of the curves jpeg, BPG & co"):
        command.main(settings(folder / "other", *paths, reference="bpg"))
    assert not (folder / "other/index.html").exists()
