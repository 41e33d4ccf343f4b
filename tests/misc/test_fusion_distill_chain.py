import csv
import json
import os
import shutil
import signal
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from classifiers import fusion_distill_table
from misc import fusion_distill_chain
from misc.fusion_distill_chain import Chain
from tests import commands


def values(stage, flag):
    return [part.partition("=")[2] for part in stage.command if part.startswith(f"--{flag}=")]


def value(stage, flag):
    found = values(stage, flag)
    return found[-1] if found else None


def test_published_recipes_count_steps_of_the_paper():
    read = fusion_distill_chain.read_recipe
    folder = fusion_distill_chain.ROOT / fusion_distill_chain.RECIPES
    clean = read(folder / "cifar10_clean.flags")
    assert clean["milestones"] == f"{60 * 391},{120 * 391},{160 * 391}"
    assert clean["max_steps"] == str(200 * 391)
    assert clean["classifier_weight_decay"] == "1e-4"
    hundred = read(folder / "cifar100_clean.flags")
    assert hundred["classifier_weight_decay"] == "5e-4"
    assert hundred["dataloader"] == "cifar100"
    assert hundred["max_steps"] == clean["max_steps"]
    distill = read(folder / "tiny_imagenet_distill.flags")
    assert distill["milestones"] == f"{30 * 782},{70 * 782},{90 * 782}"
    assert distill["augment_cutout"] == "16"
    assert distill["fusion_distill_cross_entropy_weight"] == "0.1"
    assert read(folder / "tiny_imagenet_separate.flags")["augment_cutout"] == "32"
    assert read(folder / "cifar100_separate.flags")["schedule"] == "cosine"
    with pytest.raises(FileNotFoundError, match="cifar10, cifar100, quick, tiny_imagenet"):
        read(folder / "other_clean.flags")


def test_steps_are_scaled_together():
    scaled = fusion_distill_chain.scale_steps({"max_steps": "100", "milestones": "30,70"}, 0.5)
    assert scaled == {"max_steps": "50", "milestones": "15,35"}
    assert fusion_distill_chain.scale_steps({"max_steps": "100"}, 0.001) == {"max_steps": "1"}


def test_every_stage_finds_what_it_needs(tmp_path):
    chain = Chain(tmp_path, "quick", {"dataloader": ["digits"], "classifier_momentum": ["0.5"]})
    stages = chain.stages()
    assert len(stages) == 12 + 13
    made = set()
    for stage in stages:
        for flag in ("restore_path", "teacher_weights", "fuse_with", "ensemble_weights"):
            for path in filter(None, (value(stage, flag) or "").split(",")):
                assert path.removesuffix("/best") in made, (stage.title, flag)
        made.add(str(stage.product.parent))
        assert value(stage, "dataloader") == "digits"
        is_ensemble = value(stage, "model") == "ensemble"
        assert value(stage, "classifier_momentum") == (None if is_ensemble else "0.5")
    distill = next(stage for stage in stages if "FusionDistill" in stage.title)
    teachers = value(distill, "teacher_weights").split(",")
    assert [path.split("/")[-2] for path in teachers] == values(distill, "degradations")


def test_stages_that_are_done_are_skipped(tmp_path, capsys):
    product = tmp_path / "done"
    stage = fusion_distill_chain.Stage("A stage", ("-c", "raise SystemExit(3)"), product)
    with pytest.raises(ValueError, match="A stage ended with status 3"):
        stage.run()
    with pytest.raises(ValueError, match="A stage ended without"):
        fusion_distill_chain.Stage("A stage", ("-c", "pass"), product).run()
    product.write_text("")
    stage.run()
    assert "A stage: done" in capsys.readouterr().out


def test_a_stage_is_asked_to_end_when_the_chain_is():
    code = "import os, time; time.sleep(1); os.kill(os.getppid(), 15); time.sleep(60)"
    handler = signal.getsignal(signal.SIGTERM)
    assert fusion_distill_chain._run([sys.executable, "-c", code]) == -signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == handler


def test_a_folder_keeps_its_settings(tmp_path):
    fusion_distill_chain.check_settings(tmp_path, {"recipes": "quick", "passed": {"a": ["1"]}})
    fusion_distill_chain.check_settings(tmp_path, {"recipes": "quick", "passed": {"a": ["1"]}})
    with pytest.raises(ValueError, match="recipes: 'quick' there, 'cifar10' now"):
        fusion_distill_chain.check_settings(
            tmp_path, {"recipes": "cifar10", "passed": {"a": ["1"]}}
        )
    # As long as nothing is done, a mistake may be mended.
    fusion_distill_chain.check_settings(tmp_path, {"recipes": "cifar10"}, begun=False)
    fusion_distill_chain.check_settings(tmp_path, {"recipes": "cifar10"})


def results(name):
    accuracy = {"jpeg": 40.0, "noise": 60.0, "blur": 50.0}.get(name, 20.0)
    degradations = ("jpeg", "blur", "noise")
    return {
        "mean": {"accuracy/clean": accuracy + 1}
        | {f"accuracy/{degradation}": accuracy for degradation in degradations},
        "images": [
            {"name": degradation, "level": float(level), "top1": accuracy}
            for degradation in degradations
            for level in (1, 2)
        ],
    }


