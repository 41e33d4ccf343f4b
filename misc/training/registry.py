"""Models and dataloaders by name: the file name is the registry.

`--model=eusr` is the one `models/eusr.py` of all packages. Only the chosen modules are imported, so
`--helpfull` shows their flags and no others.
"""

import dataclasses
import importlib
import pathlib
import types

from absl import flags

from misc.export import frozen
from misc.training import run_folder

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = ("eusr", "score_predictors", "classifiers")
# Names of the original projects that are no Python module names.
ALIASES = {"4pp_eusr": "perceptual_eusr"}


@dataclasses.dataclass
class Selection:
    """The chosen modules, and the flags that the model's module defined."""

    model_name: str
    model: types.ModuleType
    dataloader_name: str | None
    dataloader: types.ModuleType | None
    model_flags: list

    def restore(self, flags):
        """Returns the model with the weights that --restore_path names, ready for use.

        A model module whose own flag names weights says so: `WEIGHTS_FLAG = "weights"`. Without
        --restore_path the model is then taken as it is made.

        Args:
            flags: parsed flags, with those of `common_flags.define_restore_flags`.

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
        return flags.restore_path or (getattr(flags, own) if own else None)

    def complete(self, flags):
        """Lets the dataloader set flags that only its data tell, where it has `complete_flags`."""
        if hasattr(self.dataloader, "complete_flags"):
            self.dataloader.complete_flags(flags)

    def describe_data(self, flags):
        """Returns {name: JSON value}: what a run keeps of its data, such as the names of classes.

        A dataloader tells it in an optional function `describe_data(flags)` of its module. It
        becomes part of the trained model's `metadata`, and so of frozen files.
        """
        describe = getattr(self.dataloader, "describe_data", None)
        return describe(flags) if describe else {}

    def create_batches(self, flags, split, seed):
        """Returns the dataloader's batches of a split, as the model wants them.

        A model whose scales are not the images' says so in a function `data_flags(flags)` of its
        module, which returns the flags that the dataloader is to see.
        """
        if hasattr(self.model, "data_flags"):
            flags = self.model.data_flags(flags)
        return self.dataloader.create_batches(flags, split, seed)


def restore_trained(path):
    """Returns a trained model that can be used as it is, without naming its kind or any flag.

    Args:
        path: a frozen file (.pb, .onnx, .tflite, a SavedModel folder); or a weight file .h5 or a
            checkpoint (FOLDER/model.ckpt-STEP, or the folder) that lies where training wrote it:
            what it is is read from the run's arguments.json.

    Returns:
        `Method` or `frozen.FrozenMethod`; both have `predict`.

    Raises:
        ValueError: when there is no arguments.json, or the weights do not fit.
        FileNotFoundError: when there is no such checkpoint.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() in frozen.SUFFIXES or (path / "saved_model.pb").is_file():
        return frozen.load(path)
    found = run_folder.find_checkpoint(path)
    settings = run_folder.read_arguments(path)
    if "model" not in settings:
        raise ValueError(
            f"{path} is no frozen model, and there is no {run_folder.ARGUMENTS} of the run that "
            "trained it: keep the run's folder beside it, or freeze it with freeze.py."
        )
    # The run may have started from another one.
    settings = types.SimpleNamespace(**settings | {"restore_path": str(found)})
    method = load("models", settings.model).create_model(settings)
    method.restore(found, list(method.networks), use_averages=True)
    method.metadata = method.metadata | run_folder.read_metadata(path)
    return method


def list_names(kind):
    """Returns {name: module} of all modules of a kind, without importing them.

    Args:
        kind: "models" or "dataloaders".
    """
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package / kind).glob("*.py")):
            if not path.stem.startswith("_"):
                found[path.stem] = f"{package}.{kind}.{path.stem}"
    return found


def load(kind, name):
    """Imports and returns the module of that name.

    Raises:
        ValueError: for an unknown name; lists the known ones.
    """
    known = list_names(kind)
    module = known.get(_unaliased(name))
    if module is None:
        raise ValueError(f"--{kind[:-1]}={name} is unknown. Known: {', '.join(known)}")
    return importlib.import_module(module)


def load_networks():
    """Imports and returns `classifiers.networks`, for commands that build networks by name."""
    return importlib.import_module("classifiers.networks")


def select(argv, with_dataloader, for_use=True):
    """Finds model and dataloader on the command line, and defines their flags.

    A model that is not named is taken from the arguments.json beside `--restore_path`, or from what
    the dataloader is usually used with; a dataloader that is not named from the same arguments.json
    when the model is to be used, or from what the model is usually used with.

    Args:
        argv: command line with the program's name first.
        with_dataloader: whether the command reads data through a dataloader module.
        for_use: whether the model's settings in that arguments.json become the defaults of its
            flags, so that a restored model has the shape that it was trained with.

    Returns:
        `Selection`.

    Raises:
        ValueError: when no model is named, or a name is unknown.
    """
    chosen = _parse(argv)
    trained = {}
    if chosen.restore_path:
        trained = run_folder.read_arguments(chosen.restore_path)
    dataloader_name = chosen.dataloader
    model_name = chosen.model or trained.get("model")
    if model_name is None and dataloader_name:
        model_name = load("dataloaders", dataloader_name).MODEL
    if model_name is None:
        raise ValueError(f"--model is missing. Known: {', '.join(list_names('models'))}")

    model = load("models", model_name)
    before = set(flags.FLAGS)
    model.define_flags()
    model_flags = sorted(set(flags.FLAGS) - before)
    same_model = _unaliased(trained.get("model")) == _unaliased(model_name)
    dataloader = None
    if with_dataloader:
        usual = trained.get("dataloader") if for_use and same_model else None
        dataloader_name = dataloader_name or usual or model.DATALOADER
        dataloader = load("dataloaders", dataloader_name)
        dataloader.define_flags()
    if for_use and same_model:
        # Last, because dataloaders may set defaults of the model's flags.
        for name in set(model_flags) & set(trained):
            flags.FLAGS.set_default(name, trained[name])
    return Selection(model_name, model, dataloader_name, dataloader, model_flags)


def _unaliased(name):
    return ALIASES.get(name, name)


def _parse(argv):
    # A private set of flags: the real ones cannot be parsed before the modules define theirs.
    private = flags.FlagValues()
    private.set_gnu_getopt(True)
    for name in ("model", "dataloader", "restore_path"):
        flags.DEFINE_string(name, None, "", flag_values=private)
    private(argv, known_only=True)
    return private
