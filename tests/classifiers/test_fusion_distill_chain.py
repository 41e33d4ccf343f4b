import pytest

from classifiers import fusion_distill_chain
from classifiers.fusion_distill_chain import TRAINED_BY, Chain


def values(stage, flag):
    return [part.partition("=")[2] for part in stage.command if part.startswith(f"--{flag}=")]


def value(stage, flag):
    found = values(stage, flag)
    return found[-1] if found else None


def test_published_recipes_count_steps_of_the_paper():
    read = fusion_distill_chain.read_recipe
    clean = read("cifar10", "clean")
    assert clean["milestones"] == f"{60 * 391},{120 * 391},{160 * 391}"
    assert clean["max_steps"] == str(200 * 391)
    assert clean["classifier_weight_decay"] == "1e-4"
    hundred = read("cifar100", "clean")
    assert hundred["classifier_weight_decay"] == "5e-4"
    assert hundred["dataloader"] == "cifar100"
    assert hundred["max_steps"] == clean["max_steps"]
    distill = read("tiny_imagenet", "distill")
    assert distill["milestones"] == f"{30 * 782},{70 * 782},{90 * 782}"
    assert distill["augment_cutout"] == "16"
    assert distill["fusion_distill_cross_entropy_weight"] == "0.1"
    assert read("tiny_imagenet", "separate")["augment_cutout"] == "32"
    for dataset, epoch in (("cifar100", 391), ("tiny_imagenet", 782)):
        separate = read(dataset, "separate")
        assert separate["schedule"] == "cosine_staircase"
        assert separate["classifier_learning_rate_decay_steps"] == str(epoch)
        # The stronger decay is that of the clean models alone.
        decays = {run: read(dataset, run)["classifier_weight_decay"] for run in TRAINED_BY}
        assert decays.pop("clean") == "5e-4"
        assert set(decays.values()) == {"1e-4"}
    with pytest.raises(FileNotFoundError, match="cifar10, cifar100, quick, tiny_imagenet"):
        read("other", "clean")


def test_steps_are_scaled_together():
    recipe = {"max_steps": "100", "milestones": "30,70"}
    recipe |= {
        "classifier_learning_rate_decay_steps": "10",
        "classifier_learning_rate_decay": "0.2",
    }
    scaled = fusion_distill_chain.scale_steps(recipe, 0.5)
    assert scaled.pop("classifier_learning_rate_decay_steps") == "5"
    assert scaled == {"max_steps": "50", "milestones": "15,35"}
    assert fusion_distill_chain.scale_steps({"max_steps": "100"}, 0.001) == {"max_steps": "1"}


def test_a_clean_model_that_is_there_is_not_trained(tmp_path):
    file = tmp_path / "clean.pth"
    with pytest.raises(ValueError, match=r"--clean_weights=.*clean\.pth is no file"):
        Chain(tmp_path, "quick", {}, clean_weights=str(file))
    file.touch()
    chain = Chain(tmp_path, "quick", {}, clean_weights=str(file))
    stages = {stage.title: stage for stage in chain.stages()}
    assert len(stages) == 11 + 13
    assert not any("Step 1" in title for title in stages)
    for name in ("Step 2: model of jpeg", "Baseline: vanilla fine-tuning"):
        assert value(stages[name], "weights") == str(file)
        assert value(stages[name], "restore_path") is None
    assert value(stages["Step 2: model of jpeg"], "teacher_weights") == str(file)
    assert value(stages["Baseline: scratch"], "weights") is None
    assert value(stages["Evaluation of clean"], "weights") == str(file)
    assert value(stages["Evaluation of clean"], "network") == "cifar_resnet20"
    assert f"{tmp_path}/clean/best" not in " ".join(sum((s.command for s in stages.values()), ()))
    chain = Chain(tmp_path, "quick", {"network": ["resnet18"]}, clean_weights=str(file))
    (clean,) = (stage for stage in chain.stages() if stage.title == "Evaluation of clean")
    assert values(clean, "network") == ["resnet18"]


def test_every_stage_finds_what_it_needs(tmp_path):
    chain = Chain(tmp_path, "quick", {"dataloader": ["digits"], "classifier_momentum": ["0.5"]})
    stages = chain.stages()
    assert len(stages) == 12 + 13
    assert stages == [stage for wave in chain.waves() for stage in wave]
    made = set()
    for stage in stages:
        for flag in ("restore_path", "teacher_weights", "fuse_with", "ensemble_weights"):
            for path in filter(None, (value(stage, flag) or "").split(",")):
                assert path.removesuffix("/best") in made, (stage.title, flag)
        made.add(str(stage.product.parent))
        assert value(stage, "dataloader") == "digits"
        is_ensemble = value(stage, "model") == "ensemble"
        assert value(stage, "classifier_momentum") == (None if is_ensemble else "0.5")
    # Those of a wave may run side by side: none needs another one of it.
    for wave in chain.waves():
        folders = {str(stage.product.parent) for stage in wave}
        needed = [part for stage in wave for part in ",".join(stage.command).split(",")]
        assert not folders & {
            n.partition("=")[2].removesuffix("/best")
            for n in needed
            if not n.startswith(("--train_path", "--output_path", "--save_path"))
        }
    distill = next(stage for stage in stages if "FusionDistill" in stage.title)
    teachers = value(distill, "teacher_weights").split(",")
    assert [path.split("/")[-2] for path in teachers] == values(distill, "degradations")


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


def test_each_stage_gets_the_flags_that_its_model_knows(tmp_path):
    passed = {"batch_size": ["8"], "teacher_weights": ["a"], "fusion_distill_stage": ["stage2"]}
    passed |= {"classifier_momentum": ["0.5"], "num_classes": ["7"]}
    given = {
        value(stage, "model"): {flag for flag in passed if value(stage, flag)}
        for stage in Chain(tmp_path, "quick", passed).stages()
    }
    shared = {"batch_size", "num_classes"}
    assert given["ensemble"] == shared
    assert given["classifier"] == shared | {"classifier_momentum"}
    assert given["fusion_distill"] == set(passed)
