"""Models, dataloaders and other parts of the packages by name: the file name is the registry.

`--model=eusr` is the one `models/eusr.py` of all packages. Only the chosen modules are imported, so
`--helpfull` shows their flags and no others.
"""

import dataclasses
import importlib
import os
import types

from absl import flags

from misc.training import run_folder, settings, trained_weights
from misc.training.command_line import PACKAGES, ROOT, parse_into, suggest

# Names of the original projects for what is called otherwise here, and data sets of one layout.
ALIASES = {
    "4pp_eusr": "perceptual_eusr",
    "basic_loader": "paired_images",
    "imagenet_c_bar": "imagenet_c",
    "imagenet_c_mixed": "imagenet_c",
    "acdc": "cityscapes",
    "dark_zurich": "cityscapes",
}

WITHOUT_FILES = (
    "python train.py --model=eusr trains on sample photographs, --model=classifier on sample "
    "digits, --dataloader=sample_ratings on made-up ratings"
)


@dataclasses.dataclass
class Selection:
    """The modules that the command line chooses."""

    model_name: str
    model: types.ModuleType
    dataloader_name: str | None = None
    dataloader: types.ModuleType | None = None

    def create_data(self, flags):
        """Returns the dataloader's data, as the model wants them.

        A model whose scales are not the images' says so in a function `data_settings(flags)` of its
        module, which returns the settings that the dataloader is to see.
        """
        if hasattr(self.model, "data_settings"):
            flags = self.model.data_settings(flags)
        return self.dataloader.create_data(flags)

    def restore(self, flags):
        """Returns the model with the weights that --restore_path names, ready for use.

        A model module whose own flag names weights says so: `WEIGHTS_FLAG = "weights"`. Without
        --restore_path the model is then taken as it is made.

        Raises:
            ValueError: without --restore_path or --weights, or when the checkpoint does not fit.
            FileNotFoundError: when there is no such checkpoint.
        """
        if not flags.restore_path:
            if self.weights_path(flags):
                return self.model.create_model(flags)
            own = getattr(self.model, "WEIGHTS_FLAG", None)
            if getattr(self.model, "EVALUATION_ONLY", False):
                raise ValueError(f"--{own} is missing: the models that this one is made of.")
            raise ValueError(
                "--restore_path is missing: a checkpoint, or the folder of a run"
                + (f"; or --{own}, a file of weights." if own else f"{trained_weights.describe()}.")
                + f" Without any: {WITHOUT_FILES}."
            )
        path = run_folder.find_checkpoint(flags.restore_path, flags.restore_global_step)
        method = self.model.create_model(flags)
        target = flags.restore_target or list(method.networks)
        self.load_weights(method, path, target, use_averages=flags.restore_averages)
        method.metadata = method.metadata | run_folder.read_metadata(flags.restore_path)
        return method

    def load_weights(self, method, path, *args, **kwargs):
        """Restores a method from a checkpoint of --restore_path; see `Method.restore`.

        Raises:
            ValueError: when the checkpoint does not fit; says so if it is one of another model.
        """
        try:
            method.restore(path, *args, **kwargs)
        except ValueError as error:
            trained = run_folder.read_arguments(path).get("model")
            package, other = (
                list_names("models").get(_unaliased(name), "").partition(".")[0]
                for name in (self.model_name, trained)
            )
            if other in ("", package):
                raise
            raise ValueError(
                f"--restore_path={path} is of a run of --model={trained}, which is no start for "
                f"--model={self.model_name}."
            ) from error

    @property
    def small_recipe(self):
        """Path of the flag file of a small run of the model, for a CPU; `None` without one."""
        recipe = getattr(self.model, "SMALL_RECIPE", None)
        return recipe and os.path.relpath(ROOT / recipe)

    def weights_path(self, flags):
        """Returns where the weights that are used come from: a path, a list, or `None`."""
        own = getattr(self.model, "WEIGHTS_FLAG", None)
        return flags.restore_path or (flags.get(own) if own else None)


def list_names(kind):
    """Returns {name: module} of all "models" or "dataloaders", without importing them."""
    return {
        path.stem: f"{package}.{kind}.{path.stem}"
        for package in PACKAGES
        for path in sorted((ROOT / package / kind).glob("[!_]*.py"))
    }


def _list_aliases(kind):
    known = list_names(kind)
    return [alias for alias, name in ALIASES.items() if name in known]


def load(kind, name):
    """Imports and returns the module of that name; a ValueError lists the known ones."""
    known = list_names(kind)
    module = known.get(_unaliased(name))
    if module is None:
        names = [*known, *_list_aliases(kind)]
        near = suggest(name, names)
        raise ValueError(f"--{kind[:-1]}={name} is unknown.{near} Known: {', '.join(names)}")
    return importlib.import_module(module)


