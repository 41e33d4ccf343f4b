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


def test_the_first_steps_tell_how_long_a_run_takes(capsys, monkeypatch):
    seconds = iter([100.0, 130.0, 132.0, 133.0, 140.0, 142.0, 144.0, 147.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    shown = progress.TrainingProgress(first=10, total=10**6 + 16, advice="Take a small one.")
    for _ in range(8):
        shown.time_step(started=110.0, result=0.0)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "Step 11 took 20 s, its compilation included.",
        "The next 5 steps took 2 s each (median): the 1000000 steps that are left take about "
        "23 days, without validations.",
        "Take a small one.",
    ]


def test_durations_are_read_at_a_glance():
    described = [progress.describe_duration(s) for s in (0.123, 2, 90, 150, 7200, 86400, 10**6)]
    assert described == ["0.12 s", "2 s", "90 s", "2 min", "2 h", "24 h", "12 days"]
