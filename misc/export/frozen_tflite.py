"""TFLite files, one per scale: batch, height and width are free.

The description is a file in a ZIP archive behind the model, where TFLite's own metadata tools keep
associated files, too; interpreters ignore it.
"""

import pathlib
import tempfile
import zipfile

import numpy as np
import tensorflow as tf

from misc.export import frozen_saved_model
from misc.images import archives

DESCRIPTION_FILE = "description.json"


def write(method, description, path):
    """Writes the file; see `misc.export.frozen`."""
    # Beside the file and not with the system's temporary files: what a kill leaves here is swept.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        # Only the way through a SavedModel keeps the names of inputs and outputs.
        frozen_saved_model.write(method, description, pathlib.Path(folder))
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=[frozen_saved_model.SIGNATURE]
        )
        path.write_bytes(converter.convert())
    with zipfile.ZipFile(path, "a") as archive:
        # Without the time at which it was written: equal models are equal files.
        archive.writestr(zipfile.ZipInfo(DESCRIPTION_FILE), description.to_json())


def read(path):
    """Returns the file's description, `None` if it has none, and its path, for `open_model`."""
    text = None
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if DESCRIPTION_FILE in archive.namelist():
                text = archives.read_member(archive, DESCRIPTION_FILE).decode()
    return text, path


def open_model(path, description, threads):
    """Returns the file as a function; see `misc.export.frozen`."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads or None)
    runner = interpreter.get_signature_runner(frozen_saved_model.SIGNATURE)

    def run(images, scale):
        del scale  # the file has one
        results = runner(**{description.images: np.asarray(images, np.float32)})
        return {key: results[name] for key, name in description.outputs.items()}

    return run
