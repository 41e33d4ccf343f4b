import signal
import sys

import pytest

from misc.training import stages


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


def test_a_stage_is_asked_to_end_when_the_chain_is():
    code = "import os, time; time.sleep(1); os.kill(os.getppid(), 15); time.sleep(60)"
    handler = signal.getsignal(signal.SIGTERM)
    assert stages._run([sys.executable, "-c", code]) == -signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == handler


def test_the_parts_of_a_command_line_keep_the_spaces_of_values():
    stage = stages.Stage.from_text(
        "A stage", "train.py --train_path={folder}/run", folder="my runs"
    )
    assert stage.command == ("train.py", "--train_path=my runs/run")
