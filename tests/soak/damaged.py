"""Damages files of every kind that the project reads, and reads them.

`python -m tests.soak.damaged FOLDER SEED FIRST COUNT KIND...` damages COUNT copies of each kind and
prints what became of each, a line of JSON before it is read and one after.
"""

import contextlib
import io
import json
import pathlib
import sys

import numpy as np

from tests.soak import data_files, model_files, mutations

# What entry points print as one line; anything else would be a traceback.
CLEAR = (ValueError, OSError, ArithmeticError)
# Those that take milliseconds.
LIGHT = (
    data_files.images()
    | data_files.data_sets()
    | data_files.tables()
    | data_files.kept()
    | model_files.weights()
)
KINDS = LIGHT | model_files.runs() | model_files.frozen_models() | data_files.bit_streams()


def _memory():
    """Returns the most bytes that this process has held since the last call."""
    status = pathlib.Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    return peak


def examine(path, kind):
    """Reads a file; returns {"outcome": "read" | "refused" | "fault", "message": text}."""
    names = (path.name, str(path.parent), str(path.parents[1]))
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            kind.read(path)
    except CLEAR as error:
        line = str(error).partition("\n")[0]
        is_clear = line and (not kind.named or any(name in line for name in names))
        return {"outcome": "refused" if is_clear else "fault", "message": _shown(error)}
    except Exception as error:
        return {"outcome": "refused" if not kind.named else "fault", "message": _shown(error)}
    return {"outcome": "read", "message": ""}


def _shown(error):
    return f"{type(error).__name__}: {str(error)[:300]}"


def run(folder, seed, first, count, names):
    """Damages and reads `count` files of each kind, from number `first` of the first kind on."""
    for place, name in enumerate(names):
        kind = KINDS[name]
        own = folder / f"{place}"
        own.mkdir(parents=True, exist_ok=True)
        path = kind.make(own)
        whole = {file: file.read_bytes() for file in own.rglob("*") if file.is_file()}
        assert examine(path, kind)["outcome"] == "read", (name, examine(path, kind))
        for number in range(first if place == 0 else 0, count):
            random = np.random.default_rng([seed, number, *name.encode()])
            done, content = mutations.mutate(whole[path], random)
            for file, before in whole.items():  # what a reading repaired or removed
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(before)
            path.write_bytes(content)
            report = {"kind": name, "number": number, "damage": done}
            print(json.dumps(report), flush=True)
            before = _memory()
            found = examine(path, kind)
            report |= found | {"memory": max(_memory() - before, 0), "same": content == whole[path]}
            print(json.dumps(report), flush=True)


if __name__ == "__main__":
    run(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:5]), sys.argv[5:])
