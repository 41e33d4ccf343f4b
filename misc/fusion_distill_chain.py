"""Command: all of FusionDistill - four steps and six baselines - in order, to one table.

    python -m misc.fusion_distill_chain --dataloader=cifar10 --data_path=FOLDER
    python -m misc.fusion_distill_chain --recipes=cifar100 --dataloader=cifar100 --data_path=FOLDER

Daultani & Larochelle, "Consolidating Separate Degradations Model via Weights Fusion and
Distillation", WACV Workshops 2024. Each stage is a command that is printed before it runs, so that
it can be repeated by hand. The same command run again skips what is done and goes on inside the
stage that was stopped. Flags of the models and of the dataloader are passed on to all stages.
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import dataclasses
import json
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import types

from absl import flags

import degradations
from classifiers import fusion_distill_table
from misc.images import files
from misc.training import common_flags, run_folder

FLAGS = flags.FLAGS
ROOT = pathlib.Path(__file__).resolve().parents[1]
RECIPES = "classifiers/recipes"
# In this order the blocks of a batch follow each other, and the teachers.
DEGRADATIONS = ("jpeg", "blur", "saltpepper", "noise")
MOVING_STATISTICS = ("first", "mean", "reestimated")
# Recipes of the runs.
TRAINED_BY = ("clean", "separate", "scratch", "vanilla", "fusing", "distill")
SETTINGS = "chain.json"
OWN_FLAGS = ("output_path", "recipes", "steps_factor", "fused_statistics", "degradations")
# Flags that only some of the models know start with these.
FOREIGN = {
    "classifier": ("fusion_distill_", "teacher_weights"),
    "fusion_distill": (),
    "ensemble": ("fusion_distill_", "teacher_weights", "classifier_"),
}


def define_flags():
    """Defines the flags of this command that do not depend on model and data."""
    flags.DEFINE_string("output_path", "runs/fusion_distill", "Folder for everything.")
    flags.DEFINE_string(
        "recipes",
        "quick",
        f"Which settings: quick (ResNet20, minutes on a CPU), cifar10, cifar100 or tiny_imagenet "
        f"(published): {RECIPES}/NAME_*.flags.",
    )
    flags.DEFINE_float(
        "steps_factor", 1.0, "Factor of the recipes' numbers of steps.", lower_bound=0
    )
    flags.DEFINE_enum(
        "fused_statistics",
        "reestimated",
        MOVING_STATISTICS,
        "Moving statistics of the fused weights that Fusing and FusionDistill start from; the "
        "authors': first.",
    )
    flags.DEFINE_integer("seed", 0, "Seed of weights, order of data and all random draws.")
    flags.DEFINE_enum(
        "precision", "float32", common_flags.PRECISIONS, "Number format of the inner layers."
    )
    common_flags.define_device_flags()


@dataclasses.dataclass(frozen=True)
class Stage:
    """One command of the chain.

    Attributes:
        title: what is printed above it.
        command: arguments of Python.
        product: file that exists when the stage is done.
    """

    title: str
    command: tuple
    product: pathlib.Path

    def run(self):
        """Runs the command, unless it was done before.

        Raises:
            ValueError: if it fails.
        """
        if self.product.exists():
            print(f"== {self.title}: done ({self.product})", flush=True)
            return
        shown = " ".join(shlex.quote(part) for part in ("python", *self.command))
        print(f"\n== {self.title}\n$ {shown}\n", flush=True)
        status = _run([sys.executable, *self.command])
        if status:
            # A negative one is the number of the signal that killed the process.
            raise ValueError(
                f"{self.title} ended with status {status}. The same command goes on there."
            )
        if not self.product.exists():
            raise ValueError(f"{self.title} ended without {self.product}.")


def _run(command):
    """Runs a command to its end, also when this process is asked to end; returns its status."""
    process = subprocess.Popen(command, cwd=ROOT)
    # A terminal's Ctrl-C reaches both processes: this one waits while the stage saves its state.
    handlers = {
        signal.SIGINT: lambda number, frame: None,
        signal.SIGTERM: lambda number, frame: process.send_signal(number),
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Chain:
    """All stages and where they leave their results."""

    def __init__(self, folder, recipes, passed, factor=1.0, statistics="reestimated", names=None):
        """Plans the stages.

        Args:
            folder: folder for everything.
            recipes: name before the _ in the recipes' names.
            passed: {flag: list of values} that all stages get.
            factor: factor of the recipes' steps.
            statistics: moving statistics of the fused weights to go on from.
            names: degradations, in the order of the batch's blocks.

        Raises:
            FileNotFoundError: if there is no such recipe.
            ValueError: for settings that a later stage would stop at.
        """
        self.folder = pathlib.Path(folder).resolve()
        self.recipes = recipes
        self.passed = passed
        self.factor = factor
        self.statistics = statistics
        self.names = tuple(name.strip() for name in names or DEGRADATIONS)
        self.all = {"degradations": list(self.names)}
        self._check()

    def _check(self):
        meant = self._recipe("clean").get("dataloader")
        given = self.passed.get("dataloader", [meant])[-1]
        if meant not in (None, given):
            raise ValueError(
                f"--recipes={self.recipes} is for --dataloader={meant}. "
                f"Received: --dataloader={given}"
            )
        if "," in str(self.folder):
            # Flags that list the models of several degradations separate them by commas.
            raise ValueError(f"--output_path must not hold commas. Received: {self.folder}")
        folders = [folder_name(name) for name in self.names]
        if len(set(folders)) < len(folders):
            raise ValueError(
                f"--degradations must differ from each other. Received: {', '.join(self.names)}"
            )
        for recipe in TRAINED_BY:
            scale_steps(self._recipe(recipe), self.factor)

    def stages(self):
        """Returns the list of `Stage`, in an order in which each finds what it needs."""
        runs = [self._train("clean", "clean", "Step 1: clean model")]
        for name in self.names:
            runs.append(
                self._train(
                    folder_name(name),
                    "separate",
                    f"Step 2: model of {name}",
                    {"degradations": name, "teacher_weights": self._best("clean")},
                    start="clean",
                )
            )
        runs += [self._fuse(statistics) for statistics in MOVING_STATISTICS]
        fused = f"fused_{self.statistics}"
        teachers = ",".join(str(self._best(folder_name(name))) for name in self.names)
        runs += [
            self._train("scratch", "scratch", "Baseline: scratch", self.all),
            self._train(
                "vanilla", "vanilla", "Baseline: vanilla fine-tuning", self.all, start="clean"
            ),
            self._train("fusing", "fusing", "Baseline: fusing", self.all, start=fused),
            self._train(
                "fusion_distill",
                "distill",
                "Step 4: FusionDistill",
                self.all | {"teacher_weights": teachers},
                start=fused,
            ),
        ]
        measured = ["clean", *MOVING_STATISTICS, "scratch", "vanilla", "fusing", "fusion_distill"]
        measured = [f"fused_{m}" if m in MOVING_STATISTICS else m for m in measured]
        evaluations = [self._evaluate(name, self._model_of(name), self.all) for name in measured]
        evaluations += [
            self._evaluate(folder_name(name), "fusion_distill", {"degradations": name})
            for name in self.names
        ]
        evaluations.append(
            self._evaluate("ensemble", "ensemble", self.all | {"ensemble_weights": teachers})
        )
        return runs + evaluations

    def results(self, name):
        """Returns what the evaluation of a run, or of a degradation's model, wrote, as a dict."""
        return json.loads(self._results(folder_name(name)).read_text())

    def evaluation_flags(self, values):
        """Returns {flag: value} of the evaluation of all degradations, of parsed flags."""
        network = {} if "network" in self.passed else {"network": self._recipe("clean")["network"]}
        levels = {} if "levels" in self.passed else {"levels": "all"}
        return values.flag_values_dict() | network | levels | {"degradations": list(self.names)}

    def _train(self, name, recipe, title, flags=None, start=None):
        settings = self._recipe(recipe)
        course = scale_steps(settings, self.factor)
        if start:
            starting = {"restore_path": self._best(start), "restore_target": "classifier"}
            flags = (flags or {}) | starting
        # Written out: a flag that is in the recipe and given again might add to it.
        flags = settings | course | self._passed(settings["model"]) | (flags or {})
        command = ("train.py", *_arguments(flags | {"train_path": self.folder / name}))
        product = self.folder / name / f"{run_folder.CHECKPOINT}-{course['max_steps']}.index"
        return Stage(title, command, product)

    def _fuse(self, statistics):
        first, *others = (str(self._best(folder_name(name))) for name in self.names)
        path = self.folder / f"fused_{statistics}"
        flags = {
            "model": "fusion_distill",
            "restore_path": first,
            "fuse_with": ",".join(others),
            "moving_statistics": statistics,
            "reestimation_steps": self._reestimation_steps(),
            **self._passed("fusion_distill"),
            **self.all,
            "output_path": path,
        }
        command = ("-m", "misc.fuse_weights", *_arguments(flags))
        # The last file that is written.
        product = path / "checkpoint"
        return Stage(f"Step 3: fusion, statistics {statistics}", command, product)

    def _evaluate(self, name, model, flags):
        results = self._results(name)
        restored = {} if model == "ensemble" else {"restore_path": self._best(name)}
        flags = {
            "model": model,
            **restored,
            "levels": "all",
            "corruption_grid": "true",
            **self._passed(model),
            **flags,
            "save_path": results.parent,
            "overwrite": "true",
        }
        return Stage(f"Evaluation of {name}", ("validate.py", *_arguments(flags)), results)

    def _reestimation_steps(self):
        # 200 batches of all degradations are plenty; a short run gets fewer.
        steps = int(scale_steps(self._recipe("distill"), self.factor)["max_steps"])
        return max(1, min(200, steps // 10))

    def _recipe(self, name):
        return read_recipe(ROOT / RECIPES / f"{self.recipes}_{name}.flags")

    def _model_of(self, name):
        # Fused weights bear the settings of the models that they are made of.
        distilled = name == "fusion_distill" or name.startswith("fused_")
        return "fusion_distill" if distilled else "classifier"

    def _best(self, name):
        path = self.folder / name
        return path if name.startswith("fused_") else path / run_folder.BEST

    def _results(self, name):
        return self.folder / "results" / name / "results.json"

    def _passed(self, model):
        return {
            name: values
            for name, values in self.passed.items()
            if not name.startswith(FOREIGN[model])
        }


def folder_name(degradation):
    """Returns what the folder of a degradation's model is called: the degradation, where it can."""
    return re.sub(r"[^\w@.=-]+", "_", degradation)


def _arguments(flags):
    """Returns {flag: value, or list of values of a repeated flag} as arguments."""
    return [
        f"--{name}={value}"
        for name, values in flags.items()
        for value in (values if isinstance(values, list) else [values])
    ]


def read_recipe(path):
    """Returns {flag: last value} of a flag file and of those that it includes.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        known = sorted({p.name.split("_clean")[0] for p in (ROOT / RECIPES).glob("*_clean.flags")})
        raise FileNotFoundError(f"There is no recipe {path}. --recipes knows: {', '.join(known)}")
    settings = {}
    for line in path.read_text().splitlines():
        if line.startswith("--"):
            name, _, value = line[2:].partition("=")
            included = read_recipe(ROOT / value) if name == "flagfile" else {name: value}
            settings |= included
    return settings


def scale_steps(settings, factor):
    """Returns the flags of a recipe that count steps, multiplied by a factor, at least 1 each.

    Args:
        settings: {flag: text}, with max_steps.
        factor: number above 0.

    Raises:
        ValueError: if several milestones fall on the same step.
    """
    scaled = {}
    for name in ("max_steps", "validate_freq", "save_freq", "milestones"):
        if name in settings:
            steps = [max(round(factor * int(step)), 1) for step in settings[name].split(",")]
            if len(set(steps)) < len(steps):
                raise ValueError(
                    f"--steps_factor={factor:g} is too small: --{name}={settings[name]} would "
                    f"become {','.join(map(str, steps))}."
                )
            scaled[name] = ",".join(map(str, steps))
    return scaled


def passed_flags():
    """Returns {flag: list of texts} of what was given on the command line for the stages."""
    passed = {}
    for module, defined in FLAGS.flags_by_module_dict().items():
        if module.startswith(("absl", "tensorflow")):
            continue
        for flag in defined:
            if flag.present and flag.name not in OWN_FLAGS and flag.name != "model":
                lines = flag.serialize().splitlines()
                passed[flag.name] = [
                    # A boolean flag is written as --name or --noname.
                    line.removeprefix(f"--{flag.name}=")
                    if "=" in line
                    else str(line == f"--{flag.name}").lower()
                    for line in lines
                ]
    return passed


def check_settings(folder, settings, begun=True):
    """Notes the settings of a chain, and refuses a folder that was begun with others.

    Args:
        folder: folder of the chain.
        settings: {name: JSON value}.
        begun: whether a stage is done; before that, all settings may change.

    Raises:
        ValueError: naming what differs.
    """
    path = pathlib.Path(folder) / SETTINGS
    if begun and path.exists():
        before = json.loads(path.read_text())
        differing = [
            f"  {name}: {before.get(name)!r} there, {settings.get(name)!r} now"
            for name in sorted(set(before) | set(settings))
            if before.get(name) != settings.get(name)
        ]
        if differing:
            raise ValueError(
                f"--output_path={folder} holds a chain with other settings:\n"
                + "\n".join(differing)
                + "\nGive those settings to continue it, or another --output_path."
            )
    files.write_json(path, settings)


def main(selection):
    """Runs all stages and writes the table; returns the exit status."""
    try:
        names = degradations.expand(FLAGS.degradations) or DEGRADATIONS
    except ValueError as error:
        raise ValueError(f"--degradations: {error}") from error
    passed = passed_flags() | {"dataloader": [selection.dataloader_name]}
    chain = Chain(
        FLAGS.output_path,
        FLAGS.recipes,
        passed,
        FLAGS.steps_factor,
        FLAGS.fused_statistics,
        names,
    )
    # What can't be read, trained on or tested is found now, and not after hours of training.
    selection.model.create_model(types.SimpleNamespace(**chain.evaluation_flags(FLAGS)))
    stages = chain.stages()
    check_settings(
        FLAGS.output_path,
        {
            "recipes": FLAGS.recipes,
            "steps_factor": FLAGS.steps_factor,
            "fused_statistics": FLAGS.fused_statistics,
            "degradations": list(chain.names),
            "passed": {n: v for n, v in passed.items() if n != "cuda_device"},
        },
        begun=any(stage.product.exists() for stage in stages),
    )
    for stage in stages:
        stage.run()
    table = fusion_distill_table.collect(chain.results, chain.names)
    page = fusion_distill_table.write(table, chain.folder)
    print(f"\n{table.text()}\n\nPage with curves: {page}")
    return 0


if __name__ == "__main__":
    define_flags()
    # Its flags are those of all models together; --dataloader defaults to the embedded digits.
    sys.argv.insert(1, "--model=fusion_distill")
    entry_point.run(main, with_dataloader=True, for_use=False)
