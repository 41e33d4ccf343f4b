"""Reads tensors from PyTorch's files (.pth, .pt) and from .safetensors, without PyTorch.

A .pth file is a pickle, which could run any program when it is loaded as such. Here nothing of it
is run: the few names that make up tensors are rebuilt by this module, and every other class or
function in the pickle becomes an inert `Unread`. What the file says about shapes is checked against
the bytes that are there.
"""

import collections
import dataclasses
import io
import json
import math
import pathlib
import pickle
import struct
import sys
import zipfile
import zlib

import numpy as np

# Names under which checkpoints keep the tensors of the network.
NESTED = ("state_dict", "model_state_dict", "model", "net", "network")
# What wrappers put before every name: DataParallel, torch.compile.
PREFIXES = ("module.", "_orig_mod.")
# First number of the format before PyTorch 1.6 (torch/serialization.py).
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
ZIP_MAGIC = b"PK\x03\x04"

BFLOAT16 = "bfloat16"
DTYPES = {
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": BFLOAT16,
    "int64": np.int64,
    "int32": np.int32,
    "int16": np.int16,
    "int8": np.int8,
    "uint8": np.uint8,
    "bool": np.bool_,
}
STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
}
SAFETENSORS_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
MAXIMUM_HEADER = 100_000_000  # the safetensors format's own limit, in bytes


def read(path):
    """Returns the tensors of a network that a file holds.

    Tensors may lie in a dict of their own or under one of `NESTED`; prefixes that all names share
    with `PREFIXES` are removed.

    Args:
        path: .pth or .pt file of torch.save (both formats) or torch.jit.save, or .safetensors.

    Returns:
        {name: array}; bfloat16 becomes float32.

    Raises:
        ValueError: when the file is broken, or holds no tensors where they are looked for.
        FileNotFoundError: when there is no such file.
    """
    path = pathlib.Path(path)
    try:
        with open(path, "rb") as file:
            if path.suffix == ".safetensors":
                tensors = _read_safetensors(file)
            elif zipfile.is_zipfile(file):
                tensors = _find_state(_read_zip(file))
            else:
                file.seek(0)
                if file.read(4) == ZIP_MAGIC:
                    raise ValueError("the archive is incomplete: its end is missing")
                file.seek(0)
                tensors = _find_state(_read_legacy(file))
        tensors = {name: _to_array(value) for name, value in tensors.items()}
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError) as error:
        raise ValueError(f"Cannot read the tensors of {path}: {error}") from error
    except (pickle.UnpicklingError, zipfile.BadZipFile, struct.error, OverflowError) as error:
        raise ValueError(f"Cannot read the tensors of {path}: {error}") from error
    except (OSError, RuntimeError, zlib.error) as error:
        # zipfile's, for damaged offsets, flags and contents of an archive.
        raise ValueError(f"Cannot read the tensors of {path}: {error}") from error
    if not tensors:
        raise ValueError(f"{path} holds no tensors.")
    return _without_prefixes(tensors)


@dataclasses.dataclass
class Storage:
    """Values of one type in a row; tensors are windows on them."""

    dtype: str
    count: int
    data: bytes | None = None

    def values(self):
        """Returns the values as an array; bfloat16 as unsigned 16-bit integers."""
        if self.data is None:
            raise ValueError("a storage has no data")
        dtype = np.dtype(np.uint16 if self.dtype == BFLOAT16 else DTYPES[self.dtype])
        if len(self.data) < self.count * dtype.itemsize:
            raise ValueError(
                f"a storage should have {self.count * dtype.itemsize} bytes. "
                f"Received: {len(self.data)}"
            )
        return np.frombuffer(self.data, dtype, self.count)


@dataclasses.dataclass
class Tensor:
    """A window on a `Storage`, in values."""

    storage: Storage
    offset: int
    shape: tuple
    strides: tuple
    dtype: str | None = None

    def array(self):
        """Returns a copy as an array."""
        values = self.storage.values()
        dtype = self.dtype or self.storage.dtype
        if dtype != self.storage.dtype:  # an untyped storage
            values = values.view(np.uint16 if dtype == BFLOAT16 else DTYPES[dtype])
        numbers = (self.offset, *self.shape, *self.strides)
        if len(self.shape) != len(self.strides) or any(
            not isinstance(number, int) or number < 0 for number in numbers
        ):
            raise ValueError(f"a tensor has the shape {self.shape}, strides {self.strides}")
        last = self.offset + sum(
            (length - 1) * stride for length, stride in zip(self.shape, self.strides, strict=True)
        )
        if math.prod(self.shape) == 0:
            return np.zeros(self.shape, np.float32 if dtype == BFLOAT16 else DTYPES[dtype])
        if last >= len(values):
            raise ValueError(f"a tensor reaches to value {last} of {len(values)} in its storage")
        window = np.lib.stride_tricks.as_strided(
            values[self.offset :],
            self.shape,
            [stride * values.itemsize for stride in self.strides],
            writeable=False,
        )
        return _from_bfloat16(window) if dtype == BFLOAT16 else window.copy()


