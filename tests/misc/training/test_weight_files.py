"""Weight files: Keras reads ours, we read Keras 2's, misfits are named, nothing is executed."""

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

from misc.images import files
from misc.training import weight_files
from tests import forks


def build(features=4, names=("first", "norm", "second")):
    pixels = keras.Input((8, 8, 3))
    maps = keras.layers.DepthwiseConv2D(3, name=names[0])(pixels)
    maps = keras.layers.BatchNormalization(name=names[1])(maps)
    outputs = keras.layers.Dense(features, name=names[2])(keras.layers.Flatten()(maps))
    return keras.Model(pixels, outputs)


def randomize(network, seed=0):
    random = np.random.default_rng(seed)
    for variable in network.variables:
        variable.assign(random.uniform(size=variable.shape))
    return network


def assert_equal(first, second):
    for a, b in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["ava.h5", "ava.weights.h5"])
def test_a_full_disk_ends_neither_the_process_nor_the_file_that_was_there(tmp_path, name):
    weight_files.write(tmp_path / name, {"predictor": build()})
    before = (tmp_path / name).read_bytes()

    def write():
        with forks.full_disk(3000):
            weight_files.write(tmp_path / name, {"predictor": build()})

    # In a fork, because HDF5 would end the whole process.
    assert forks.run(write) == forks.OS_ERROR
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("name", ["ava.h5", "ava.weights.h5"])
def test_round_trip_and_keras_itself_reads_it(tmp_path, name):
    network, again, by_keras = randomize(build()), build(), build()
    weight_files.write(tmp_path / name, {"predictor": network}, step=12)
    step = weight_files.restore(tmp_path / name, {"predictor": again})
    assert step == (0 if "weights" in name else 12)
    by_keras.load_weights(tmp_path / name)
    assert_equal(network, again)
    assert_equal(network, by_keras)


def test_several_networks_and_one_of_them(tmp_path):
    networks = {"generator": randomize(build()), "discriminator": randomize(build(2), 1)}
    weight_files.write(tmp_path / "all.h5", networks)
    again = {"generator": build(), "discriminator": build(2)}
    weight_files.restore(tmp_path / "all.h5", again)
    for name in networks:
        assert_equal(networks[name], again[name])
    alone = build(2)
    weight_files.restore(tmp_path / "all.h5", {"discriminator": alone})
    assert_equal(networks["discriminator"], alone)
    with pytest.raises(ValueError, match="no weights of predictor"):
        weight_files.restore(tmp_path / "all.h5", {"predictor": alone})
    with pytest.raises(ValueError, match="holds one network"):
        weight_files.write(tmp_path / "all.weights.h5", networks)


def write_as_keras_2(path, network, rename, group=None):
    """Writes the layout of Keras 2 and tf.keras 1.11 with h5py alone."""
    with h5py.File(path, "w") as file:
        root = file.create_group(group) if group else file
        layers = [layer for layer in network.layers if layer.weights]
        root.attrs["layer_names"] = [rename(layer.name).encode() for layer in layers]
        root.attrs["keras_version"] = b"2.1.6-tf"
        for layer in layers:
            name = rename(layer.name)
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            names = [
                f"{name}/{'depthwise_' if depthwise and v.name == 'kernel' else ''}{v.name}:0"
                for v in layer.weights
            ]
            holder = root.create_group(name)
            holder.attrs["weight_names"] = [n.encode() for n in names]
            for weight_name, variable in zip(names, layer.weights, strict=True):
                holder.create_dataset(weight_name, data=variable.numpy())


@pytest.mark.parametrize("group", [None, "model_weights"])
@pytest.mark.parametrize("rename", [str, lambda name: f"old_{name}"], ids=["same", "other"])
def test_files_of_keras_2(tmp_path, rename, group):
    network, again = randomize(build()), build()
    write_as_keras_2(tmp_path / "ava.h5", network, rename, group)
    weight_files.restore(tmp_path / "ava.h5", {"predictor": again})
    assert_equal(network, again)


