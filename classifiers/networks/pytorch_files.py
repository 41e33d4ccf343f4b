"""Reads tensors from PyTorch's files (.pth, .pt, .th) and from .safetensors, without PyTorch.

A .pth file is a pickle, which could run any program when it is loaded as such. Here nothing of it
is run: the few names that make up tensors are rebuilt by this module, and every other class or
function in the pickle becomes an inert `Unread`. What the file says about shapes is checked against
the bytes that are there, and values are read only of the tensors that are asked for.
"""

import collections
import contextlib
import dataclasses
import functools
import io
import json
import math
import os
import pathlib
import struct
import sys
import zipfile
from collections.abc import Callable

import ml_dtypes
import numpy as np

from classifiers import pickles
from misc.images import archives, files

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
MAXIMUM_AXES = 64  # NumPy's own limit
# Of scripted modules, far more than any network has.
MAXIMUM_MODULES = 100_000
MAXIMUM_NAME = 10_000


def read(path):
    """Returns the tensors of a network that a file holds.

    Tensors may lie in a dict of their own or under one of `NESTED`; prefixes that all names share
    with `PREFIXES` are removed.

    Args:
        path: .pth, .pt or .th file of torch.save (both formats) or torch.jit.save, or .safetensors.

    Returns:
        {name: `Tensor`}, whose values are read when they are made an array.

    Raises:
        ValueError: when the file is broken, or holds no tensors where they are looked for.
        FileNotFoundError: when there is no such file.
    """
    path = pathlib.Path(path)
    with _naming(path):
        with open(path, "rb") as file:
            if path.suffix == ".safetensors":
                tensors = _read_safetensors(path, file)
            elif zipfile.is_zipfile(file):
                tensors = _find_state(_read_zip(path))
            else:
                file.seek(0)
                if file.read(4) == ZIP_MAGIC:
                    raise ValueError("the archive is incomplete: its end is missing")
                file.seek(0)
                tensors = _find_state(_read_legacy(path, file))
        for tensor in tensors.values():
            tensor.check()
        if not tensors:
            raise ValueError("it holds no tensors")
    return _without_prefixes(tensors)


@contextlib.contextmanager
def _naming(path):
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:  # damaged pickles and archives raise many kinds
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"Cannot read the tensors of {path}: {reason}. {files.FETCH_AGAIN}"
        ) from error


@dataclasses.dataclass
class Storage:
    """Values of one type in a row; tensors are windows on them.

    Attributes:
        path: the file.
        dtype: type of the values.
        count: number of values.
        load: function that returns the bytes; `None` where the file has none.
        array: the values, once they are read.
    """

    path: pathlib.Path
    dtype: np.dtype
    count: int
    load: Callable | None = None
    array: np.ndarray | None = None

    def values(self):
        """Returns the values as an array; they are read once."""
        if self.array is None:
            data, size = self.load(), self.count * self.dtype.itemsize
            if len(data) < size:
                raise ValueError(f"a storage should have {size} bytes. Received: {len(data)}")
            self.array = np.frombuffer(data, self.dtype, self.count)
        return self.array


@dataclasses.dataclass
class Tensor:
    """A window on a `Storage`, in values; `numpy.asarray` reads it, bfloat16 as float32."""

    storage: Storage
    offset: int
    shape: tuple
    strides: tuple
    dtype: np.dtype | None = None

    def check(self):
        """Raises ValueError for a window that does not lie in the storage."""
        lengths = (self.offset, *self.shape, *self.strides)
        if not all(isinstance(n, int) and n >= 0 for n in lengths):
            raise ValueError(f"a tensor has the shape {self.shape}, strides {self.strides}")
        if len(self.shape) != len(self.strides) or len(self.shape) > MAXIMUM_AXES:
            raise ValueError(f"a tensor has {len(self.shape)} axes, {len(self.strides)} strides")
        if self.storage.load is None:
            raise ValueError("a storage has no data")
        if not math.prod(self.shape):
            return  # without values there is nothing that an offset could point to
        last = self.offset + sum(
            stride * (length - 1) for stride, length in zip(self.strides, self.shape, strict=True)
        )
        dtype = self.dtype or self.storage.dtype
        count = self.storage.count * self.storage.dtype.itemsize // dtype.itemsize
        if last >= count:
            raise ValueError(
                f"a tensor of the shape {self.shape}, strides {self.strides}, from value "
                f"{self.offset} on, does not lie in the {count} values of its storage"
            )

    def __array__(self, dtype=None, copy=None):
        with _naming(self.storage.path):
            self.check()
            values = self.storage.values().view(self.dtype or self.storage.dtype)
            offset = self.offset * values.itemsize if math.prod(self.shape) else 0
            strides = [stride * values.itemsize for stride in self.strides]
            window = np.ndarray(self.shape, values.dtype, values, offset, strides)
        if dtype is None:
            dtype = np.float32 if values.dtype == ml_dtypes.bfloat16 else values.dtype
        return window.astype(dtype)


