import re

from misc.images.progress import track
from misc.training import progress


def test_a_pipe_gets_one_line_per_update_with_rate_and_time_left(capsys):
    shown = progress.TrainingProgress(first=10, total=100)
    shown.update(20, {"loss": 1.23456, "tag": "x2"})
    shown.note("saved")
    shown.close()
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"step 20/100  loss 1.235 tag x2  \S+ steps/s  \S+ left", lines[0])
    assert lines[1] == "saved"


def test_other_processes_are_silent(capsys):
    shown = progress.TrainingProgress(0, 10, enabled=False)
    shown.update(5, {"loss": 1.0})
    shown.note("text")
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_track_counts_to_the_end(capsys):
    assert list(track([1, 2, 3], description="reading")) == [1, 2, 3]
    assert "3/3" in capsys.readouterr().err