def load_parts(name):
    """Imports and returns the modules of that name at the top of the packages that have one."""
    return [
        importlib.import_module(f"{package}.{name}")
        for package in PACKAGES
        if (ROOT / package / f"{name}.py").is_file()
    ]


def select(argv, with_dataloader, for_use=True, default_weights=None):
    """Finds model and dataloader on the command line, and defines their flags.

    A model that is not named is taken from the arguments.json beside `--restore_path`, or from what
    the dataloader is usually used with; a dataloader that is not named from the same arguments.json
    when the model is to be used, or from what the model is usually used with. Trained weights that
    --weights names are such a `--restore_path`, too.

    Args:
        argv: command line with the program's name first.
        with_dataloader: whether the command reads data through a dataloader module.
        for_use: whether the settings in that arguments.json become the defaults of the flags of the
            same model and dataloader: a restored model then has the shape that it was trained with,
            and its data mean what they meant there.
        default_weights: name of trained weights for a command line that names nothing; or `None`.

    Raises:
        ValueError: when no model is named, a name is unknown, or they are of different packages.
    """
    chosen = parse_some(argv, "model", "dataloader", "restore_path", "weights")
    is_named = any((chosen.model, chosen.dataloader, chosen.restore_path, chosen.weights))
    weights = chosen.weights if is_named else default_weights
    restore_path = chosen.restore_path
    if weights in trained_weights.paths():
        if restore_path:
            raise ValueError("--weights and --restore_path are two ways to say the same: give one.")
        restore_path = str(trained_weights.find(weights))
        flags.FLAGS.set_default("restore_path", restore_path)
    trained = run_folder.read_arguments(restore_path) if restore_path else {}
    dataloader_name = chosen.dataloader
    model_name = chosen.model or trained.get("model")
    if model_name is None and dataloader_name:
        model_name = load("dataloaders", dataloader_name).MODEL
    if model_name is None and weights and not restore_path:
        names = ", ".join(trained_weights.paths()) or "none here"
        raise ValueError(f"--weights={weights} needs --model, or comes with the project: {names}.")
    if model_name is None:
        raise ValueError(_describe_missing_model(for_use, restore_path))

    selection = Selection(model_name, load("models", model_name))
    taken = _define(selection.model)
    for_use = for_use and _unaliased(trained.get("model")) == _unaliased(model_name)
    if with_dataloader:
        usual = trained.get("dataloader") if for_use else None
        name = _unaliased(dataloader_name or usual or selection.model.DATALOADER)
        selection.dataloader_name, selection.dataloader = name, load("dataloaders", name)
        _check_match(selection)
        of_data = _define(selection.dataloader)
        if name == _unaliased(trained.get("dataloader")):
            taken |= of_data
    if for_use:
        # Last, because dataloaders may set defaults of the model's flags.
        settings.take_over(trained, taken)
    return selection


def parse_some(argv, *names):
    """Returns the values of a few text flags, before the others can be defined and parsed.

    One without a value, or a flag file that cannot be read, is a ValueError.
    """
    private = flags.FlagValues()
    private.set_gnu_getopt(True)
    for name in names:
        flags.DEFINE_string(name, None, "", flag_values=private)
    parse_into(private, argv, known_only=True)
    return private


def _describe_missing_model(for_use, restore_path):
    known = ", ".join([*list_names("models"), *_list_aliases("models")])
    if restore_path:
        return (
            f"--restore_path={restore_path} does not tell the model: no run is there. Correct it, "
            f"or give --model. Known: {known}."
        )
    run = " or --restore_path, a run's folder, which tells it" if for_use else ""
    run += trained_weights.describe() if for_use else ""
    others = "; python -m misc.degrade_folder needs no model" if for_use else ""
    without = "trained weights" if for_use else "data of your own"
    return f"--model is missing{run}. Known: {known}. Without {without}: {WITHOUT_FILES}{others}."


def _check_match(selection):
    """Raises ValueError unless the dataloader gives what the model reads: both of one package."""
    package, other = (
        module.__name__.partition(".")[0] for module in (selection.model, selection.dataloader)
    )
    if package != other:
        known = list_names("dataloaders").items()
        fitting = ", ".join(name for name, path in known if path.startswith(f"{package}."))
        raise ValueError(
            f"--dataloader={selection.dataloader_name} does not give what "
            f"--model={selection.model_name} takes, which is one of {fitting}."
        )


def _define(module):
    """Defines the flags of a module; returns their names."""
    before = set(flags.FLAGS)
    module.define_flags()
    return set(flags.FLAGS) - before


def _unaliased(name):
    return ALIASES.get(name, name)
