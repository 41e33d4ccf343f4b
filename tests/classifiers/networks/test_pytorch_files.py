"""Reading PyTorch's files: every format and type, and nothing in them that is run."""

import argparse
import io
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

torch = pytest.importorskip("torch", reason="PyTorch is the reference")

TYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8")


def example_tensors():
    torch.manual_seed(0)
    tensors = {kind: (100 * torch.rand(3, 4)).to(getattr(torch, kind)) for kind in TYPES}
    shared = torch.randn(5, 6, 7)
    return tensors | {
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "transposed": shared.permute(2, 0, 1),
        "part": shared[1:3, ::2, 4],
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
    }


def check(found, tensors):
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        tensor = tensor.detach()
        expected = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        np.testing.assert_array_equal(found[name], expected.numpy(), strict=True)


@pytest.mark.parametrize("new_format", [True, False])
def test_all_types_and_windows(tmp_path, new_format):
    path = tmp_path / "a.pth"
    tensors = example_tensors()
    torch.save(tensors, path, _use_new_zipfile_serialization=new_format)
    check(pytorch_files.read(path), tensors)


@pytest.mark.parametrize("new_format", [True, False])
def test_checkpoint_of_the_authors_trainer(tmp_path, new_format):
    # What they save beside the weights is of classes that exist in their code only.
    state = {f"module.{name}": value for name, value in example_tensors().items()}
    content = {
        "model": "ResNet56",
        "epoch": 3,
        "state_dict": state,
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": []},
        "monitor_best": np.float64(0.5),
        "config": argparse.Namespace(save_dir=pathlib.PurePosixPath("saved"), names=["a"]),
    }
    path = tmp_path / "model_best.pth"
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    check(pytorch_files.read(path), example_tensors())


@pytest.mark.parametrize("key", ["state_dict", "model", "net"])
def test_nested_under_the_usual_names_and_prefixes(tmp_path, key):
    path = tmp_path / "a.pt"
    state = {"module._orig_mod.a": torch.ones(2), "module._orig_mod.module.b": torch.ones(1)}
    torch.save({"step": 1, key: state}, path)
    assert set(pytorch_files.read(path)) == {"a", "module.b"}


def test_scripted_module(tmp_path):
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.Sequential(torch.nn.BatchNorm2d(4)), torch.nn.ReLU()
    )
    network.half()
    torch.jit.script(network).save(tmp_path / "a.pt")
    check(pytorch_files.read(tmp_path / "a.pt"), network.state_dict())


def write_safetensors(path, tensors, **changes):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    codes = {str(kind): code for code, kind in pytorch_files.SAFETENSORS_DTYPES.items()}
    for name, tensor in tensors.items():
        tensor = tensor.detach().contiguous()
        content = bytes(tensor.reshape(-1).view(torch.uint8)) if tensor.numel() else b""
        header[name] = {
            "dtype": codes[str(tensor.dtype).removeprefix("torch.")],
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(content)],
        } | changes
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_safetensors(tmp_path):
    tensors = {
        name: value.reshape(1) if value.ndim == 0 else value
        for name, value in example_tensors().items()
    }
    write_safetensors(tmp_path / "a.safetensors", tensors)
    check(pytorch_files.read(tmp_path / "a.safetensors"), tensors)


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
    write_safetensors(path, {"a": torch.ones(2, 3)}, **changes)
    with pytest.raises(ValueError, match=f"a.safetensors: .*{message}"):
        pytorch_files.read(path)


