"""The command line: what is wrong with it in one line, help with our own flags first, versions."""

import difflib
import importlib.metadata
import os
import pathlib
import platform
import re
import sys
import tomllib

import keras
import tensorflow as tf
from absl import flags

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROJECT = "degraded-vision"
# Packages with models, dataloaders and trained weights.
PACKAGES = ("eusr", "score_predictors", "classifiers")
# Packages whose modules define flags of their own.
LIBRARIES = ("absl", "tensorflow")
LARGEST_INTEGER = 2**63 - 1  # TensorFlow's
HELP = """
General:
  --flagfile=FILE: takes flags from a file, one in a line; what follows on the command line counts
    before them.
  --version: prints the versions of this project and of what it runs on.
"""


def asks_for(argv, start):
    """Returns whether the command line has a flag whose name begins like that, such as "help"."""
    return any(re.match(rf"--?{start}", argument) for argument in argv[1:])


def describe_version():
    """Returns the versions of this project, TensorFlow, Keras and Python as one line."""
    project = ROOT / "pyproject.toml"
    if project.is_file():
        version = tomllib.loads(project.read_text())["project"]["version"]
    else:
        version = importlib.metadata.version(PROJECT)
    return (
        f"{PROJECT} {version}, TensorFlow {tf.__version__}, Keras {keras.__version__}, "
        f"Python {platform.python_version()}"
    )


def parse(argv):
    """Parses the flags as `flags.FLAGS(argv)`; prints help where it is asked for.

    Returns:
        The arguments that are no flags, behind the program's name.

    Raises:
        ValueError: for what cannot be parsed; names the flag, what it got and what it takes.
    """
    if asks_for(argv, "helpfull"):
        _print_for_reading(describe_all_flags())
        sys.exit(1)  # as absl's other flags of help
    remaining = parse_into(flags.FLAGS, argv)
    for name in flags.FLAGS:
        value = flags.FLAGS[name].value
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int) and abs(number) > LARGEST_INTEGER:
                raise ValueError(f"--{name}={number}: the largest whole number is 2^63 - 1")
    return remaining


def parse_into(values, argv, **kwargs):
    """Returns `values(argv, **kwargs)` of a `FlagValues`; see `parse`."""
    try:
        return values(argv, **kwargs)
    except flags.UnrecognizedFlagError as error:
        raise ValueError(_describe_unknown(error.flagname)) from error
    except flags.Error as error:
        raise ValueError(_reworded(str(error))) from error


def describe_all_flags():
    """Returns the help of all flags, by module: the program's, ours, then those of libraries."""
    modules = sorted(flags.FLAGS.flags_by_module_dict())
    ours = [name for name in modules if not name.startswith(LIBRARIES)]
    first = [sys.argv[0], "misc.training.entry_point"]
    ours.sort(key=lambda name: first.index(name) if name in first else len(first))
    others = [name for name in modules if name not in ours]
    text = [sys.modules["__main__"].__doc__ or "", *map(flags.FLAGS.module_help, ours)]
    text += [HELP, "Flags of libraries, which are rarely needed:"]
    return "\n".join(text + [flags.FLAGS.module_help(name) for name in others])


def _print_for_reading(text):
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # A pager or `head` has seen enough; Python would complain when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def describe_missing(name):
    """Returns a message about a flag that is not given, with its help."""
    return f"--{name} is missing: {flags.FLAGS[name].help}"


def suggest(name, known):
    """Returns " Did you mean ...?" with the known name that is nearest, "" if none is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]}?" if near else ""


def _describe_unknown(name):
    known = [f"--{flag}" for flag in flags.FLAGS if not _of_library(flag)]
    near = suggest(f"--{name}", known)
    return f"--{name} is no flag of this command, model and dataloader.{near} --helpfull lists all."


def _of_library(name):
    return (flags.FLAGS.find_module_defining_flag(name) or "").startswith(LIBRARIES)


def _reworded(message):
    """Returns absl's message about a flag's value in words that say what the flag takes."""
    absent = re.findall(r"Flag --(\w+) must have a value other than None", message)
    if absent:
        others = ", ".join(f"--{name}" for name in absent[1:])
        also = f" Also missing: {others}." if others else ""
        return describe_missing(absent[0]) + also
    found = re.fullmatch(r"flag --(\w+)=(.*?): (.*)", message, re.DOTALL)
    if not found:
        return message.removeprefix("ERROR:: ")
    name, value, reason = found.groups()
    parser = flags.FLAGS[name].parser
    if isinstance(parser, flags.EnumParser):
        known = parser.enum_values
        reason = f"unknown.{suggest(value, known)} Known: {', '.join(known)}"
    elif isinstance(parser, flags.BooleanParser):
        reason = f"{value!r} is neither true nor false"
    elif re.match("invalid literal for int|could not convert string", reason):
        reason = f"{value!r} is not {parser.syntactic_help}"
    return f"--{name}={value}: {reason}"
