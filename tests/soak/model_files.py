"""Weights, runs and frozen models: a small whole file of each kind, and its reader."""

import functools

import numpy as np

from tests.soak.data_files import Kind


@functools.cache
def _small_network():
    import keras

    from classifiers.networks import layers

    inputs = keras.Input((16, 16, 3), name="images")
    x = layers.normalise(inputs, (0.5,) * 3, (0.5,) * 3)
    x = keras.layers.Conv2D(4, 3, name="conv1")(x)
    x = keras.layers.BatchNormalization(name="bn1")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(5, name="fc")(x), name="small")


def _pytorch_tensors():
    from classifiers.networks import pytorch_weights

    random = np.random.default_rng(0)
    return {
        name: random.normal(size=pytorch_weights._stored_shape(*target)).astype(np.float32)
        for name, target in pytorch_weights.tensor_names(_small_network()).items()
    }


def _make_pytorch(kind):
    def make(folder):
        from tests.classifiers.networks import test_pytorch_files

        if kind == "safetensors":
            path = folder / "weights.safetensors"
            test_pytorch_files.write_safetensors(path, _pytorch_tensors())
            return path
        return test_pytorch_files.write(folder, f"types.{kind}", "weights.pth")

    return make


def _read_pytorch(path):
    from classifiers.networks import pytorch_files, pytorch_weights

    tensors = pytorch_files.read(path)
    for tensor in tensors.values():
        np.asarray(tensor)
    if path.suffix == ".safetensors":
        pytorch_weights.assign(_small_network(), tensors, str(path))


def _make_keras(name):
    def make(folder):
        from misc.training import weight_files

        if name.endswith(".keras"):
            _small_network().save(folder / name)
        else:
            weight_files.write(folder / name, {"predictor": _small_network()}, step=3)
        return folder / name

    return make


def _read_converted(path):
    from classifiers.networks import keras_weights

    keras_weights.assign(_small_network(), keras_weights.read(path), str(path))


def _read_weights(path):
    from misc.training import weight_files

    weight_files.restore(path, {"predictor": _small_network()})


def weights():
    return {
        "PyTorch's .pth": Kind(_make_pytorch("new"), _read_pytorch),
        "PyTorch's old .pth": Kind(_make_pytorch("old"), _read_pytorch),
        ".safetensors": Kind(_make_pytorch("safetensors"), _read_pytorch),
        "a network's .weights.h5": Kind(_make_keras("net.weights.h5"), _read_converted),
        "a network's .keras": Kind(_make_keras("net.keras"), _read_converted),
        "a run's .h5": Kind(_make_keras("run.h5"), _read_weights),
        "a run's .weights.h5": Kind(_make_keras("run.weights.h5"), _read_weights),
    }


def _make_run(name, model="eusr"):
    def make(folder):
        from misc.training import registry, run_folder
        from tests import flag_values

        module = registry.load("models", model)
        flags = flag_values.of(module, **module.TINY | MADE_WITH.get(model, {}))
        run = run_folder.RunFolder(folder, module.create_model(flags, training=True), 1)
        run.write_arguments(flags.to_dict() | {"model": model}, {"class_names": ["a", "b"]})
        run.append_history(1, {"loss": 0.5})
        run.append_history(2, {"loss": 0.25})
        run.save(2)
        return folder / name

    return make


MADE_WITH = {"classifier": {"num_classes": 10}}


def _read_run(path):
    from misc.export import loading

    loading.restore_trained(path.parent)


def _read_arguments(path):
    from absl import flags

    from misc.training import common_flags, registry, settings

    _read_run(path)
    command = ["validate.py", f"--restore_path={path.parent}"]
    with settings.fresh_flags():
        common_flags.define_restore_flags()
        common_flags.define_selection_flags(with_dataloader=True)
        selection = registry.select(command, with_dataloader=True)
        flags.FLAGS(command)
        selection.restore(settings.parsed())


def _read_history(path):
    from misc.training import run_folder

    run_folder.read_history(path.parent)


def runs():
    names = {
        "a checkpoint's index": "model.ckpt-2.index",
        "a checkpoint's values": "model.ckpt-2.data-00000-of-00001",
        "a folder's note of its checkpoints": "checkpoint",
    }
    found = {kind: Kind(_make_run(name), _read_run) for kind, name in names.items()}
    for model in ("eusr", "classifier"):
        kind = f"the arguments of a run of {model}"
        found[kind] = Kind(_make_run("arguments.json", model), _read_arguments)
    return found | {"a run's history": Kind(_make_run("history.jsonl"), _read_history)}


def _make_frozen(form, name):
    def make(folder):
        from misc.export import frozen
        from tests.misc.export import test_frozen

        method = test_frozen.SmallUpscaler()
        for result in frozen.freeze(method, folder / "model", [form]):
            assert result.error is None, result.error
        return folder / name

    return make


def _read_frozen(path):
    from misc.export import loading

    while path.parent.name.endswith(("_saved_model", "variables")):
        path = path.parent
    images = np.full((1, 5, 6, 3), 100, np.float32)
    np.asarray(loading.restore_trained(path).predict(images, 2)["output"])


def frozen_models():
    folder = "model_saved_model"
    names = {
        "a frozen graph": ("pb", "model.pb"),
        "a SavedModel's graph": ("saved_model", f"{folder}/saved_model.pb"),
        "a SavedModel's index": ("saved_model", f"{folder}/variables/variables.index"),
        "a SavedModel's values": (
            "saved_model",
            f"{folder}/variables/variables.data-00000-of-00001",
        ),
        "a SavedModel's description": ("saved_model", f"{folder}/description.json"),
        "ONNX": ("onnx", "model_x2.onnx"),
        "TFLite": ("tflite", "model_x2.tflite"),
    }
    return {kind: Kind(_make_frozen(*made), _read_frozen) for kind, made in names.items()}
