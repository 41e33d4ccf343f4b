"""Writes PNG files with 16 bits per value, which Pillow and OpenCV do only in part.

Format: Portable Network Graphics Specification (Third Edition), sections 5, 9 and 11.
"""

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
SUB_FILTER = 1
ROWS_PER_STRIP = 256


def write(path, pixels, alpha=None, icc_profile=None):
    """Writes uint16 `pixels` `[height, width]` or `[height, width, 3]`, with alpha if given.

    Args:
        path: file to write.
        pixels: uint16 grey or RGB.
        alpha: `None`, or uint16 opacity `[height, width]`.
        icc_profile: bytes of a colour profile, or `None`.
    """
    height, width = pixels.shape[:2]
    channels = (1 if pixels.ndim == 2 else 3) + (alpha is not None)
    with open(path, "wb") as file:
        file.write(SIGNATURE)
        header = struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[channels], 0, 0, 0)
        _write_chunk(file, b"IHDR", header)
        if icc_profile:
            _write_chunk(file, b"iCCP", b"profile\x00\x00" + zlib.compress(icc_profile))
        compressor = zlib.compressobj()
        for top in range(0, height, ROWS_PER_STRIP):
            rows = slice(top, top + ROWS_PER_STRIP)
            strip = _filter(pixels[rows], None if alpha is None else alpha[rows])
            _write_chunk(file, b"IDAT", compressor.compress(strip))
        _write_chunk(file, b"IDAT", compressor.flush())
        _write_chunk(file, b"IEND", b"")


def _filter(pixels, alpha):
    """Returns the bytes of some rows, each value less the one a pixel to its left (filter Sub)."""
    planes = [pixels[..., None] if pixels.ndim == 2 else pixels]
    if alpha is not None:
        planes.append(alpha[..., None])
    values = np.concatenate(planes, axis=2)
    height, width, channels = values.shape
    data = values.astype(">u2").view(np.uint8).reshape(height, width, channels * 2)
    filtered = np.empty((height, 1 + width * channels * 2), np.uint8)
    filtered[:, 0] = SUB_FILTER
    body = filtered[:, 1:].reshape(height, width, channels * 2)
    body[:, 0] = data[:, 0]
    np.subtract(data[:, 1:], data[:, :-1], out=body[:, 1:])
    return filtered.tobytes()


def _write_chunk(file, name, data):
    file.write(struct.pack(">I", len(data)) + name + data)
    file.write(struct.pack(">I", zlib.crc32(name + data)))
