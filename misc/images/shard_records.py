"""What is noted of a shard's images that are done: a file of lines, of which the last counts."""

import dataclasses
import json

from misc.images import files


@dataclasses.dataclass(frozen=True)
class Record:
    """What is noted of an image.

    Attributes:
        image: its name below the split's folder.
        file: name of the stored file, there; "" if the image is broken.
        bytes: size of the bit stream, 0 without one.
        file_bytes: size of the stored file.
    """

    image: str
    file: str
    bytes: int
    file_bytes: int


def read(path):
    """Returns {image: `Record`} of a shard's file; lines that are damaged or cut off are left out.

    The last record of an image counts.
    """
    if not path.exists():
        return {}
    lines = path.read_bytes().splitlines()
    return {record.image: record for record in map(_parse_record, lines) if record}


def _parse_record(line):
    try:
        record = Record(*json.loads(line))
        kinds = (str, str, int, int)
        right = all(
            isinstance(value, kind)
            for value, kind in zip(dataclasses.astuple(record), kinds, strict=True)
        )
    except (ValueError, TypeError, RecursionError):
        return None
    return record if right else None


def add(path, record):
    """Appends a `Record` to a shard's file; DiskFullError when the disk takes no more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The line break comes first: it ends a line that was cut off.
    line = "\n" + json.dumps(dataclasses.astuple(record))
    with files.naming(path), open(path, "ab", buffering=0) as file:
        file.write(line.encode())


def is_done(record, folder):
    """Returns whether the file of a record is there, and has the size that it should have."""
    if record is None or not record.file:
        return False
    try:
        return (folder / record.file).stat().st_size == record.file_bytes
    except OSError:
        return False
