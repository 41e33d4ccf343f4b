"""Command: all of FusionDistill - four steps and six baselines - in order, to one table.

    python -m misc.fusion_distill_chain --dataloader=cifar10 --data_path=FOLDER
    python -m misc.fusion_distill_chain --recipes=cifar100 --dataloader=cifar100 --data_path=FOLDER

Daultani & Larochelle, "Consolidating Separate Degradations Model via Weights Fusion and
Distillation", WACV Workshops 2024. Each stage is a command that is printed before it runs, so that
it can be repeated by hand. The same command run again skips what is done and goes on inside the
stage that was stopped. Flags of the models and of the dataloader are passed on to all stages.
--workers=4, or --engine=dask, runs those side by side that do not need each other, such as the
models of the single degradations.
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import contextlib
import sys

from absl import flags

import degradations
from classifiers import fusion_distill_chain
from misc.images import engines, locks
from misc.training import common_flags, settings

FLAGS = flags.FLAGS


def define_flags():
    """Defines the flags of the chain itself."""
    flags.DEFINE_string("output_path", "runs/fusion_distill", "Folder for everything.")
    flags.DEFINE_string(
        "recipes",
        "quick",
        "Which settings: quick (ResNet20, minutes on a CPU), cifar10, cifar100 or tiny_imagenet "
        f"(published): {fusion_distill_chain.RECIPES}/NAME_*.flags.",
    )
    flags.DEFINE_string(
        "clean_weights",
        None,
        "File of weights of a trained clean model, PyTorch's or Keras': step 1 is then left out.",
    )
    common_flags.define_float(
        "steps_factor", 1.0, "Factor of the recipes' numbers of steps.", above=0
    )
    flags.DEFINE_enum(
        "fused_statistics",
        "reestimated",
        fusion_distill_chain.MOVING_STATISTICS,
        "Moving statistics of the fused weights that Fusing and FusionDistill start from; the "
        "authors': first.",
    )
    common_flags.define_engine_flags(1, "Stages that do not need each other, which run")


def define_stage_flags():
    """Defines the flags that all stages have, whatever their model and data."""
    common_flags.define_seed_flag("Seed of weights, order of data and all random draws.")
    flags.DEFINE_enum(
        "precision", "float32", common_flags.PRECISIONS, "Number format of the inner layers."
    )
    common_flags.define_device_flags()


def passed_flags(selection):
    """Returns {flag: list of texts} of what was given on the command line for the stages."""
    names = settings.defined_flags(
        define_stage_flags, selection.model.define_flags, selection.dataloader.define_flags
    )
    given = [FLAGS[name] for name in sorted(names - {"degradations"}) if FLAGS[name].present]
    passed = {
        # A boolean flag is written as --name or --noname, a repeated one in several lines.
        flag.name: [str(flag.value).lower()]
        if flag.boolean
        else [line.split("=", 1)[1] for line in flag.serialize().splitlines()]
        for flag in given
    }
    return passed | {"dataloader": [selection.dataloader_name]}


def main(chosen, selection):
    """Runs all stages and writes the table; returns the exit status."""
    try:
        names = degradations.expand(chosen.degradations) or fusion_distill_chain.DEGRADATIONS
    except ValueError as error:
        raise ValueError(f"--degradations: {error}") from error
    chain = fusion_distill_chain.Chain(
        chosen.output_path,
        chosen.recipes,
        passed_flags(selection),
        chosen.steps_factor,
        chosen.fused_statistics,
        names,
        chosen.clean_weights,
    )
    # What can't be read, trained on or tested is found now, and not after hours of training.
    defaults = {"levels": "all", "network": chain.recipe("clean")["network"]}
    chosen |= {name: value for name, value in defaults.items() if name not in chosen.given}
    chosen |= {"degradations": list(chain.names)}
    selection.model.create_model(chosen | selection.create_data(chosen).settings)
    executor = contextlib.nullcontext()
    if (chosen.engine, chosen.workers) != ("local", 1):
        executor = engines.open_executor(chosen.engine, chosen.workers, chosen.dask_scheduler)
    with locks.hold(chain.folder), executor as executor:
        table, page = chain.run(settings.changeable_names(), executor)
    print(f"\n{table}\n\nPage: {page}")
    return 0


if __name__ == "__main__":
    define_flags()
    define_stage_flags()
    # Its flags are those of all models together; --dataloader defaults to the embedded digits.
    sys.argv.insert(1, "--model=fusion_distill")
    entry_point.run(main, with_dataloader=True, for_use=False)
