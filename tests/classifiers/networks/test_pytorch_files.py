"""Reading PyTorch's files: every format and type, and nothing in them that is run."""

import contextlib
import json
import pathlib
import pickle
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers.networks import pytorch_files
from misc.images import archives
from tests import references

# Files that PyTorch wrote, in its format since 1.6 ("new") and in the one before ("old").
STORED = references.load("pytorch_files")
FORMATS = ("new", "old")


def content_of(name):
    return STORED[f"file/{name}"].tobytes()


def tensors_of(group):
    start = f"tensor/{group}/"
    return {n.removeprefix(start): value for n, value in STORED.items() if n.startswith(start)}


def write(folder, name, target="a.pth"):
    path = folder / target
    path.write_bytes(content_of(name))
    return path


def load(path):
    return {name: np.asarray(tensor) for name, tensor in pytorch_files.read(path).items()}


def check(found, group):
    expected = tensors_of(group)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, strict=True)


@pytest.mark.parametrize("kind", FORMATS)
def test_all_types_and_windows(tmp_path, kind):
    check(pytorch_files.read(write(tmp_path, f"types.{kind}")), "example")


@pytest.mark.parametrize("kind", FORMATS)
def test_checkpoint_of_the_authors_trainer(tmp_path, kind):
    # What they save beside the weights is of classes that exist in their code only.
    check(pytorch_files.read(write(tmp_path, f"trainer.{kind}")), "example")


@pytest.mark.parametrize("key", ["state_dict", "model", "net"])
def test_nested_under_the_usual_names_and_prefixes(tmp_path, key):
    path = write(tmp_path, f"nested_{key}.new")
    assert set(pytorch_files.read(path)) == {"a", "module.b"}


def test_scripted_module(tmp_path):
    check(pytorch_files.read(write(tmp_path, "scripted.new")), "scripted")


def write_safetensors(path, tensors, **changes):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    codes = {str(kind): code for code, kind in pytorch_files.SAFETENSORS_DTYPES.items()}
    for name, tensor in tensors.items():
        content = tensor.tobytes()
        header[name] = {
            "dtype": codes[tensor.dtype.name],
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(content)],
        } | changes
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_safetensors(tmp_path):
    write_safetensors(tmp_path / "a.safetensors", tensors_of("example"))
    check(pytorch_files.read(tmp_path / "a.safetensors"), "example")


def test_bfloat16_of_safetensors(tmp_path):
    values = np.array([1.5, -2.0, 3.140625], np.float32)
    upper_halves = values.view(np.int16)[1::2]
    write_safetensors(tmp_path / "a.safetensors", {"a": upper_halves}, dtype="BF16")
    np.testing.assert_array_equal(pytorch_files.read(tmp_path / "a.safetensors")["a"], values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "F4"}, "unknown type F4"),
        ({"data_offsets": [0, 1000]}, "of 24 bytes"),
        ({"data_offsets": [8, 4]}, "of 24 bytes"),
        ({"shape": [100]}, "should have 400 bytes"),
        ({"shape": [-2, 3]}, "shape"),
    ],
)
def test_broken_safetensors_are_errors(tmp_path, changes, message):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"a": np.ones((2, 3), np.float32)}, **changes)
    with pytest.raises(ValueError, match=f"a.safetensors: .*{message}"):
        pytorch_files.read(path)


@pytest.mark.parametrize("kind", FORMATS)
def test_nothing_in_a_pickle_is_run(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, f"attack.{kind}")
    assert list(pytorch_files.read(path)) == ["a"]
    assert not pathlib.Path("created").exists()
    # The attack itself is there: the pickle names the function and the file that it would create.
    if kind == "new":
        with zipfile.ZipFile(path) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
            content = archive.read(name)
    else:
        content = path.read_bytes()
    assert b"touch" in content
    assert b"created" in content


@pytest.mark.parametrize("call", ["os.system", "builtins.eval", "torch.load"])
def test_calls_by_name_are_not_run(tmp_path, call):
    module, name = call.rsplit(".", 1)
    # GLOBAL, argument, REDUCE: what an attacker writes by hand; as the state itself.
    program = f"c{module}\n{name}\n(S'touch {tmp_path}/created'\ntR.".encode()
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", program)
    with pytest.raises(ValueError, match=f"class {call}, which is not run here"):
        pytorch_files.read(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("list", "no dict of tensors but list"),
        ("numbers", "keys a, epoch"),
        ("empty", "there are no tensors"),
        ("module", "Linear, which is not run here. Save its state_dict"),
    ],
)
def test_files_without_tensors_are_errors(tmp_path, content, message):
    path = write(tmp_path, f"{content}.new")
    with pytest.raises(ValueError, match=f"a.pth: .*{message}"):
        pytorch_files.read(path)


@pytest.mark.parametrize("content", [b"", b"no pickle", b"\x80\x02K\x01.", pickle.dumps({"a": 1})])
def test_other_files_are_errors(tmp_path, content):
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a.pth: it is no file of torch.save"):
        pytorch_files.read(path)
    with pytest.raises(FileNotFoundError):
        pytorch_files.read(tmp_path / "b.pth")


