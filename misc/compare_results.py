"""Command: what is gained between results, as heat maps of degradation x level.

    python -m misc.compare_results before/results.json after/results.json --output_path=page.html
    python -m misc.compare_results report/results.json

Results are those of misc.robustness_report, which may hold several models, and of validate.py;
those of --model=sympie hold each classifier without and with the module. All are compared with the
first.
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import pathlib
import re
import shlex
import sys

from absl import flags

import degradations
from misc.reports import comparison_page, page
from misc.training import command_line, common_flags


def define_flags():
    """Defines the flags of this command."""
    common_flags.define_names(
        "results", None, "Files results.json, the first one the start; also as bare arguments."
    )
    flags.DEFINE_string("output_path", "comparison.html", "The page to write.")
    flags.DEFINE_bool("overwrite", False, "Replace --output_path.")


def main(settings):
    """Writes the page and prints its table; returns the exit status."""
    if not settings.results:
        raise ValueError(command_line.describe_missing("results"))
    path = pathlib.Path(settings.output_path)
    if path.exists() and not settings.overwrite:
        raise FileExistsError(f"{path} exists: give another --output_path, or --overwrite.")
    series = comparison_page.read(settings.results)
    if len(series) < 2:
        raise ValueError(
            f"--results={','.join(settings.results)} holds one model: give another file beside it."
        )
    command = shlex.join(["python", "-m", "misc.compare_results", *sys.argv[1:]])
    print(page.align(comparison_page.write(path, series, command, degradations.label)))
    print(f"Page: {path}")
    return 0


def gather_results(argv):
    """Returns a command line on which bare files, such as results.json, are --results."""
    bare = [argument for argument in argv[1:] if re.fullmatch(r"[^-].*\.json", argument)]
    named = [argument for argument in argv[1:] if argument not in bare]
    return [argv[0], *named, *([f"--results={','.join(bare)}"] if bare else [])]


if __name__ == "__main__":
    sys.argv = gather_results(sys.argv)
    define_flags()
    entry_point.run(main, with_model=False)
