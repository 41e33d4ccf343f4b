import csv
import json

import numpy as np
import pytest

from misc import fusion_distill_chain, fusion_distill_table
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
    product.write_text("")
    stage.run()
    assert "A stage: done" in capsys.readouterr().out


def test_a_folder_keeps_its_settings(tmp_path):
    fusion_distill_chain.check_settings(tmp_path, {"recipes": "quick", "passed": {"a": ["1"]}})
    fusion_distill_chain.check_settings(tmp_path, {"recipes": "quick", "passed": {"a": ["1"]}})
    with pytest.raises(ValueError, match="recipes: 'quick' there, 'cifar10' now"):
        fusion_distill_chain.check_settings(
            tmp_path, {"recipes": "cifar10", "passed": {"a": ["1"]}}
        )


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
    assert "Base separate (oracle)" in (tmp_path / "table.txt").read_text()
    with open(tmp_path / "table.csv") as file:
        assert next(iter(csv.reader(file))) == table.header
    assert (tmp_path / "curves.png").stat().st_size > 10000


@pytest.mark.slow  # 26 processes, each of which loads TensorFlow and compiles a network
def test_a_whole_chain(tmp_path):
    random = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 10)):
        images = random.integers(0, 256, (count, 32, 32, 3), np.uint8)
        np.savez(tmp_path / f"{split}.npz", images=images, labels=np.arange(count) % 10)
    folder = tmp_path / "chain"
    command = ["-m", "misc.fusion_distill_chain", f"--output_path={folder}"]
    errors = commands.run(*command, "--recipes=cifar10", status=1)
    assert "is for --dataloader=cifar10" in errors
    command += ["--dataloader=cifar10", f"--data_path={tmp_path}"]
    settings = ["--steps_factor=0.005", "--batch_size=8"]
    settings += ["--degradations=jpeg", "--degradations=noise"]
    output = commands.run(*command, *settings)
    assert "FusionDistill" in output
    again = commands.run(*command, *settings)
    assert again.count(": done") == 21
    results = json.loads((folder / "results" / "fusion_distill" / "results.json").read_text())
    assert len(results["images"]) == 1 + 101 + 51
