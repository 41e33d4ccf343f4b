"""The table of epochs: written, shown, and cut back for a run that goes on."""

import csv

import pytest

from misc.training import epochs


def row(epoch, split, loss, size=None):
    return {"epoch": epoch, "split": split, "loss": loss, "bytes": size}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "epochs.csv"
    epochs.append(path, 0, [row(-1, "validation", 0.1 + 0.2, 1000.5)])
    for epoch in (0, 1):
        rows = [row(epoch, "train", 1 / 3), row(epoch, "validation", 0.5)]
        epochs.append(path, 7 * (epoch + 1), rows)
    return path


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_rows_keep_all_digits(path):
    rows = read(path)
    assert list(rows[0]) == ["epoch", "split", "step", "loss", "bytes"]
    assert [(r["epoch"], r["split"], r["step"]) for r in rows] == [
        ("-1", "validation", "0"),
        *(("0", "train", "7"), ("0", "validation", "7")),
        *(("1", "train", "14"), ("1", "validation", "14")),
    ]
    assert (float(rows[0]["loss"]), float(rows[0]["bytes"])) == (0.1 + 0.2, 1000.5)
    assert (float(rows[1]["loss"]), rows[1]["bytes"]) == (1 / 3, "")


@pytest.mark.parametrize(("step", "count"), [(14, 5), (13, 3), (7, 3), (6, 1), (0, 1), (-1, 0)])
def test_a_run_that_goes_on_cuts_what_comes_again(path, step, count):
    expected = read(path)[:count]
    text = path.read_text()
    epochs.cut(path, step)
    if not count:
        assert not path.exists()
        return
    assert read(path) == expected
    assert text.startswith(path.read_text())


@pytest.mark.parametrize("left", ["2,train,14,0.5", "2,tr", "2,train,14,0.5,3"])
def test_a_line_that_was_not_finished_is_cut(path, left):
    expected = path.read_text()
    path.write_text(expected + left)
    epochs.cut(path, 14)
    assert path.read_text() == expected


def test_what_is_no_table_is_removed(path):
    path.write_text("nothing\n\n")
    epochs.cut(path, 14)
    assert not path.exists()
    epochs.cut(path, 14)


def test_lines_stand_below_each_other():
    rows = [row(0, "train", 1.23456789, 345.6), row(0, "validation", 2.0)]
    head, *lines = epochs.as_lines(rows, with_header=True)
    assert lines == epochs.as_lines(rows, with_header=False)
    assert head.split() == ["epoch", "split", "loss", "bytes"]
    assert [line.split() for line in lines] == [
        ["0", "train", "1.2346", "345.6"],
        ["0", "validation", "2", "-"],
    ]
    assert len({len(line) for line in (head, *lines)}) == 1
    assert epochs.as_lines([], with_header=True) == []