class Unread(pickles.Record):
    """Stands for a class or an object that this module does not know; nothing of it is run.

    Attributes:
        origin: the name of the class.
        state: what the pickle gives the object, which for a scripted module are its tensors.
    """

    __slots__ = ("origin", "state")

    def __init__(self, origin):
        """Takes the name."""
        self.origin, self.state = origin, None

    def __call__(self, *_):
        """Stands for what a call would give, which is not made either."""
        return Unread(self.origin)

    def __setstate__(self, state):
        """Keeps the state."""
        self.state = state

    def _forget(self, *items):
        pass

    __setitem__ = append = extend = _forget


class _Unpickler(pickles.Unpickler):
    def __init__(self, file, load_storage):
        super().__init__(file, encoding="utf-8")
        self._load_storage = load_storage

    def find_class(self, module, name):
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if module == "collections" and name == "OrderedDict":
            return pickles.PlainOrdered
        if module == "torch._utils" and name in REBUILD:
            return REBUILD[name]
        return Unread(f"{module}.{name}")

    def persistent_load(self, identity):
        kind, *details = identity
        if kind != "storage":
            raise ValueError("unknown kind of stored object")
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


def _read_zip(path):
    # It stays open as long as there are tensors whose values lie in it.
    archive = zipfile.ZipFile(path)
    names = archive.namelist()
    pickled = [name for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickled) != 1:
        raise ValueError(f"a PyTorch archive has one data.pkl. Received: {len(pickled)}")
    folder = pickled[0].removesuffix("data.pkl")
    read = functools.partial(archives.read_member, archive)
    if f"{folder}byteorder" in names and read(f"{folder}byteorder") != b"little":
        raise ValueError("the file was written on a big-endian machine")
    storages = {}

    def load_storage(dtype, key, count):
        name = f"{folder}data/{key}"
        archives.check_member(archive.getinfo(name))
        load = functools.partial(read, name)
        return storages.setdefault(key, Storage(path, dtype, count, load))

    return _Unpickler(io.BytesIO(read(pickled[0])), load_storage).load()


def _read_legacy(path, file):
    storages = {}

    def load_storage(dtype, key, count):
        return storages.setdefault(key, Storage(path, dtype, count))

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
        storage.load = _later(path, file, count * storage.dtype.itemsize)
    return content


def _later(path, file, size):
    """Passes over bytes of a file; returns a function that reads them."""
    start = file.tell()
    short = start + size - os.fstat(file.fileno()).st_size
    if short > 0:
        raise ValueError(f"the file ends within its values: {short} bytes short")
    file.seek(size, os.SEEK_CUR)

    def load():
        with open(path, "rb") as again:
            again.seek(start)
            return _read_bytes(again, size)

    return load


def _read_bytes(file, size):
    content = file.read(size)
    if len(content) < size:
        raise ValueError(f"the file ends within its values: {size - len(content)} bytes short")
    return content


def _read_safetensors(path, file):
    """Reads the format of github.com/huggingface/safetensors: a JSON header, then the values."""
    (length,) = struct.unpack("<Q", _read_bytes(file, 8))
    if length > MAXIMUM_HEADER:
        raise ValueError(f"it is no .safetensors file: the header should have {length} bytes")
    header = json.loads(_read_bytes(file, length))
    header.pop("__metadata__", None)
    start = file.tell()
    total = os.fstat(file.fileno()).st_size - start
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] not in SAFETENSORS_DTYPES:
            raise ValueError(f"{name} has the unknown type {entry['dtype']}")
        begin, end = entry["data_offsets"]
        if not 0 <= begin <= end <= total:
            raise ValueError(f"{name} reaches from {begin} to {end} of {total} bytes")
        dtype, shape = SAFETENSORS_DTYPES[entry["dtype"]], tuple(entry["shape"])
        strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        size = math.prod(shape) * dtype.itemsize
        if end - begin < size:
            raise ValueError(f"{name} should have {size} bytes. Received: {end - begin}")
        file.seek(start + begin)
        storage = Storage(path, dtype, math.prod(shape), _later(path, file, end - begin))
        tensors[name] = Tensor(storage, 0, shape, strides)
    return tensors


def _find_state(content):
    """Returns {name: Tensor} of the dict in `content` that holds the network's tensors."""
    if isinstance(content, Unread):
        if content.origin.startswith("__torch__"):
            return _scripted_tensors(content)
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


def _scripted_tensors(module):
    """Returns {name: Tensor} of a module and those in it, which may be the same in two places."""
    waiting, found = collections.deque([("", module)]), {}
    for _ in range(MAXIMUM_MODULES):
        prefix, module = waiting.popleft()
        for name, value in (module.state or {}).items():
            if isinstance(value, Tensor):
                found[prefix + name] = value
            elif isinstance(value, Unread) and isinstance(value.state, dict):
                waiting.append((f"{prefix}{name}.", value))
        if not waiting:
            return found
        if len(waiting[-1][0]) > MAXIMUM_NAME:
            break
    raise ValueError("its modules lie in each other without end")


def _without_prefixes(tensors):
    for prefix in PREFIXES * 2:  # they may be nested
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


if sys.byteorder != "little":  # arrays are read as they lie in the file
    raise ImportError("classifiers.networks.pytorch_files needs a little-endian machine")
