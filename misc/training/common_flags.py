"""Flag groups that several entry points and methods share."""

from absl import flags

from misc.training import distribution, schedules, settings

# The flags belong to the modules that call the functions below, also in --helpfull.
flags.disclaim_key_flags()
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


class _NumberListParser(flags.ArgumentParser):
    def __init__(self, number):
        self.number = number
        self.syntactic_help = f"{number.__name__}s separated by commas"

    def parse(self, argument):
        """Takes a list or a text such as "2,4,8"."""
        parts = argument if isinstance(argument, list | tuple) else str(argument).split(",")
        try:
            return [self.number(part) for part in parts]
        except ValueError as error:
            raise ValueError(f"{argument!r} is not a list of {self.syntactic_help}") from error

    def flag_type(self):
        """Returns the type's name, for help."""
        return f"comma separated list of {self.number.__name__}"


def define_numbers(name, default, help_text, number=int):
    """Defines a flag that takes numbers separated by commas, and is a list."""
    serializer = flags.ListSerializer(",")
    serializer.serialize = lambda values: ",".join(str(value) for value in values)
    flags.DEFINE(_NumberListParser(number), name, default, help_text, serializer=serializer)


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
    )
    flags.DEFINE_list(
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
    define_numbers("milestones", None, "Steps after which --schedule=milestones reduces the rate.")
    flags.DEFINE_integer(
        "plateau_patience",
        5,
        "Validations without a better result after which --schedule=plateau reduces the rate.",
        lower_bound=1,
    )
    flags.DEFINE_float(
        "plateau_factor", 0.5, "Factor of --schedule=plateau.", lower_bound=0, upper_bound=1
    )
    flags.DEFINE_float(
        "gradient_clip_norm", 0, "Largest norm of a network's gradients; 0: any.", lower_bound=0
    )
    flags.DEFINE_float(
        "average_decay",
        0,
        "Decay per step of averaged weights, such as 0.999, that validation and deployment use; "
        "0: none.",
        lower_bound=0,
        upper_bound=1,
    )


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
        "Side of the tiles that larger images are cut into, in input pixels; 0: whole images.",
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
