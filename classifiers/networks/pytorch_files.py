"""Reads tensors from PyTorch's files (.pth, .pt) and from .safetensors, without PyTorch.

A .pth file is a pickle, which could run any program when it is loaded as such. Here nothing of it
is run: the few names that make up tensors are rebuilt by this module, and every other class or
function in the pickle becomes an inert `Unread`. What the file says about shapes is checked against
the bytes that are there.
"""

import collections
import contextlib
import dataclasses
import io
import json
import math
import pathlib
import pickle
import struct
import sys
import zipfile

import ml_dtypes
import numpy as np

# Names under which checkpoints keep the tensors of the network.
NESTED = ("state_dict", "model_state_dict", "model", "net", "network")
# What wrappers put before every name: DataParallel, torch.compile.
PREFIXES = ("module.", "_orig_mod.")
# First number of the format before PyTorch 1.6 (torch/serialization.py).
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
ZIP_MAGIC = b"PK\x03\x04"

# Names of a type in NumPy and PyTorch, of PyTorch's storages, and in .safetensors.
TYPES = (
    ("float64", "DoubleStorage", "F64"),
    ("float32", "FloatStorage", "F32"),
    ("float16", "HalfStorage", "F16"),
    ("bfloat16", "BFloat16Storage", "BF16"),
    ("int64", "LongStorage", "I64"),
    ("int32", "IntStorage", "I32"),
    ("int16", "ShortStorage", "I16"),
    ("int8", "CharStorage", "I8"),
    ("uint8", "ByteStorage", "U8"),
    ("bool", "BoolStorage", "BOOL"),
)
# Keras brings ml_dtypes, whose bfloat16 is a type of NumPy then.
DTYPES = {name: np.dtype(getattr(ml_dtypes, name, name)) for name, _, _ in TYPES}
STORAGES = {storage: DTYPES[name] for name, storage, _ in TYPES}
STORAGES["UntypedStorage"] = DTYPES["uint8"]
SAFETENSORS_DTYPES = {code: DTYPES[name] for name, _, code in TYPES}
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
        tensors = {name: value.array() for name, value in tensors.items()}
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:  # damaged pickles and archives raise many kinds
        raise ValueError(f"Cannot read the tensors of {path}: {error}") from error
    if not tensors:
        raise ValueError(f"{path} holds no tensors.")
    return _without_prefixes(tensors)


@dataclasses.dataclass
class Storage:
    """Values of one type in a row; tensors are windows on them."""

    dtype: np.dtype
    count: int
    data: bytes | None = None

    def values(self):
        """Returns the values as an array."""
        if self.data is None:
            raise ValueError("a storage has no data")
        size = self.count * self.dtype.itemsize
        if len(self.data) < size:
            raise ValueError(f"a storage should have {size} bytes. Received: {len(self.data)}")
        return np.frombuffer(self.data, self.dtype, self.count)


@dataclasses.dataclass
class Tensor:
    """A window on a `Storage`, in values."""

    storage: Storage
    offset: int
    shape: tuple
    strides: tuple
    dtype: np.dtype | None = None

    def array(self):
        """Returns a copy as an array; bfloat16 becomes float32."""
        values = self.storage.values().view(self.dtype or self.storage.dtype)
        if min(self.offset, *self.shape, *self.strides, 0) < 0:
            raise ValueError(f"a tensor has the shape {self.shape}, strides {self.strides}")
        size = values.itemsize
        strides = [stride * size for stride in self.strides]
        try:
            # Without values there is nothing that an offset could point to.
            offset = self.offset * size if math.prod(self.shape) else 0
            window = np.ndarray(self.shape, values.dtype, values, offset, strides)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"a tensor of the shape {self.shape}, strides {self.strides}, from value "
                f"{self.offset} on, does not lie in the {len(values)} values of its storage"
            ) from error
        is_bfloat16 = values.dtype == ml_dtypes.bfloat16
        return window.astype(np.float32 if is_bfloat16 else values.dtype)


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

    def _forget(self, *items):
        pass

    __setitem__ = append = extend = _forget


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, load_storage):
        super().__init__(file, encoding="utf-8")
        self._load_storage = load_storage

    def find_class(self, module, name):
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if module == "collections" and name == "OrderedDict":
            return collections.OrderedDict
        if module == "torch._utils" and name in REBUILD:
            return REBUILD[name]
        return type("Unread", (Unread,), {"origin": f"{module}.{name}"})

    def persistent_load(self, identity):
        kind, *details = identity
        if kind != "storage":
            raise ValueError(f"unknown kind of stored object: {kind!r}")
        dtype, key, _, count = details[:4]
        if not isinstance(dtype, np.dtype) or not isinstance(count, int) or count < 0:
            raise ValueError(f"unknown type of storage: {getattr(dtype, 'origin', dtype)}")
        if len(details) > 4 and details[4] is not None:
            raise ValueError("a storage is a part of another one, a form that is not supported")
        return self._load_storage(dtype, str(key), count)


def _rebuild_tensor(storage, offset, shape, strides, *_):
    if not isinstance(storage, Storage):
        raise ValueError(f"a tensor lies in no storage but in {type(storage).__name__}")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_typed_tensor(storage, offset, shape, strides, requires_grad, hooks, dtype, *_):
    if not isinstance(dtype, np.dtype):
        raise ValueError(f"unknown type of values: {getattr(dtype, 'origin', dtype)}")
    tensor = _rebuild_tensor(storage, offset, shape, strides)
    tensor.dtype = dtype
    return tensor


REBUILD = {
    "_rebuild_tensor": _rebuild_tensor,
    "_rebuild_tensor_v2": _rebuild_tensor,
    "_rebuild_tensor_v3": _rebuild_typed_tensor,
    "_rebuild_parameter": lambda tensor, *_: tensor,
    "_rebuild_parameter_with_state": lambda tensor, *_: tensor,
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

    magic = None
    with contextlib.suppress(Exception):  # whatever other files may hold
        magic = load()
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
        storage.data = _read_bytes(file, count * storage.dtype.itemsize)
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
        storage = Storage(SAFETENSORS_DTYPES[entry["dtype"]], math.prod(shape), data[begin:end])
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


def _without_prefixes(tensors):
    for prefix in PREFIXES * 2:  # they may be nested
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


if sys.byteorder != "little":  # arrays are read as they lie in the file
    raise ImportError("classifiers.networks.pytorch_files needs a little-endian machine")
