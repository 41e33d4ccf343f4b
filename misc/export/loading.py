"""Trained models from their files alone, without naming their kind or any flag."""

import pathlib

from misc.export import frozen
from misc.training import registry, run_folder, settings, trained_weights


def restore_trained(path):
    """Returns the `Method` or `frozen.FrozenMethod` in a file; both have `predict`.

    A .pb and a SavedModel are programs: see `graph_operations` for what is refused of them, and
    load those alone that come from people whom you trust. All else is read as data.

    Args:
        path: a frozen file (.pb, .onnx, .tflite, a SavedModel folder); or a weight file .h5 or a
            checkpoint (FOLDER/model.ckpt-STEP, or the folder) that lies where training wrote it:
            what it is is read from the run's arguments.json, or from a weight file that tells it;
            or the name of weights that come with the project.

    Raises:
        ValueError: when there is no arguments.json, or the weights do not fit.
        FileNotFoundError: when there is no such checkpoint.
    """
    name = str(path)
    path = trained_weights.find(name) if name in trained_weights.paths() else pathlib.Path(path)
    if path.suffix.lower() in frozen.SUFFIXES or (path / "saved_model.pb").is_file():
        return frozen.load(path)
    found = run_folder.find_checkpoint(path)
    arguments = run_folder.read_arguments(path)
    if "model" not in arguments:
        raise ValueError(
            f"{path} is no frozen model, and there is no {run_folder.ARGUMENTS} of the run that "
            "trained it: keep the run's folder beside it, or freeze it with freeze.py."
        )
    try:
        module = registry.load("models", str(arguments["model"]))
        # The run may have started from another one.
        flags = settings.of_run(module.define_flags, arguments) | {"restore_path": str(found)}
        method = module.create_model(flags)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path}: what the {run_folder.ARGUMENTS} of its run describes cannot be made: {error}"
        ) from error
    method.restore(found, list(method.networks), use_averages=True)
    method.metadata = method.metadata | run_folder.read_metadata(path)
    return method
