"""Folders of runs, as training would leave them."""

from misc.images import files
from misc.training import registry, run_folder
from tests import flag_values


def save(folder, name, metadata=None, **values):
    """Writes the folder of a run of a model, which has learned nothing; returns the model.

    Args:
        folder: folder, which is made.
        name: the model's.
        metadata: what the run knows of its data.
        **values: {flag: value}, beside those of the model's TINY.
    """
    module = registry.load("models", name)
    values = module.TINY | values
    method = module.create_model(flag_values.of(module, **values))
    folder.mkdir(parents=True, exist_ok=True)
    method.checkpoint().write(str(folder / "model.ckpt-0"))
    arguments = {"model": name} | values | {run_folder.METADATA: metadata or {}}
    files.write_json(folder / run_folder.ARGUMENTS, arguments)
    return method
