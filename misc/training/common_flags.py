"""Flag groups that several entry points and methods share."""

import dataclasses
import re

import numpy as np
from absl import flags

from misc.images import engines
from misc.training import distribution, schedules, settings

# The flags belong to the modules that call the functions below, also in --helpfull.
flags.disclaim_key_flags()
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
# Larger numbers are infinite in the networks' format.
LARGEST = float(np.finfo(np.float32).max)
# As CUDA_VISIBLE_DEVICES has them, such as 0,1 or GPU-8932f937.
CUDA_DEVICES = r"-1|(?:\d+|(?:GPU|MIG)-[\w/-]+)(?:,(?:\d+|(?:GPU|MIG)-[\w/-]+))*"
ORDERS = (None, "distinct", "ascending")


@dataclasses.dataclass(frozen=True)
class _Bounds:
    """What a number must be; NaN and infinity are in no bounds."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def __contains__(self, value):
        return (
            -LARGEST <= value <= LARGEST
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self):
        return " and ".join(
            f"{name.replace('_', ' ')} {value:g}"
            for name, value in dataclasses.asdict(self).items()
            if value is not None
        )


class _FloatParser(flags.FloatParser):
    def __init__(self, bounds):
        super().__init__()
        self.bounds = bounds
        self.syntactic_help = f"a finite number {bounds}".strip()

    def is_outside_bounds(self, val):
        return val not in self.bounds


class _NumberListParser(flags.ArgumentParser):
    def __init__(self, number, bounds, length, order):
        self.number, self.bounds, self.length, self.order = number, bounds, length, order
        self.syntactic_help = f"{number.__name__}s separated by commas"

    def parse(self, argument):
        """Takes a list or a text such as "2,4,8"."""
        parts = argument if isinstance(argument, list | tuple) else str(argument).split(",")
        try:
            numbers = [self.number(part) for part in parts]
        except ValueError as error:
            raise ValueError(f"{argument!r} is not a list of {self.syntactic_help}") from error
        outside = [value for value in numbers if value not in self.bounds]
        if outside:
            kind = "an integer" if self.number is int else "a finite number"
            raise ValueError(f"{outside[0]} is not {kind} {self.bounds}".strip())
        if self.length not in (None, len(numbers)):
            raise ValueError(f"{len(numbers)} numbers are given, and {self.length} expected")
        if self.order and len(set(numbers)) < len(numbers):
            raise ValueError(f"{argument!r} has a number twice")
        if self.order == "ascending" and sorted(numbers) != numbers:
            raise ValueError(f"{argument!r} is not in ascending order")
        return numbers

    def flag_type(self):
        """Returns the type's name, for help."""
        return f"comma separated list of {self.number.__name__}"


class _NameListParser(flags.ListParser):
    def __init__(self, repeats):
        super().__init__()
        self.repeats = repeats

    def parse(self, argument):
        """Takes a list or a text such as "a,b"."""
        names = super().parse(argument)
        if not isinstance(argument, list) and not all(names or [""]):
            raise ValueError(f"{argument!r} should be names separated by commas")
        if not self.repeats and len(set(names)) < len(names):
            raise ValueError(f"{argument!r} has a name twice")
        return names


def define_float(name, default, help_text, **bounds):
    """Defines a flag that takes a finite number.

    Args:
        name: name of the flag.
        default: its default, which may be None.
        help_text: its help.
        **bounds: `at_least`, `above`, `at_most`, `below`: what the number must be.
    """
    parser = _FloatParser(_Bounds(**bounds))
    flags.DEFINE(parser, name, default, help_text, serializer=flags.ArgumentSerializer())


def define_numbers(name, default, help_text, number=int, length=None, order=None, **bounds):
    """Defines a flag that takes finite numbers separated by commas, and is a list.

    Args:
        name: name of the flag.
        default: its default, a list or None.
        help_text: its help.
        number: `int` or `float`.
        length: how many numbers there must be; None for any.
        order: one of `ORDERS`: "distinct" lets no number come twice.
        **bounds: `at_least`, `above`, `at_most`, `below`: what each number must be.
    """
    serializer = flags.ListSerializer(",")
    serializer.serialize = lambda values: ",".join(str(value) for value in values)
    parser = _NumberListParser(number, _Bounds(**bounds), length, order)
    flags.DEFINE(parser, name, default, help_text, serializer=serializer)


def define_names(name, default, help_text, repeats=False):
    """Defines a flag that takes names or paths separated by commas, and is a list.

    None of them may be empty, nor, unless it `repeats`, come twice.
    """
    serializer = flags.CsvListSerializer(",")
    flags.DEFINE(_NameListParser(repeats), name, default, help_text, serializer=serializer)


def define_selection_flags(with_dataloader):
    """Defines the flags that choose model and dataloader."""
    flags.DEFINE_string("model", None, "Method: a module in */models.")
    if with_dataloader:
        flags.DEFINE_string(
            "dataloader", None, "Source of data: a module in */dataloaders; default: the model's."
        )


