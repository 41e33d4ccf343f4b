"""The stages of FusionDistill: four steps, six baselines and their evaluation, as commands.

Daultani & Larochelle, "Consolidating Separate Degradations Model via Weights Fusion and
Distillation", WACV Workshops 2024.
"""

import contextlib
import dataclasses
import functools
import json
import pathlib
import re

from absl import flags

from classifiers import fusion_distill_table
from misc.images import files
from misc.training import checkpoints, registry, run_folder, settings
from misc.training.stages import ROOT, Stage, run_side_by_side

RECIPES = "classifiers/recipes"
# In this order the blocks of a batch follow each other, and the teachers.
DEGRADATIONS = ("jpeg", "blur", "saltpepper", "noise")
MOVING_STATISTICS = ("first", "mean", "reestimated")
# Recipes of the runs.
TRAINED_BY = ("clean", "separate", "scratch", "vanilla", "fusing", "distill")
SETTINGS = "chain.json"
# What stages that run side by side print.
LOGS = "logs"
# Flags of recipes that count steps.
COUNT_STEPS = (
    "max_steps",
    "validate_freq",
    "save_freq",
    "milestones",
    "classifier_learning_rate_decay_steps",
)


@dataclasses.dataclass(frozen=True)
class Chain:
    """All stages, and where they leave their results.

    Attributes:
        folder: folder for everything.
        recipes: name before the _ in the recipes' names.
        passed: {flag: list of values} that all stages get.
        factor: factor of the recipes' steps.
        statistics: moving statistics of the fused weights to go on from.
        names: degradations, in the order of the batch's blocks.
        clean_weights: file of the clean model's weights, which is then not trained; or `None`.
    """

    folder: pathlib.Path
    recipes: str
    passed: dict
    factor: float = 1.0
    statistics: str = "reestimated"
    names: tuple = DEGRADATIONS
    clean_weights: str | None = None

    def __post_init__(self):
        """Checks the settings, where a later stage would stop."""
        object.__setattr__(self, "folder", pathlib.Path(self.folder).resolve())
        object.__setattr__(self, "names", tuple(name.strip() for name in self.names))
        meant = self.recipe("clean").get("dataloader")
        given = self.passed.get("dataloader", [meant])[-1]
        if meant not in (None, given):
            raise ValueError(
                f"--recipes={self.recipes} is for --dataloader={meant}. "
                f"Received: --dataloader={given}"
            )
        if "," in str(self.folder):
            # Flags that list the models of several degradations separate them by commas.
            raise ValueError(f"--output_path must not hold commas. Received: {self.folder}")
        if self.clean_weights:
            path = pathlib.Path(self.clean_weights).resolve()
            if not path.is_file() or "," in str(path):
                raise ValueError(f"--clean_weights={path} is no file, or its path holds commas.")
            object.__setattr__(self, "clean_weights", str(path))
        if len({_folder_name(name) for name in self.names}) < len(self.names):
            raise ValueError(
                f"--degradations must differ from each other. Received: {', '.join(self.names)}"
            )
        for recipe in TRAINED_BY:
            scale_steps(self.recipe(recipe), self.factor)

    def run(self, changeable=(), executor=None):
        """Runs all stages that are not done; returns the table as text, and its page's path.

        Args:
            changeable: flags that may change between a chain and its continuation.
            executor: executor that runs those side by side that do not need each other; `None`:
                one runs after the other.

        Raises:
            ValueError: if a stage fails, or the folder was begun with other settings.
        """
        stages = self.stages()
        chosen = {
            "recipes": self.recipes,
            "steps_factor": self.factor,
            "fused_statistics": self.statistics,
            "degradations": list(self.names),
            "clean_weights": self.clean_weights,
            "passed": {n: values for n, values in self.passed.items() if n not in changeable},
        }
        check_settings(self.folder, chosen, begun=any(stage.product.exists() for stage in stages))
        for wave in self.waves():
            if executor is None:
                for stage in wave:
                    stage.run()
            else:
                run_side_by_side(wave, executor, self.folder / LOGS)
        table, curves = fusion_distill_table.collect(
            lambda name: files.read_json(self._results(name)), self.names
        )
        page = fusion_distill_table.write(table, curves, self.folder)
        return fusion_distill_table.as_text(table), page

    def stages(self):
        """Returns the list of `Stage`, in an order in which each finds what it needs."""
        return [stage for wave in self.waves() for stage in wave]

    def waves(self):
        """Returns lists of `Stage`; each needs those of earlier lists alone."""
        every = {"degradations": list(self.names)}
        teachers = ",".join(str(self._best(name)) for name in self.names)
        fused = f"fused_{self.statistics}"
        clean = [self._train("clean", "clean", "Step 1: clean model")]
        tested = {"restore_path": self._best("clean")}
        if self.clean_weights:
            clean = []
            network = self.passed.get("network", [self.recipe("clean")["network"]])
            tested = {"weights": self.clean_weights, "network": network}
        separate = []
        for name in self.names:
            teacher = self.clean_weights or self._best("clean")
            taught = {"degradations": name, "teacher_weights": teacher}
            title = f"Step 2: model of {name}"
            separate.append(self._train(name, "separate", title, taught, "clean"))
        separate += [
            self._train("scratch", "scratch", "Baseline: scratch", every),
            self._train("vanilla", "vanilla", "Baseline: vanilla fine-tuning", every, "clean"),
        ]
        fusions = [self._fuse(statistics, every) for statistics in MOVING_STATISTICS]
        taught = every | {"teacher_weights": teachers}
        distilled = [
            self._train("fusing", "fusing", "Baseline: fusing", every, fused),
            self._train("fusion_distill", "distill", "Step 4: FusionDistill", taught, fused),
        ]
        # Fused weights bear the settings of the models that they are made of.
        soups = [f"fused_{statistics}" for statistics in MOVING_STATISTICS]
        taught = [(name, "fusion_distill") for name in (*soups, "fusion_distill")]
        trained = [(name, "classifier") for name in ("scratch", "vanilla", "fusing")]
        evaluations = [self._evaluate("clean", "classifier", every | tested)]
        evaluations += [
            self._evaluate(name, model, every | {"restore_path": self._best(name)})
            for name, model in trained + taught
        ]
        for name in self.names:
            tested = {"degradations": name, "restore_path": self._best(name)}
            evaluations.append(self._evaluate(name, "fusion_distill", tested))
        voting = every | {"ensemble_weights": teachers}
        evaluations.append(self._evaluate("ensemble", "ensemble", voting))
        waves = [clean, separate, fusions, distilled, evaluations]
        return [wave for wave in waves if wave]

    def recipe(self, name):
        """Returns the flags of a step; see `read_recipe`."""
        return read_recipe(self.recipes, name)

    def _train(self, name, recipe, title, values=None, start=None):
        chosen = self.recipe(recipe)
        course = scale_steps(chosen, self.factor)
        folder = self.folder / _folder_name(name)
        # Written out: a flag that is in the recipe and given again might add to it.
        values = chosen | course | self._passed(chosen["model"]) | (values or {})
        if start == "clean" and self.clean_weights:
            values |= {"weights": self.clean_weights}
        elif start:
            values |= {"restore_path": self._best(start), "restore_target": "classifier"}
        command = ("train.py", *_arguments(values | {"train_path": folder}))
        return Stage(title, command, _last_file(folder, course["max_steps"]))

    def _fuse(self, statistics, values):
        first, *others = (str(self._best(name)) for name in self.names)
        folder = self._best(f"fused_{statistics}")
        steps = int(scale_steps(self.recipe("distill"), self.factor)["max_steps"])
        values = {
            "model": "fusion_distill",
            "restore_path": first,
            "fuse_with": ",".join(others),
            "moving_statistics": statistics,
            # 200 batches of all degradations are plenty; a short run gets fewer.
            "reestimation_steps": max(1, min(200, steps // 10)),
            **self._passed("fusion_distill"),
            **values,
            "output_path": folder,
        }
        command = ("-m", "misc.fuse_weights", *_arguments(values))
        return Stage(f"Step 3: fusion, statistics {statistics}", command, _last_file(folder, 0))

    def _evaluate(self, name, model, values):
        results = self._results(name)
        values = {
            "model": model,
            "levels": "all",
            **self._passed(model),
            **values,
            "save_path": results.parent,
            "overwrite": "true",
        }
        return Stage(f"Evaluation of {name}", ("validate.py", *_arguments(values)), results)

    def _best(self, name):
        path = self.folder / _folder_name(name)
        return path if name.startswith("fused_") else path / run_folder.BEST

    def _results(self, name):
        return self.folder / "results" / _folder_name(name) / "results.json"

    def _passed(self, model):
        unknown = _flags_of("fusion_distill") - _flags_of(model)
        return {name: values for name, values in self.passed.items() if name not in unknown}


@functools.cache
def _flags_of(model):
    return settings.defined_flags(registry.load("models", model).define_flags)


def _last_file(folder, step):
    return pathlib.Path(f"{checkpoints.path_of(folder, step)}.index")


def _folder_name(degradation):
    return re.sub(r"[^\w@.=-]+", "_", degradation)


def _arguments(values):
    return [
        f"--{name}={value}"
        for name, one in values.items()
        for value in (one if isinstance(one, list) else [one])
    ]


def read_recipe(recipes, name):
    """Returns {flag: last value} of a recipe, which must exist, and of those that it includes."""
    path = ROOT / RECIPES / f"{recipes}_{name}.flags"
    if not path.is_file():
        known = sorted(p.name.split("_clean")[0] for p in path.parent.glob("*_clean.flags"))
        raise FileNotFoundError(f"There is no recipe {path}. --recipes knows: {', '.join(known)}")
    # Recipes name the files that they include as seen from the project's folder.
    with contextlib.chdir(ROOT):
        lines = flags.FlagValues().read_flags_from_files([f"--flagfile={path}"])
    return dict(line.removeprefix("--").split("=", 1) for line in lines)


def scale_steps(recipe, factor):
    """Returns the flags of a recipe that count steps, multiplied by a factor, at least 1 each.

    Raises:
        ValueError: if several milestones fall on the same step.
    """
    scaled = {}
    for name in COUNT_STEPS:
        if name in recipe:
            steps = [max(round(factor * int(step)), 1) for step in recipe[name].split(",")]
            scaled[name] = ",".join(map(str, steps))
            if len(set(steps)) < len(steps):
                raise ValueError(
                    f"--steps_factor={factor:g} is too small: --{name}={recipe[name]} would "
                    f"become {scaled[name]}."
                )
    return scaled


def check_settings(folder, chosen, begun=True):
    """Notes the settings of a chain, and refuses a folder that was begun with others.

    Raises:
        ValueError: naming what differs; until a stage is done (`begun`), all settings may change.
    """
    path = pathlib.Path(folder) / SETTINGS
    before = _read_settings(path) if begun and path.exists() else chosen
    differing = [
        f"  {name}: {before.get(name)!r} there, {chosen.get(name)!r} now"
        for name in sorted({*before, *chosen})
        if before.get(name) != chosen.get(name)
    ]
    if differing:
        raise ValueError(
            f"--output_path={folder} holds a chain with other settings:\n"
            + "\n".join(differing)
            + "\nGive those settings to continue it, or another --output_path."
        )
    files.write_json(path, chosen)


def _read_settings(path):
    try:
        return dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged: {error}. Remove it, if the settings are those of before."
        ) from error