class _Attack:
    """A pickle of this would create a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (pathlib.Path.touch, (self.path,))


@pytest.mark.parametrize("new_format", [True, False])
def test_nothing_in_a_pickle_is_run(tmp_path, new_format):
    target = tmp_path / "created"
    content = {"state_dict": {"a": torch.ones(2)}, "config": _Attack(target)}
    path = tmp_path / "a.pth"
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    assert list(pytorch_files.read(path)) == ["a"]
    assert not target.exists()
    pickle.loads(pickle.dumps(_Attack(target)))
    assert target.exists()  # the attack itself works


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
        ([1, 2], "no dict of tensors but list"),
        ({"a": 1, "epoch": 2}, "keys a, epoch"),
        ({"state_dict": {}}, "there are no tensors"),
        (torch.nn.Linear(2, 2), "Linear, which is not run here. Save its state_dict"),
    ],
)
def test_files_without_tensors_are_errors(tmp_path, content, message):
    path = tmp_path / "a.pth"
    torch.save(content, path)
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


@pytest.mark.parametrize("new_format", [True, False])
def test_cut_files_are_errors(tmp_path, new_format):
    torch.save(
        {"a": torch.ones(400)}, tmp_path / "a.pth", _use_new_zipfile_serialization=new_format
    )
    whole = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(whole[: len(whole) - 600])
    message = "archive is incomplete" if new_format else "600 bytes short"
    with pytest.raises(ValueError, match=f"a.pth: .*{message}"):
        pytorch_files.read(tmp_path / "a.pth")


def test_unknown_types_are_named(tmp_path):
    torch.save({"a": torch.ones(4).to(torch.float8_e4m3fn)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"unknown type of values: torch.float8_e4m3fn"):
        pytorch_files.read(tmp_path / "a.pth")


def rewrite(source, target, change):
    """Copies an archive with other contents: `change` takes and returns (name, bytes)."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(*change(name, old.read(name)))


def test_storages_that_are_too_short_are_errors(tmp_path):
    torch.save({"a": torch.ones(4)}, tmp_path / "a.pth")
    cut = tmp_path / "b.pth"
    rewrite(tmp_path / "a.pth", cut, lambda n, c: (n, c[:8] if n.endswith("data/0") else c))
    with pytest.raises(ValueError, match=r"should have 16 bytes. Received: 8"):
        pytorch_files.read(cut)


def test_big_endian_files_are_errors(tmp_path):
    torch.save({"a": torch.ones(4)}, tmp_path / "a.pth")
    changed = tmp_path / "b.pth"
    rewrite(tmp_path / "a.pth", changed, lambda n, c: (n, b"big" if n.endswith("byteorder") else c))
    with pytest.raises(ValueError, match="big-endian"):
        pytorch_files.read(changed)


@settings(max_examples=60, deadline=None)
@given(
    offset=st.integers(-5, 40),
    shape=st.lists(st.integers(-1, 5), max_size=3),
    strides=st.lists(st.integers(-2, 9), max_size=3),
)
def test_windows_equal_those_of_pytorch_or_are_errors(offset, shape, strides):
    values = torch.arange(30, dtype=torch.float32)
    storage = pytorch_files.Storage(np.dtype("float32"), 30, values.numpy().tobytes())
    window = pytorch_files.Tensor(storage, offset, tuple(shape), tuple(strides))
    try:
        expected = torch.as_strided(values, shape, strides, offset)
        # PyTorch lets a negative length pass beside a length of 0.
        valid = min(shape, default=0) >= 0
    except RuntimeError:
        valid = False
    if not valid:
        with pytest.raises(ValueError, match=r"tensor"):
            window.array()
    else:
        np.testing.assert_array_equal(window.array(), expected.numpy(), strict=True)


@settings(max_examples=25, deadline=None)
@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_damaged_files_give_tensors_or_a_clear_error(tmp_path_factory, position, value):
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(3), "b": torch.zeros(2, 2)}, buffer)
    content = bytearray(buffer.getvalue())
    content[position % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.pth"
    path.write_bytes(content)
    message = ""
    try:
        found = pytorch_files.read(path)
    except ValueError as error:
        message = str(error)
    else:
        assert all(isinstance(array, np.ndarray) for array in found.values())
    assert "damaged.pth" in message or not message