class Unread:
    """Stands for an object of a class that this module does not know; nothing of it is run."""

    origin = ""

    def __new__(cls, *args, **kwargs):
        """Takes and forgets any arguments."""
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        """Takes and forgets any arguments."""
        self.state = None

    def __call__(self, *args, **kwargs):
        """Stands for what a call would give, which is not made either."""
        return Unread()

    def __setstate__(self, state):
        """Keeps the state, which for a scripted module holds its tensors."""
        self.state = state

    def __setitem__(self, key, value):
        """Forgets an item."""

    def append(self, value):
        """Forgets an item."""

    def extend(self, values):
        """Forgets items."""


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, load_storage):
        super().__init__(file, encoding="utf-8")
        self._load_storage = load_storage

    def find_class(self, module, name):
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        if module == "torch" and name in DTYPES:
            return name
        if module == "collections" and name == "OrderedDict":
            return collections.OrderedDict
        rebuild = REBUILD.get((module, name))
        if rebuild is not None:
            return rebuild
        return type("Unread", (Unread,), {"origin": f"{module}.{name}"})

    def persistent_load(self, identity):
        kind, *details = identity
        if kind != "storage":
            raise ValueError(f"unknown kind of stored object: {kind!r}")
        dtype, key, _, count = details[:4]
        if not isinstance(dtype, str) or not isinstance(count, int) or count < 0:
            raise ValueError(f"unknown type of storage: {getattr(dtype, 'origin', dtype)}")
        if len(details) > 4 and details[4] is not None:
            raise ValueError("a storage is a part of another one, a form that is not supported")
        return self._load_storage(dtype, str(key), count)


def _rebuild_tensor(storage, offset, shape, strides, *_):
    if not isinstance(storage, Storage):
        raise ValueError(f"a tensor lies in no storage but in {type(storage).__name__}")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_typed_tensor(storage, offset, shape, strides, requires_grad, hooks, dtype, *_):
    if not isinstance(dtype, str):
        raise ValueError(f"unknown type of values: {getattr(dtype, 'origin', dtype)}")
    tensor = _rebuild_tensor(storage, offset, shape, strides)
    tensor.dtype = dtype
    return tensor


def _rebuild_parameter(tensor, *_):
    return tensor


REBUILD = {
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_typed_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
}


def _read_zip(file):
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"a PyTorch archive has one data.pkl. Received: {len(pickles)}")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("the file was written on a big-endian machine")
        storages = {}

        def load_storage(dtype, key, count):
            if key not in storages:
                storages[key] = Storage(dtype, count, archive.read(f"{folder}data/{key}"))
            return storages[key]

        return _Unpickler(io.BytesIO(archive.read(pickles[0])), load_storage).load()


def _read_legacy(file):
    storages = {}

    def load_storage(dtype, key, count):
        return storages.setdefault(key, Storage(dtype, count))

    def load():
        return _Unpickler(file, load_storage).load()

    try:
        magic = load()
    except Exception as error:
        raise ValueError("it is no file of torch.save") from error
    if magic != LEGACY_MAGIC:
        raise ValueError("it is no file of torch.save")
    load()  # version of the protocol
    if load().get("little_endian") is not True:
        raise ValueError("the file was written on a big-endian machine")
    content = load()
    for key in load():
        storage = storages[key]
        (count,) = struct.unpack("<q", _read_bytes(file, 8))
        if count != storage.count:
            raise ValueError(f"a storage should have {storage.count} values. Received: {count}")
        size = 2 if storage.dtype == BFLOAT16 else np.dtype(DTYPES[storage.dtype]).itemsize
        storage.data = _read_bytes(file, count * size)
    return content


def _read_bytes(file, size):
    content = file.read(size)
    if len(content) < size:
        raise ValueError(f"the file ends within its values: {size - len(content)} bytes short")
    return content


def _read_safetensors(file):
    """Reads the format of github.com/huggingface/safetensors: a JSON header, then the values."""
    (length,) = struct.unpack("<Q", _read_bytes(file, 8))
    if length > MAXIMUM_HEADER:
        raise ValueError(f"it is no .safetensors file: the header should have {length} bytes")
    header = json.loads(_read_bytes(file, length))
    header.pop("__metadata__", None)
    data = file.read()
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] not in SAFETENSORS_DTYPES:
            raise ValueError(f"{name} has the unknown type {entry['dtype']}")
        begin, end = entry["data_offsets"]
        if not 0 <= begin <= end <= len(data):
            raise ValueError(f"{name} reaches from {begin} to {end} of {len(data)} bytes")
        shape = tuple(entry["shape"])
        strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        dtype = SAFETENSORS_DTYPES[entry["dtype"]]
        storage = Storage(dtype, math.prod(shape), data[begin:end])
        tensors[name] = Tensor(storage, 0, shape, strides)
    return tensors


def _find_state(content):
    """Returns {name: Tensor} of the dict in `content` that holds the network's tensors."""
    if isinstance(content, Unread):
        if content.origin.startswith("__torch__"):
            return dict(_scripted_tensors(content, ""))
        raise ValueError(
            f"it holds an object of the class {content.origin}, which is not run here. "
            "Save its state_dict() instead"
        )
    if not isinstance(content, dict):
        raise ValueError(f"it holds no dict of tensors but {type(content).__name__}")
    for name in NESTED:
        if isinstance(content.get(name), dict | Unread):
            return _find_state(content[name])
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(
            f"there are no tensors in the dict with the keys {', '.join(map(str, content))}; "
            f"they are looked for there and under {', '.join(NESTED)}"
        )
    return tensors


def _scripted_tensors(module, prefix):
    for name, value in (module.state or {}).items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, Unread) and isinstance(value.state, dict):
            yield from _scripted_tensors(value, f"{prefix}{name}.")


def _to_array(value):
    return value.array()


def _from_bfloat16(values):
    # bfloat16 is the upper half of a float32.
    return (values.astype(np.uint32) << 16).view(np.float32)


def _without_prefixes(tensors):
    for prefix in PREFIXES * 2:  # they may be nested
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


if sys.byteorder != "little":  # arrays are read as they lie in the file
    raise ImportError("classifiers.networks.pytorch_files needs a little-endian machine")
