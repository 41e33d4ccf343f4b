"""SavedModel folders, with one signature of the frozen graph's names."""

import tensorflow as tf

from misc.export import frozen_graph, graph_operations

DESCRIPTION_FILE = "description.json"
SIGNATURE = "serving_default"


def write(method, description, path):
    """Writes the folder; see `misc.export.frozen`."""
    module = tf.Module()
    module.serve = frozen_graph.serving_function(method, description)
    # Keras variables are no tf.Variable; those behind them have to be reachable from the module.
    module.weights = [variable.value for variable in method.variables()]
    concrete = module.serve.get_concrete_function()
    tf.saved_model.save(module, str(path), signatures={SIGNATURE: concrete})
    (path / DESCRIPTION_FILE).write_text(description.to_json())


def read(path):
    """Returns the folder's description, `None` if it has none, and its path, for `open_model`.

    A model that does anything else than compute is a ValueError; see `graph_operations`.
    """
    if not (path / "saved_model.pb").is_file():
        raise ValueError("it is no SavedModel folder: it has no saved_model.pb")
    graph_operations.check_saved_model(path)
    file = path / DESCRIPTION_FILE
    return file.read_text() if file.is_file() else None, path


def open_model(path, description, threads):
    """Returns the folder as a function; see `misc.export.frozen`."""
    del threads  # one setting for the whole process
    model = tf.saved_model.load(str(path))
    function = model.signatures[SIGNATURE]

    def run(images, scale, keep=model):  # the function alone does not keep its variables alive
        arguments = {description.images: tf.convert_to_tensor(images, tf.float32)}
        if description.scale:
            arguments[description.scale] = tf.constant(scale, tf.float32)
        outputs = function(**arguments)
        return {key: outputs[name] for key, name in description.outputs.items()}

    return run
