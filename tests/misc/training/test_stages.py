import signal
import sys

import pytest

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