def define_device_flags():
    """Defines the flags that choose devices."""
    flags.DEFINE_string(
        "cuda_device",
        None,
        "CUDA devices to use, such as 0 or 0,1; -1 uses the CPU. Default: all that are visible.",
    )
    flags.register_validator(
        "cuda_device",
        lambda value: value is None or re.fullmatch(CUDA_DEVICES, value),
        "it must be numbers or identifiers of devices, separated by commas, or -1",
    )
    settings.changeable("cuda_device")


def define_restore_flags(precision=True):
    """Defines the flags that choose a trained model, and what it is used on."""
    flags.DEFINE_string(
        "restore_path",
        None,
        "Checkpoint to restore: FOLDER/model.ckpt-STEP, or a folder, for its newest one.",
    )
    flags.DEFINE_integer(
        "restore_global_step",
        None,
        "Step of the checkpoint, when --restore_path is a folder that holds several.",
        lower_bound=0,
    )
    define_names(
        "restore_target",
        None,
        "Networks to restore, such as generator; default: all that are used.",
    )
    flags.DEFINE_bool(
        "restore_averages", True, "Use the averaged weights, where the checkpoint has any."
    )
    define_device_flags()
    if precision:
        define_precision_flag()


def define_precision_flag():
    """Defines --precision, for `keras.config.set_dtype_policy`."""
    flags.DEFINE_enum("precision", "float32", PRECISIONS, "Number format of the inner layers.")


def define_training_flags():
    """Defines the flags of optimization that all methods share."""
    define_precision_flag()
    flags.DEFINE_enum(
        "schedule", "step", schedules.SCHEDULES, "Course of the learning rate over the steps."
    )
    define_numbers(
        "milestones",
        None,
        "Steps after which --schedule=milestones reduces the rate.",
        order="ascending",
        at_least=1,
    )
    flags.DEFINE_integer(
        "plateau_patience",
        5,
        "Validations without a better result after which --schedule=plateau reduces the rate.",
        lower_bound=1,
    )
    define_float("plateau_factor", 0.5, "Factor of --schedule=plateau.", above=0, below=1)
    define_float(
        "gradient_clip_norm", 0, "Largest norm of a network's gradients; 0: any.", at_least=0
    )
    define_float(
        "average_decay",
        0,
        "Decay per step of averaged weights, such as 0.999, that validation and deployment use; "
        "0: none.",
        at_least=0,
        below=1,
    )


def define_seed_flag(help_text):
    """Defines --seed, in the range that NumPy's global generator takes."""
    flags.DEFINE_integer("seed", 0, help_text, lower_bound=0, upper_bound=2**32 - 1)


def define_distribution_flags():
    """Defines the flags that choose where training runs."""
    flags.DEFINE_enum(
        "distribute",
        "none",
        distribution.STRATEGIES,
        "Devices: one, all of this host, or several hosts (TF_CONFIG).",
    )
    settings.changeable("distribute")


def define_skip_broken_flag():
    """Defines the flag of dataloaders that read image files."""
    flags.DEFINE_bool(
        "data_skip_broken",
        False,
        "Report and leave out broken, missing and misfit images instead of stopping; in training "
        "the next one takes the place.",
    )
    # A run that a broken image ended may go on without it.
    settings.changeable("data_skip_broken")


def define_tiling_flags(default_tile):
    """Defines how large images are worked on, where the command has not done so itself."""
    if "tile" in flags.FLAGS:
        return
    flags.DEFINE_integer(
        "tile",
        default_tile,
        "Side of the tiles that larger images are cut into, in input pixels; 0: whole images"
        + ("." if default_tile is not None else "; default: what half of the memory takes."),
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "overlap",
        None,
        "Input pixels by which tiles reach over each other; default: as many as make the result "
        "equal to the untiled one.",
        lower_bound=0,
    )
    flags.DEFINE_bool(
        "self_ensemble", False, "Average the results of the 8 flips and rotations of the input."
    )
    settings.changeable("tile", "overlap")


def define_engine_flags(workers, what):
    """Defines the flags that choose where independent pieces of work run.

    Args:
        workers: default of --workers.
        what: what a worker works on, for its help.
    """
    flags.DEFINE_enum(
        "engine",
        engines.ENGINES[0],
        engines.ENGINES,
        "Where the work runs: local: here; dask: on a cluster whose workers see the same folders.",
    )
    flags.DEFINE_integer(
        "workers", workers, f"{what} at the same time with --engine=local.", lower_bound=1
    )
    flags.DEFINE_string(
        "dask_scheduler",
        None,
        "Address of the scheduler of --engine=dask, such as tcp://HOST:8786.",
    )
    settings.changeable("engine", "workers", "dask_scheduler")


def create_training_options(flags):
    """Returns the arguments of `Method` that the flags of training give."""
    return {
        "average_decay": flags.average_decay,
        "gradient_clip_norm": flags.gradient_clip_norm,
        "plateau_patience": flags.plateau_patience if flags.schedule == "plateau" else 0,
        "plateau_factor": flags.plateau_factor,
    }


def create_schedule(flags, learning_rate, decay, decay_steps):
    """Returns the learning rate of an optimizer, over the steps that the flags describe."""
    return schedules.create(
        flags.schedule, learning_rate, decay, decay_steps, flags.max_steps, flags.milestones
    )
