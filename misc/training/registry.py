"""Models, dataloaders and other parts of the packages by name: the file name is the registry.

`--model=eusr` is the one `models/eusr.py` of all packages. Only the chosen modules are imported, so
`--helpfull` shows their flags and no others.
"""

import dataclasses
import importlib
import pathlib
import types

from absl import flags

from misc.training import run_folder, settings

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = ("eusr", "score_predictors", "classifiers")
# Names of the original projects for what is called otherwise here, and data sets of one layout.
ALIASES = {
    "4pp_eusr": "perceptual_eusr",
    "basic_loader": "paired_images",
    "imagenet_c_bar": "imagenet_c",
    "imagenet_c_mixed": "imagenet_c",
}


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
                + (f"; or --{own}, a file of weights." if own else ".")
            )
        path = run_folder.find_checkpoint(flags.restore_path, flags.restore_global_step)
        method = self.model.create_model(flags)
        target = flags.restore_target or list(method.networks)
        method.restore(path, target, use_averages=flags.restore_averages)
        method.metadata = method.metadata | run_folder.read_metadata(flags.restore_path)
        return method

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


def load(kind, name):
    """Imports and returns the module of that name; a ValueError lists the known ones."""
    known = list_names(kind)
    module = known.get(_unaliased(name))
    if module is None:
        raise ValueError(f"--{kind[:-1]}={name} is unknown. Known: {', '.join(known)}")
    return importlib.import_module(module)


def load_parts(name):
    """Imports and returns the modules of that name at the top of the packages that have one."""
    return [
        importlib.import_module(f"{package}.{name}")
        for package in PACKAGES
        if (ROOT / package / f"{name}.py").is_file()
    ]


def select(argv, with_dataloader, for_use=True):
    """Finds model and dataloader on the command line, and defines their flags.

    A model that is not named is taken from the arguments.json beside `--restore_path`, or from what
    the dataloader is usually used with; a dataloader that is not named from the same arguments.json
    when the model is to be used, or from what the model is usually used with.

    Args:
        argv: command line with the program's name first.
        with_dataloader: whether the command reads data through a dataloader module.
        for_use: whether the settings in that arguments.json become the defaults of the flags of the
            same model and dataloader: a restored model then has the shape that it was trained with,
            and its data mean what they meant there.

    Raises:
        ValueError: when no model is named, or a name is unknown.
    """
    chosen = parse_some(argv, "model", "dataloader", "restore_path")
    trained = run_folder.read_arguments(chosen.restore_path) if chosen.restore_path else {}
    dataloader_name = chosen.dataloader
    model_name = chosen.model or trained.get("model")
    if model_name is None and dataloader_name:
        model_name = load("dataloaders", dataloader_name).MODEL
    if model_name is None:
        raise ValueError(f"--model is missing. Known: {', '.join(list_names('models'))}")

    selection = Selection(model_name, load("models", model_name))
    taken = _define(selection.model)
    for_use = for_use and _unaliased(trained.get("model")) == _unaliased(model_name)
    if with_dataloader:
        usual = trained.get("dataloader") if for_use else None
        name = _unaliased(dataloader_name or usual or selection.model.DATALOADER)
        selection.dataloader_name, selection.dataloader = name, load("dataloaders", name)
        of_data = _define(selection.dataloader)
        if name == _unaliased(trained.get("dataloader")):
            taken |= of_data
    if for_use:
        # Last, because dataloaders may set defaults of the model's flags.
        settings.take_over(trained, taken)
    return selection


def parse_some(argv, *names):
    """Returns the values of a few text flags, before the others can be defined and parsed."""
    private = flags.FlagValues()
    private.set_gnu_getopt(True)
    for name in names:
        flags.DEFINE_string(name, None, "", flag_values=private)
    private(argv, known_only=True)
    return private


def _define(module):
    """Defines the flags of a module; returns their names."""
    before = set(flags.FLAGS)
    module.define_flags()
    return set(flags.FLAGS) - before


def _unaliased(name):
    return ALIASES.get(name, name)
