"""An HEVC frame as a BPG file, which leaves out two of HEVC's headers: 70 bytes less.

Source: F. Bellard, "BPG Specification", version 0.9.5, sections 2 and 3; ITU-T H.265, sections
7.3.1 (units) and 7.3.2 (parameter sets).
"""

import re

_START = b"\0\0\1"
_VIDEO_PARAMETERS, _SEQUENCE_PARAMETERS = _LEFT_OUT = 32, 33
_MAGIC = b"BPG\xfb"
# 4:2:0 with chroma in the middle, no alpha, 8 bits; YCbCr of BT.601 in full range, no extensions.
_FORMAT = b"\x20\x00"


def pack(stream, width, height):
    """Returns the BPG file of an HEVC stream that holds one 8-bit 4:2:0 frame of BT.601 colours.

    Programs for BPG read it if the frame has the size of the picture, rounded up to multiples of 8.

    Args:
        stream: bytes with start codes (H.265, Annex B).
        width: of the picture, pixels.
        height: of the picture, pixels.
    """
    units = _units(stream)
    fields = _kept_fields(next(unit for unit in units if _kind(unit) == _SEQUENCE_PARAMETERS))
    # A length of 0: up to the end of the file.
    header = _MAGIC + _FORMAT + _number(width) + _number(height) + _number(0)
    header += _number(len(fields)) + fields
    return header + _START.join(unit for unit in units if _kind(unit) not in _LEFT_OUT)


def unpack(data):
    """Returns (width, height, stream) of a file of `pack`; the stream lacks what is left out."""
    position = len(_MAGIC + _FORMAT)
    numbers = []
    for _ in range(4):
        value, more = 0, True
        while more:
            value, more = value << 7 | data[position] & 127, data[position] > 127
            position += 1
        numbers.append(value)
    width, height, _, length = numbers
    return width, height, _START + data[position + length :]


def left_out(stream):
    """Returns the headers of an HEVC stream that `pack` leaves out, as a stream."""
    return b"".join(_START + unit for unit in _units(stream) if _kind(unit) in _LEFT_OUT)


def _units(stream):
    # Zeros in front of a start code belong to it.
    return [unit for unit in re.split(rb"\x00*\x00\x00\x01", stream) if unit]


def _kind(unit):
    return unit[0] >> 1 & 63


def _number(value):
    """Returns a number in groups of 7 bits, all but the last marked."""
    groups = [value & 127]
    while value := value >> 7:
        groups.insert(0, value & 127 | 128)
    return bytes(groups)


def _kept_fields(unit):
    """Returns what BPG keeps of a sequence parameter set, padded to whole bytes."""
    # A 3 after two zeros was inserted, so that they aren't taken for a start code.
    bits = "".join(f"{byte:08b}" for byte in unit.replace(b"\0\0\3", b"\0\0"))
    # Headers, and the profile of the only layer.
    position = 16 + 8 + 96

    def take(count=None):
        """Takes bits, or a number that as many zeros precede as bits follow its first 1."""
        nonlocal position
        first = position
        position += count or 2 * (bits.index("1", first) - first) + 1
        return bits[first:position]

    for _ in range(4):  # number of the set, kind of chroma, width, height
        take()
    if take(1) == "1":
        for _ in range(4):  # borders that are cut off
            take()
    for _ in range(3):  # bit depths, length of frame numbers
        take()
    take(1)
    for _ in range(3):  # buffers
        take()
    sizes = "".join(take() for _ in range(4))  # of coding and transform blocks
    take()
    depth = take()
    take(2)  # scaling lists, asymmetric motion
    offsets, pulse_code = take(1), take(1)
    take()  # sets of reference frames
    take(2)  # long-term ones, motion
    smoothing = take(1)
    fields = sizes + depth + offsets + pulse_code + smoothing + "0"
    fields += "0" * (-len(fields) % 8)
    return int(fields, 2).to_bytes(len(fields) // 8, "big")
