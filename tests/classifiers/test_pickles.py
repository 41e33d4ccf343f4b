"""Pickles of CIFAR: those of both Pythons are read, crafted ones are refused."""

import pickle
import tracemalloc

import numpy as np
import pytest

from classifiers.dataloaders import _cifar

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 3072), np.uint8)


def name_of(module, name):
    return f"c{module}\n{name}\n".encode()


def text(content):
    return b"T" + len(content).to_bytes(4, "little") + content


def dtype(code, state):
    return name_of("numpy", "dtype") + b"(" + text(code) + b"K\x00K\x01tR(" + state + b"tb"


def array(shape, kind, content):
    """Returns the instructions for an array, as Python 2 wrote them in protocol 2."""
    empty = name_of("numpy.core.multiarray", "_reconstruct")
    empty += b"(" + name_of("numpy", "ndarray") + b"(K\x00tU\x01btR"
    return empty + b"(K\x01(" + shape + b"t" + kind + b"\x89" + text(content) + b"tb"


UINT8 = dtype(b"u1", b"K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00")
LABELS = b"](K\x03K\x07e"


def batch(data, labels=LABELS):
    return b"\x80\x02}(" + text(b"data") + data + text(b"labels") + labels + b"u."


def in_protocol_0():
    """Returns what Python 2's `pickle.dump` writes without a protocol: text alone."""
    content = repr(IMAGES.tobytes())[1:].encode()
    return b"\n".join(
        (
            *(b"(dp1", b"S'batch_label'", b"p2", b"S'testing batch 1 of 1'", b"p3", b"sS'data'"),
            *(b"p4", b"cnumpy.core.multiarray", b"_reconstruct", b"p5", b"(cnumpy", b"ndarray"),
            *(b"p6", b"(I0", b"tp7", b"S'b'", b"p8", b"tp9", b"Rp10", b"(I1", b"(L2L", b"I3072"),
            *(b"tp11", b"cnumpy", b"dtype", b"p12", b"(S'u1'", b"p13", b"I0", b"I1", b"tp14"),
            *(b"Rp15", b"(I3", b"S'|'", b"p16", b"NNNI-1", b"I-1", b"I0", b"tp17", b"bI00"),
            b"S" + content,
            *(b"p18", b"tp19", b"bsS'labels'", b"p20", b"(lp21", b"I3", b"aI7", b"as."),
        )
    )


WRITTEN = {
    "python 2, protocol 0": in_protocol_0(),
    "python 2, protocol 2": batch(array(b"K\x02M\x00\x0c", UINT8, IMAGES.tobytes())),
} | {
    f"python 3, protocol {n}": pickle.dumps({b"data": IMAGES, b"labels": [3, 7]}, protocol=n)
    for n in range(5)
}


@pytest.mark.parametrize("content", WRITTEN.values(), ids=WRITTEN)
def test_files_of_both_pythons(content, tmp_path):
    (tmp_path / "test_batch").write_bytes(content)
    images, labels = _cifar.read_python(tmp_path / "test_batch", "labels")
    np.testing.assert_array_equal(images.transpose(0, 3, 1, 2).reshape(2, -1), IMAGES)
    np.testing.assert_array_equal(labels, [3, 7])


OBJECT = name_of("numpy", "dtype") + b"(U\x02O8K\x00K\x01tR"
NUMBER = name_of("numpy", "dtype") + b"(U\x02u8K\x00K\x01tR"
FIELD = b"K\x03U\x01|N(U\x01at}(U\x01a%bJ%b\x86uK\x08K\x01K\x00"
AT_0, FAR = bytes(4), b"\xff\xff\xff\x0f"
# All but the last two end the process where NumPy takes over their states, or keys are hashed.
CRAFTED = {
    "numbers as pointers": batch(array(b"K\x01", dtype(b"V8", FIELD % (OBJECT, AT_0)), b"A" * 8)),
    "a field far behind": batch(array(b"K\x01", dtype(b"V8", FIELD % (NUMBER, FAR)), b"A" * 8)),
    "a key of nested tuples": b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.",
    "objects": batch(array(b"K\x01", OBJECT, b"A" * 8)),
    "too few bytes": batch(array(b"K\x02M\x00\x0c", UINT8, b"A" * 8)),
}


@pytest.mark.parametrize("content", CRAFTED.values(), ids=CRAFTED)
def test_crafted_states_are_refused(content, tmp_path):
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(ValueError, match="test_batch is no file of the python version"):
        _cifar.read_python(tmp_path / "test_batch", "labels")


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02Kxr\x00\x00\x40\x00.",  # place 2**22 of the memo
        b"\x80\x05\x96" + (1 << 28).to_bytes(8, "little") + b".",  # bytes to be filled later
        batch(b"]" + b"".join(b"(h%ch%ch%cl2" % (n, n, n) for n in range(20))),
    ],
    ids=["memo", "bytearray", "lists of lists"],
)
def test_crafted_sizes_take_no_memory(content, tmp_path):
    (tmp_path / "test_batch").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="test_batch is no file of the python version"):
            _cifar.read_python(tmp_path / "test_batch", "labels")
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


def test_a_file_beyond_all_official_ones_is_not_read(tmp_path):
    with open(tmp_path / "test_batch", "wb") as file:
        file.truncate(1 << 40)
    for read in (_cifar.read_python, _cifar.read_binary):
        with pytest.raises(ValueError, match=r"test_batch has 1099\.5 GB"):
            read(tmp_path / "test_batch", 1)