def test_table_has_the_rows_and_columns_of_the_paper(tmp_path):
    table = fusion_distill_table.collect(results, ("noise", "blur", "jpeg"))
    assert table.header == ["Approach", "JPEG", "Blur", "AWGN", "mean", "clean"]
    rows = {row[0]: row[1:] for row in table.cells()}
    assert rows["Base separate (oracle)"] == [40, 50, 60, 50, 51]
    assert rows["FusionDistill"] == [20, 20, 20, 20, 21]
    assert len(rows) == 10
    assert table.curves["oracle"]["noise"] == [(1.0, 60.0), (2.0, 60.0)]
    page = fusion_distill_table.write(table, tmp_path)
    assert "<td>FusionDistill</td><td>20.0</td>" in page.read_text()
    lines = (tmp_path / "table.txt").read_text().splitlines()
    assert lines[2].split() == [
        "Base",
        "separate",
        "(oracle)",
        "40.0",
        "50.0",
        "60.0",
        "50.0",
        "51.0",
    ]
    assert len({len(line) for line in lines}) == 1
    with open(tmp_path / "table.csv") as file:
        assert next(iter(csv.reader(file))) == table.header
    assert (tmp_path / "curves.png").stat().st_size > 10000


def test_what_a_later_stage_would_stop_at_is_found_before_the_first(tmp_path):
    def plan(recipes="quick", folder=tmp_path, names=("noise", "blur"), factor=1.0, **passed):
        return Chain(folder, recipes, {n: [v] for n, v in passed.items()}, factor, names=names)

    with pytest.raises(ValueError, match=r"--recipes=cifar10 is for --dataloader=cifar10\."):
        plan("cifar10", dataloader="digits")
    with pytest.raises(ValueError, match="must differ from each other"):
        plan(names=("noise", "noise"))
    with pytest.raises(ValueError, match="--output_path must not hold commas"):
        plan(folder=tmp_path / "a,b")
    with pytest.raises(ValueError, match=r"--steps_factor=1e-09 is too small: --milestones=23460"):
        plan("cifar10", factor=1e-9)


def test_degradations_with_arguments_get_folders_that_lists_of_paths_can_hold(tmp_path):
    chain = Chain(tmp_path, "quick", {}, names=("noise:0-50,step=10", " blur:2|jpeg:10"))
    distill = next(stage for stage in chain.stages() if "FusionDistill" in stage.title)
    folders = [path.split("/")[-2] for path in value(distill, "teacher_weights").split(",")]
    assert folders == ["noise_0-50_step=10", "blur_2_jpeg_10"]
    assert values(distill, "degradations") == ["noise:0-50,step=10", "blur:2|jpeg:10"]


def test_levels_may_be_chosen(tmp_path):
    def levels(passed):
        stages = Chain(tmp_path, "quick", passed).stages()
        return {value(s, "levels") for s in stages if s.command[0] == "validate.py"}

    assert levels({}) == {"all"}
    assert levels({"levels": ["10,30"]}) == {"10,30"}


def write_images(folder):
    random = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 10)):
        images = random.integers(0, 256, (count, 32, 32, 3), np.uint8)
        np.savez(folder / f"{split}.npz", images=images, labels=np.arange(count) % 10)


def kill_when(ready, *command):
    """Kills a chain and its stage once `ready` of its output so far is true."""
    chain = commands.start(*command, start_new_session=True)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(chain.stdout), daemon=True)
    reader.start()
    deadline = time.monotonic() + 900
    while chain.poll() is None and time.monotonic() < deadline and not ready("".join(lines)):
        time.sleep(0.005)
    os.killpg(chain.pid, signal.SIGKILL)
    reader.join()
    assert chain.wait() == -signal.SIGKILL, "".join(lines) + chain.stderr.read()


def tensors(path):
    reader = tf.train.load_checkpoint(str(path))
    names = reader.get_variable_to_shape_map()
    return {n: reader.get_tensor(n) for n in names if n.endswith("VALUE") and "save_" not in n}


@pytest.mark.slow  # 26 processes, each of which loads TensorFlow and compiles a network
def test_a_whole_chain_and_one_that_was_killed(tmp_path):
    write_images(tmp_path)
    folder = tmp_path / "chain"
    command = ["-m", "misc.fusion_distill_chain", f"--output_path={folder}"]
    command += ["--dataloader=cifar10", f"--data_path={tmp_path}"]
    command += ["--steps_factor=0.015", "--batch_size=8"]
    command += ["--degradations=saltpepper", "--degradations=noise:0-50,step=25"]
    output = commands.run(*command, timeout=3600)
    assert "FusionDistill" in output
    assert ": done" not in output
    table = (folder / "table.csv").read_text()
    evaluation = folder / "results" / "fusion_distill" / "results.json"
    results = json.loads(evaluation.read_text())
    assert len(results["images"]) == 1 + 26 + 3

    last = folder / "fusion_distill" / "model.ckpt-3"
    expected = tensors(last)
    shutil.rmtree(folder / "fusion_distill")
    shutil.rmtree(evaluation.parent)
    (folder / "table.csv").unlink()
    checkpoint = folder / "fusion_distill" / "model.ckpt-1.index"
    kill_when(lambda output: checkpoint.exists(), *command)
    assert not last.with_name(last.name + ".index").exists()

    def evaluates(output):
        if "== Evaluation of fusion_distill\n" not in output:
            return False
        time.sleep(5)
        return True

    kill_when(evaluates, *command)
    actual = tensors(last)
    assert expected.keys() == actual.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(actual[name], tensor, name)
    assert not evaluation.exists()
    again = commands.run(*command, timeout=3600)
    assert again.count(": done") == 20
    assert json.loads(evaluation.read_text()) == results
    assert (folder / "table.csv").read_text() == table