@pytest.mark.parametrize(
    ("kind", "message"), [("new", "archive is incomplete"), ("old", "600 bytes short")]
)
def test_cut_files_are_errors(tmp_path, kind, message):
    path = write(tmp_path, f"long.{kind}")
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(ValueError, match=f"a.pth: .*{message}"):
        pytorch_files.read(path)


def test_unknown_types_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"unknown type of values: torch.float8_e4m3fn"):
        pytorch_files.read(write(tmp_path, "float8.new"))


def rewrite(source, target, change):
    """Copies an archive with other contents: `change` takes and returns (name, bytes)."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(*change(name, old.read(name)))


def test_values_are_read_of_wanted_tensors_only(tmp_path):
    cut = tmp_path / "b.pth"
    rewrite(write(tmp_path, "two.new"), cut, lambda n, c: (n, b"" if n.endswith("data/0") else c))
    found = pytorch_files.read(cut)
    readable = []
    for name, tensor in found.items():
        with contextlib.suppress(ValueError):
            readable.append(np.asarray(tensor) is not None and name)
    assert 0 < len(readable) < len(found)


@pytest.mark.parametrize("member", ["data/0", "data.pkl"])
def test_archives_that_would_fill_memory_are_refused(tmp_path, member):
    bomb = tmp_path / "b.pth"
    size = archives.HARMLESS_BYTES + 1
    with (
        zipfile.ZipFile(write(tmp_path, "short.new")) as old,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
    ):
        for name in old.namelist():
            new.writestr(name, bytes(size) if name.endswith(member) else old.read(name))
    with pytest.raises(ValueError, match=rf"b\.pth: .*{member} would unpack from .* to {size}"):
        pytorch_files.read(bomb)


def test_a_small_compressed_archive_is_read(tmp_path):
    packed = tmp_path / "b.pth"
    with (
        zipfile.ZipFile(write(tmp_path, "types.new")) as old,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    check(pytorch_files.read(packed), "example")


def test_modules_that_lie_in_each_other_end(tmp_path):
    # c MODULE, called, its state {"a": itself, "b": itself}.
    program = b"\x80\x02c__torch__\nM\n)Rq\x00}(X\x01\x00\x00\x00ah\x00X\x01\x00\x00\x00bh\x00ub."
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a/data.pkl", program)
    with pytest.raises(ValueError, match=r"a\.pth: its modules lie in each other without end"):
        pytorch_files.read(tmp_path / "a.pth")


def test_storages_that_are_too_short_are_errors(tmp_path):
    cut = tmp_path / "b.pth"
    rewrite(
        write(tmp_path, "short.new"), cut, lambda n, c: (n, c[:8] if n.endswith("data/0") else c)
    )
    with pytest.raises(ValueError, match=r"should have 16 bytes. Received: 8"):
        load(cut)


def test_big_endian_files_are_errors(tmp_path):
    changed = tmp_path / "b.pth"
    source = write(tmp_path, "short.new")
    rewrite(source, changed, lambda n, c: (n, b"big" if n.endswith("byteorder") else c))
    with pytest.raises(ValueError, match="big-endian"):
        pytorch_files.read(changed)


@settings(max_examples=60, deadline=None)
@given(
    offset=st.integers(-5, 40),
    shape=st.lists(st.integers(-1, 5), max_size=3),
    strides=st.lists(st.integers(-2, 9), max_size=3),
)
def test_windows_are_what_strides_mean_or_errors(offset, shape, strides):
    values = np.arange(30, dtype=np.float32)
    storage = pytorch_files.Storage("a.pth", np.dtype("float32"), 30, values.tobytes)
    window = pytorch_files.Tensor(storage, offset, tuple(shape), tuple(strides))
    valid = offset >= 0 and len(shape) == len(strides) and min([0, *shape, *strides]) >= 0
    if valid:
        places = np.full(shape, offset)
        for axis, (length, stride) in enumerate(zip(shape, strides, strict=True)):
            steps = stride * np.arange(length)
            places += steps.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        valid = places.max(initial=0) < 30
    if valid:
        np.testing.assert_array_equal(window, values[places], strict=True)
    else:
        with pytest.raises(ValueError, match=r"tensors of a\.pth: a tensor"):
            np.asarray(window)


@settings(max_examples=25, deadline=None)
@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_damaged_files_give_tensors_or_a_clear_error(tmp_path_factory, position, value):
    content = bytearray(content_of("two.new"))
    content[position % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.pth"
    path.write_bytes(content)
    message = ""
    try:
        found = load(path)
    except ValueError as error:
        message = str(error)
    else:
        assert all(isinstance(array, np.ndarray) for array in found.values())
    assert "damaged.pth" in message or not message


@pytest.mark.slow
def test_stored_files_are_those_of_the_installed_pytorch(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is the reference")
    from tests.classifiers.networks import torch_files

    for name, content in torch_files.files().items():
        if name.startswith(("types", "trainer")):
            (tmp_path / "a.pth").write_bytes(content)
            check(pytorch_files.read(tmp_path / "a.pth"), "example")