def test_misfits_are_listed_and_change_nothing(tmp_path):
    path = tmp_path / "ava.h5"
    weight_files.write(path, {"predictor": build(5, ("first", "norm", "third"))})
    network = randomize(build())
    before = [v.numpy() for v in network.weights]
    with pytest.raises(ValueError, match="second/kernel is missing") as raised:
        weight_files.restore(path, {"predictor": network})
    assert "third/bias is in the file alone" in str(raised.value)
    assert str(path) in str(raised.value)
    weight_files.write(path, {"predictor": build(5)})
    with pytest.raises(ValueError, match=r"second/bias has shape \[5\], the model's is \[4\]"):
        weight_files.restore(path, {"predictor": network})
    for variable, value in zip(network.weights, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_a_part_of_a_file(tmp_path):
    weight_files.write(tmp_path / "ava.h5", {"predictor": randomize(build())})
    whole = build()
    body = keras.Model(whole.input, whole.get_layer("norm").output)
    with pytest.raises(ValueError, match="in the file alone"):
        weight_files.restore(tmp_path / "ava.h5", {"predictor": body})
    weight_files.restore(tmp_path / "ava.h5", {"predictor": body}, partly=True)
    expected = randomize(build())
    assert_equal(body, keras.Model(expected.input, expected.get_layer("norm").output))


def test_broken_foreign_and_linked_files_are_refused(tmp_path):
    network = build()
    (tmp_path / "text.h5").write_text("no weights")
    with pytest.raises(ValueError, match=r"Cannot read the weight file .*text\.h5"):
        weight_files.restore(tmp_path / "text.h5", {"predictor": network})
    weight_files.write(tmp_path / "ava.h5", {"predictor": network})
    with h5py.File(tmp_path / "ava.h5", "a") as file:
        del file["first"]["first/kernel"]
        file["first"]["first/kernel"] = h5py.ExternalLink(str(tmp_path / "x.h5"), "/secret")
    with pytest.raises(ValueError, match="is a link"):
        weight_files.restore(tmp_path / "ava.h5", {"predictor": network})


def replace_kernel(path, name, create):
    """Puts another data set in the place of one: `create(group, name, shape)` makes it."""
    with h5py.File(path, "a") as file:
        group, _, name = name.rpartition("/")
        shape = file[group][name].shape
        del file[group][name]
        create(file[group], name, shape)


def virtual(group, name, shape):
    layout = h5py.VirtualLayout(shape, "f4")
    layout[...] = h5py.VirtualSource("other.h5", "secret", shape)
    group.create_virtual_dataset(name, layout)


def huge(group, name, shape):
    # Nothing is stored of it.
    group.create_dataset(name, (1 << 40,), "f4", chunks=(1 << 16,))


CRAFTED = {
    "virtual": (virtual, "no array of numbers that the file itself holds"),
    "external": (
        lambda group, name, shape: group.create_dataset(
            name, shape, "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
        ),
        "no array of numbers that the file itself holds",
    ),
    "huge": (huge, r"\[1099511627776\]"),
    "text": (
        lambda group, name, shape: group.create_dataset(name, data=b"text"),
        "no array of numbers that the file itself holds",
    ),
}


@pytest.mark.parametrize("kind", CRAFTED)
@pytest.mark.parametrize("name", ["ava.h5", "ava.weights.h5"])
def test_arrays_that_lie_elsewhere_or_fill_memory_are_not_read(tmp_path, name, kind):
    create, message = CRAFTED[kind]
    network = build()
    weight_files.write(tmp_path / name, {"predictor": network})
    place = "second/second/kernel" if name == "ava.h5" else "layers/dense/vars/0"
    replace_kernel(tmp_path / name, place, create)
    with pytest.raises(ValueError, match=rf"(?s){name}.*({message})"):
        weight_files.restore(tmp_path / name, {"predictor": network})


def test_a_heap_that_hdf5_would_read_for_ever_is_refused(tmp_path):
    weight_files.write(tmp_path / "ava.h5", {"predictor": build()})
    content = bytearray((tmp_path / "ava.h5").read_bytes())
    heap = content.index(b"GCOL") + 16
    content[heap : heap + 512] = bytes(512)
    (tmp_path / "ava.h5").write_bytes(content)
    with pytest.raises(ValueError, match=r"ava\.h5: a heap of texts is damaged"):
        weight_files.restore(tmp_path / "ava.h5", {"predictor": build()})


@pytest.mark.parametrize(("key", "value"), [("step", "text"), ("layer_names", 7)])
def test_attributes_of_another_kind_are_errors(tmp_path, key, value):
    weight_files.write(tmp_path / "ava.h5", {"predictor": build()})
    with h5py.File(tmp_path / "ava.h5", "a") as file:
        file.attrs[key] = value
    with pytest.raises(ValueError, match=r"Cannot read the weight file .*ava\.h5"):
        weight_files.restore(tmp_path / "ava.h5", {"predictor": build()})


def test_long_lists_of_names_are_split_as_keras_does(tmp_path, monkeypatch):
    monkeypatch.setattr(legacy_h5_format, "HDF5_OBJECT_HEADER_LIMIT", 40)
    network, again = randomize(build()), build()
    weight_files.write(tmp_path / "ava.h5", {"predictor": network})
    with h5py.File(tmp_path / "ava.h5") as file:
        assert "layer_names0" in file.attrs
    again.load_weights(tmp_path / "ava.h5")
    assert_equal(network, again)
    weight_files.restore(tmp_path / "ava.h5", {"predictor": randomize(again, 3)})
    assert_equal(network, again)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    network = randomize(build())
    weight_files.write(tmp_path / "ava.h5", {"predictor": network})

    def fail(path):
        raise OSError("disk full")

    monkeypatch.setattr(files, "_flush", fail)
    with pytest.raises(OSError, match="disk full"):
        weight_files.write(tmp_path / "ava.h5", {"predictor": build()})
    again = build()
    weight_files.restore(tmp_path / "ava.h5", {"predictor": again})
    assert_equal(network, again)
    assert [path.name for path in tmp_path.iterdir()] == ["ava.h5"]


def test_names():
    assert weight_files.stem("train/ava.h5") == "ava"
    assert weight_files.stem("ava.weights.h5") == "ava"
    for name in ("ava", "ava.keras", "../ava.h5", ".h5"):
        with pytest.raises(ValueError, match="--weight_filename"):
            weight_files.check_name(name)
