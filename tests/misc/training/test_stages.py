import signal
import sys
import time

import pytest

from misc.images import engines
from misc.training import stages
from tests import commands


def test_stages_that_are_done_are_skipped(tmp_path, capsys):
    product = tmp_path / "done"
    stage = stages.Stage("A stage", ("-c", "raise SystemExit(3)"), product)
    with pytest.raises(ValueError, match="A stage ended with status 3"):
        stage.run()
    with pytest.raises(ValueError, match="A stage ended without"):
        stages.Stage("A stage", ("-c", "pass"), product).run()
    product.write_text("")
    stage.run()
    assert "A stage: done" in capsys.readouterr().out


@pytest.fixture
def signals():
    """The signals that reach this process, which ends none of them."""
    caught = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: caught.append(number))
    yield caught
    signal.signal(signal.SIGTERM, before)


def test_a_stage_is_asked_to_end_when_the_chain_is(signals):
    code = "import os, time; os.kill(os.getppid(), 15); time.sleep(60)"
    handler = signal.getsignal(signal.SIGTERM)
    assert stages._run([sys.executable, "-c", code]) == -signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == handler
    assert signals == [signal.SIGTERM]


def test_a_stage_that_ends_well_does_not_hide_that_the_chain_is_asked_to_end(signals):
    code = "import os, signal; signal.signal(15, signal.SIG_IGN); os.kill(os.getppid(), 15)"
    assert stages._run([sys.executable, "-c", code]) == 0
    assert signals == [signal.SIGTERM]


def test_ctrl_c_reaches_a_stage_through_the_chain_alone():
    code = "import signal; signal.raise_signal(signal.SIGINT)"
    assert stages._run([sys.executable, "-c", code]) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="Linux ends children with their parents")
def test_a_stage_does_not_survive_a_chain_that_is_killed():
    stage = "import os, time; print(1, flush=True); time.sleep(5); print(2)"
    chain = commands.start(
        "-c",
        "import sys; from misc.training import stages; "
        f"stages._run([sys.executable, '-c', {stage!r}])",
    )
    assert chain.stdout.readline() == "1\n"
    chain.kill()
    assert not chain.stdout.read()  # which the stage would keep open
    chain.communicate()


def test_the_parts_of_a_command_line_keep_the_spaces_of_values():
    stage = stages.Stage.from_text(
        "A stage", "train.py --train_path={folder}/run", folder="my runs"
    )
    assert stage.command == ("train.py", "--train_path=my runs/run")


def side_by_side(folder, codes, workers=2):
    found = [
        stages.Stage(f"Stage {name}", ("-c", code), folder / name) for name, code in codes.items()
    ]
    with engines.open_executor("local", workers) as executor:
        stages.run_side_by_side(found, executor, folder / "logs")


def test_stages_run_side_by_side(tmp_path, capsys):
    # Each waits for the other one.
    code = (
        "import pathlib, time\nprint('here')\npathlib.Path({0!r}).touch()\n"
        "while not pathlib.Path({1!r}).exists(): time.sleep(0.01)"
    )
    names = [str(tmp_path / name) for name in "ab"]
    codes = {"a": code.format(*names), "b": code.format(*names[::-1])}
    side_by_side(tmp_path, codes)
    assert (tmp_path / "logs" / "stage_a.log").read_text() == "here\n"
    output = capsys.readouterr().out
    assert "Stage a: ended" in output
    assert "$ python -c" in output
    side_by_side(tmp_path, codes)
    assert "Stage b: done" in capsys.readouterr().out


def test_one_that_fails_lets_the_others_end(tmp_path):
    codes = {
        "a": "raise SystemExit(3)",
        "b": f"import time; time.sleep(0.3); open({str(tmp_path / 'b')!r}, 'w')",
    }
    with pytest.raises(ValueError, match=r"Stage a ended with status 3.*logs/stage_a\.log"):
        side_by_side(tmp_path, codes)
    assert (tmp_path / "b").exists()


def test_stages_side_by_side_end_with_the_chain(tmp_path):
    # Stopped, it asks them to end; killed, it takes them with it.
    stage = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(print('saved'))); "
        "print('started', flush=True); time.sleep(60)"
    )
    for number, stop in enumerate((signal.SIGTERM, signal.SIGKILL)):
        folder = tmp_path / str(number)
        chain = commands.start(
            "-c",
            "import signal, sys\n"
            "from pathlib import Path\n"
            "from misc.images import engines\n"
            "from misc.training import stages\n"
            "signal.signal(15, lambda *_: sys.exit(1))\n"
            "def stage(n):\n"
            f"    return stages.Stage(n, ('-c', {stage!r}), Path({str(folder)!r}, n))\n"
            "with engines.open_executor('local', 2) as executor:\n"
            f"    stages.run_side_by_side(map(stage, 'ab'), executor, {str(folder)!r})\n",
        )
        logs = [folder / "a.log", folder / "b.log"]
        deadline = time.monotonic() + 60
        while not all(log.exists() and "started" in log.read_text() for log in logs):
            assert time.monotonic() < deadline
            assert chain.poll() is None
            time.sleep(0.01)
        chain.send_signal(stop)
        chain.communicate(timeout=30)
        found = [log.read_text().splitlines() for log in logs]
        expected = ["started", "saved"] if stop == signal.SIGTERM else ["started"]
        assert found == [expected, expected]
