"""Reads pickles as data: nothing that they name is looked up or run.

A reader that looks up no names can still be made to end the process or to fill memory: by states
that are handed to NumPy, by keys of a million nested tuples, by a place in the memo for which a
table grows. Here Python's reader in Python does the reading, whose memo is a dictionary; keys are
plain values; and only classes of this project are given states.
"""

import math
import pickle

import numpy as np

# Kinds of values that arrays may have, as NumPy calls them in pickles.
TYPES = ("u1", "i4", "i8")


class Record:
    """What stands for an object: it is called as its class would be, and given its state."""


class Plain(dict):
    """A dictionary whose keys are texts, bytes and numbers; items with others are left out."""

    def __setitem__(self, key, value):
        """Keeps an item with a plain key: hashing others goes as deep as they are nested."""
        if isinstance(key, str | bytes | int | float | None):
            super().__setitem__(key, value)


class PlainOrdered(Plain, Record):
    """Stands for collections.OrderedDict, whose state says nothing of its items."""

    def __init__(self, items=()):
        """Takes pairs of keys and values."""
        super().__init__()
        for key, value in items:
            self[key] = value

    def __setstate__(self, state):
        """Forgets the state."""


class _Instructions(dict):
    def __missing__(self, code):
        raise pickle.UnpicklingError(f"its instruction {bytes([code])!r} is not allowed")


# What is not needed: old classes, copyreg's numbers, and memory that is larger than the file.
_LEFT_OUT = b"".join(
    (
        *(pickle.INST, pickle.OBJ, pickle.EXT1, pickle.EXT2, pickle.EXT4),
        *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
    )
)


class Unpickler(pickle._Unpickler):
    """Reads a pickle; sets become lists. Subclasses say in `find_class` what stands for names."""

    dispatch = _Instructions(
        {code: read for code, read in pickle._Unpickler.dispatch.items() if code not in _LEFT_OUT}
    )
    dispatch[pickle.EMPTY_SET[0]] = pickle._Unpickler.load_empty_list
    dispatch[pickle.ADDITEMS[0]] = pickle._Unpickler.load_appends
    dispatch[pickle.FROZENSET[0]] = pickle._Unpickler.load_list

    def find_class(self, module, name):
        """Raises UnpicklingError: no name is allowed."""
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is not allowed")

    def load_empty_dictionary(self):
        """Begins a dictionary."""
        self.append(Plain())

    dispatch[pickle.EMPTY_DICT[0]] = load_empty_dictionary

    def load_dict(self):
        """Makes a dictionary of what lies above the mark."""
        items = self.pop_mark()
        self.append(PlainOrdered(zip(items[::2], items[1::2], strict=True)))

    dispatch[pickle.DICT[0]] = load_dict

    def load_newobj(self):
        """Makes an object as a call does."""
        arguments, function = self.stack.pop(), self.stack.pop()
        self.append(function(*arguments))

    dispatch[pickle.NEWOBJ[0]] = load_newobj

    def load_newobj_ex(self):
        """Makes an object as a call does, without its named arguments."""
        self.stack.pop()
        self.load_newobj()

    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex

    def load_build(self):
        """Gives a `Record` its state."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Record):
            raise pickle.UnpicklingError("it sets the state of what has none")
        self.stack[-1].__setstate__(state)

    dispatch[pickle.BUILD[0]] = load_build


class Array(Record):
    """Stands for numpy.ndarray.

    Attributes:
        values: array of one or two axes, made of no more bytes than the pickle holds; `None` before
            the pickle has given it a state.
    """

    values = None

    def __init__(self, *_):
        """Takes what NumPy makes empty arrays of."""

    def __setstate__(self, state):
        """Takes numpy.ndarray's state; another one is a ValueError."""
        _, shape, kind, by_columns, content = state
        if not isinstance(kind, _Type) or not isinstance(content, bytes):
            raise ValueError("an array has no values of its own")
        if len(shape) > 2 or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError("an array has more than two axes, or lengths that are none")
        expected = math.prod(shape) * int(kind.code[1:])
        if len(content) != expected:
            raise ValueError(
                f"an array of the shape {list(shape)} has {len(content)} bytes, not {expected}"
            )
        values = np.frombuffer(content, f"<{kind.code}")
        self.values = values.reshape(shape, order="F" if by_columns else "C")


class _Type(Record):
    """Stands for numpy.dtype."""

    def __init__(self, code, *_):
        """Takes the kind and size of a value, such as "u1"."""
        self.code = code.decode() if isinstance(code, bytes) else code
        if self.code not in TYPES:
            raise ValueError(f"an array has values of another type than {', '.join(TYPES)}")

    def __setstate__(self, state):
        """Takes numpy.dtype's state: its version, the order of bytes, and what records have."""
        if state[1] in (b">", ">"):
            raise ValueError("the file was written on a big-endian machine")


def _encode(text, encoding):
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"bytes are in the encoding {encoding}")
    return text.encode("latin1")


_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): Array,
    ("numpy._core.multiarray", "_reconstruct"): Array,
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,  # how Python 3 writes bytes in the formats of Python 2
}


class ArrayUnpickler(Unpickler):
    """Reads pickles of plain values and NumPy arrays, and refuses all others.

    Files of Python 2 are read with `encoding="bytes"`.
    """

    def find_class(self, module, name):
        """Returns what stands for a name of NumPy; another name is an UnpicklingError."""
        if (module, name) in _STAND_INS:
            return _STAND_INS[module, name]
        return super().find_class(module, name)
