"""Pages of robustness: whole in themselves, narrow, and with what was measured."""

import html.parser
import json
import re

import numpy as np
import pytest

from misc.reports import comparison_page, heat_tables, line_charts, robustness_page

MODELS = ["small & fast", "large"]


def rows(model, gain=0.0):
    cells = [("clean", float("nan"), 90.0)]
    cells += [("fog", float(level), 80.0 - 10 * level) for level in range(1, 6)]
    cells += [("jpeg:1-100", float(level), 20.0 + level / 2) for level in range(100, 0, -3)]
    return [
        {"model": model, "name": name, "level": level, "top1": top1 + gain, "low": 1, "high": 99}
        for name, level, top1 in cells
    ]


@pytest.fixture
def content():
    return {
        "title": "How robust: <these>",
        "description": "18 images",
        "command": "python -m misc.robustness_report --models='a b'",
        "models": [
            {"name": m, "source": f"{m}.onnx", "classes": 9, "values": "0-255"} for m in MODELS
        ],
        "warnings": ["large: at chance"],
        "mean": {
            MODELS[0]: {"clean": 90.0, "clean_low": 80.5, "clean_high": 95.25, "ece": 3.0},
            MODELS[1]: {"clean": 91.0, "clean_low": 81.0, "clean_high": 96.0, "mce": 70.0},
        },
        "differences": [
            {"first": MODELS[0], "second": "large", "accuracy": 1.5, "low": -1.0, "high": 4.0}
        ],
        "units": {"fog": "severity", "jpeg:1-100": "quality factor"},
        "falling": ["jpeg:1-100"],
        "resamples": 1000,
        "bins": 15,
        "breaking": [
            {
                "model": m,
                "name": n,
                "levels": [1.0, 2.0],
                "images": [3, 5],
                "holding": 2,
                "median": 2,
            }
            for m in MODELS
            for n in ("fog", "jpeg:1-100")
        ],
        "notes": ["a note"],
        "images": rows(MODELS[0]) + rows(MODELS[1], 1.0),
    }


class Parser(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.columns = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag == "tr":
            self.columns.append(0)
        if tag in ("td", "th"):
            self.columns[-1] += 1


def test_a_page_is_one_file(content, tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    pair = {"clean": photo, "broken": photo}
    pair |= {"caption_clean": ["cat (90 %)"], "caption_broken": ["fog at 1: <dog>"]}
    path = tmp_path / "index.html"
    names = {"jpeg:1-100": "jpeg"}
    robustness_page.write(
        path, content, {MODELS[0]: [pair], MODELS[1]: []}, lambda text: names.get(text, text)
    )
    text = path.read_text()
    page = Parser(text)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert page.sources
    assert all(source.startswith("data:image/") for source in page.sources)
    assert "url(" not in text
    assert max(page.columns) <= heat_tables.MOST_COLUMNS + 2
    for expected in (
        "How robust: &lt;these&gt;",
        "small &amp; fast",
        "90.0 (80.5-95.2)",
        "+1.5 points of accuracy",
        "large: at chance",
        "fog at 1: &lt;dog&gt;",
        "python -m misc.robustness_report --models=&#x27;a b&#x27;",
        "<th>jpeg</th>",
    ):
        assert expected in text, expected


def test_curves_keep_their_texts_and_are_the_same_each_time():
    series = [[(1, 50, 40, 60), (2, 30, 20, 35)], [(1, 55, 45, 65), (2, 20, 10, 25)]]
    panels = [
        line_charts.draw(series, "fog", "severity", "accuracy in percent", [90, None])
        for _ in range(2)
    ]
    assert panels[0] == panels[1]
    for text in ("fog", "severity", "accuracy in percent", ">80<"):
        assert text in panels[0], text
    assert len({line_charts.style(number) for number in range(12)}) == 12


def test_heat_maps_have_means_and_hard_levels(content):
    tables = heat_tables.accuracy_tables(rows("m"), content["units"])
    assert len(tables) == 2
    found = [re.findall(r"<td[^>]*>([^<]*)</td>", table) for table in tables]
    assert found[0] == ["70.0", "60.0", "50.0", "40.0", "30.0", "50.0"]
    heads = re.findall(r"<th>([^<]*)</th>", tables[1])
    # From mild to hard, the hardest always among them.
    assert heads[-3:] == ["1", "mean", "jpeg:1-100"]
    mean = np.mean([20 + level / 2 for level in range(100, 0, -3)])
    assert found[1][-1] == f"{mean:.1f}"


def test_differences_are_of_what_both_have(content):
    after = [row for row in rows("m", gain=2.0) if row["level"] != 3]
    tables = heat_tables.difference_tables(rows("m"), after, content["units"])
    found = re.findall(r"<td[^>]*>([^<]*)</td>", tables[0])
    assert found == ["+2.0", "+2.0", "+2.0", "+2.0", "+2.0"]


def write(path, values):
    path.write_text(json.dumps(values))
    return str(path)


def test_any_two_results_are_compared(content, tmp_path):
    ours = write(tmp_path / "ours.json", {**content, "images": rows("net")})
    # As validate.py writes them: the level of clean images is a text.
    of_validation = [
        {"name": "clean", "level": "nan", "top1": 91.0, "top5": 99.0},
        {"name": "fog", "level": 1.0, "top1": 72.5, "top5": 99.0},
    ]
    theirs = write(tmp_path / "theirs.json", {"mean": {}, "images": of_validation})
    series = comparison_page.read([ours, theirs])
    assert [one.name for one in series] == ["net", theirs]
    table = comparison_page.write(tmp_path / "page.html", series, "command")
    assert table[1:] == [["clean", "90.0", "91.0"], ["fog", "50.0", "72.5"]]
    assert ">+2.5<" in (tmp_path / "page.html").read_text()
    twice = comparison_page.read([ours, ours])
    assert twice[0].name == f"net, {ours}"


def test_results_with_a_column_for_each_module_are_compared(tmp_path):
    images = [
        {"name": "clean", "level": "nan", "classifier": "rn18", "none": 90.0, "sympie": 89.0},
        {"name": "fog", "level": 1.0, "classifier": "rn18", "none": 50.0, "sympie": 61.5},
    ]
    path = write(tmp_path / "results.json", {"images": images})
    series = comparison_page.read([path])
    assert [one.name for one in series] == ["rn18, none", "rn18, sympie"]
    table = comparison_page.write(tmp_path / "page.html", series, "command")
    assert table[1:] == [["clean", "90.0", "89.0"], ["fog", "50.0", "61.5"]]
    assert ">+11.5<" in (tmp_path / "page.html").read_text()


def test_what_cannot_be_compared_is_named(content, tmp_path):
    other = write(tmp_path / "sr.json", {"images": [{"name": "a.png", "scale": 2, "psnr": 30}]})
    with pytest.raises(ValueError, match=r"sr.json holds no accuracies"):
        comparison_page.read([other])
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        comparison_page.read([tmp_path / "bad.json"])
    ours = write(tmp_path / "ours.json", {**content, "images": rows("net")[1:6]})
    snow = {"images": [{"name": "snow", "level": 1, "top1": 5}]}
    theirs = write(tmp_path / "theirs.json", snow)
    series = comparison_page.read([ours, theirs])
    with pytest.raises(ValueError, match="no degradation in common: fog; snow"):
        comparison_page.write(tmp_path / "page.html", series, "command")
