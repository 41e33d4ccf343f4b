"""Scores image files of any size with a score predictor.

Files are decoded on several threads while the predictor works on batches of equal size.
"""

import collections
import math
import pathlib

import cv2
import numpy as np

from misc.export import inference
from misc.images import files, image_files
from misc.reports import report

SCORING = ("centre", "patches", "whole")
RESULTS = "scores.json"
TABLE = "scores.csv"
# Of predictors whose file does not say: the original project's, and AVA's scale from 1.
DEFAULT_PATCH_SIZE = 192
SHOWN_ROWS = 20


class FileScorer:
    """Applies a model with "scores" to files."""

    def __init__(self, model, scoring="centre", patches=5, patch_size=None, batch_size=32):
        """Sets how images become scores.

        Args:
            model: `Method` or `FrozenMethod`.
            scoring: "centre": the central square patch; "patches": the average over several patches
                that are spread evenly over the image; "whole": the whole image at once.
            patches: number of patches of "patches".
            patch_size: side of a patch in pixels; `None` for what the model was trained with.
                Images with a shorter side are enlarged to it, bilinearly, in all three ways.
            batch_size: patches or images of equal size that are worked on together.

        Raises:
            ValueError: for values that cannot be.
        """
        if scoring not in SCORING:
            raise ValueError(f"--scoring is one of {', '.join(SCORING)}. Received: {scoring}")
        for name, value in (("patches", patches), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"--scoring_{name} is at least 1. Received: {value}")
        self.scoring = scoring
        self.patches = patches
        self.patch_size = patch_size or model.metadata.get("patch_size", DEFAULT_PATCH_SIZE)
        self.batch_size = batch_size
        self._values = model.metadata.get("score_values")
        self._function = _scores_function(model)

    def values(self, bins):
        """Returns the scores that the bins stand for; 1, 2, ... where the model does not say."""
        return self._values or [float(value) for value in range(1, bins + 1)]

    def __call__(self, paths, skip_broken=False):
        """Scores files, with a progress bar.

        Args:
            paths: list of image files.
            skip_broken: report files that cannot be read and go on, instead of stopping.

        Returns:
            `(distributions, broken)`: {path: float64 `[K]`}, and the list of the files left out.

        Raises:
            ValueError: for the first broken file, without `skip_broken`; the message names it.
        """
        sums = {}
        broken = []
        waiting = collections.defaultdict(list)

        def decode(path):
            return self.cut(image_files.read_rgb(path))

        prepared = inference.prepare_files(
            decode, paths, 2 * self.batch_size, "scoring", skip_broken, broken
        )
        for path, cut in prepared:
            for patch in cut:
                group = waiting[patch.shape]
                group.append((path, patch, len(cut)))
                if len(group) == self.batch_size:
                    self._run(waiting.pop(patch.shape), sums)
        for group in waiting.values():
            self._run(group, sums)
        return {path: sums[path] for path in paths if path in sums}, broken

    def cut(self, pixels):
        """Returns the list of uint8 arrays `[height, width, 3]` to score of an image."""
        side = self.patch_size
        pixels = enlarge(pixels, side)
        if self.scoring == "whole":
            return [pixels]
        rows, columns = (size - side for size in pixels.shape[:2])
        if self.scoring == "centre":
            corners = [(rows // 2, columns // 2)]
        else:
            corners = spread(rows, columns, self.patches)
        return [pixels[top : top + side, left : left + side] for top, left in corners]

    def _run(self, group, sums):
        scores = self._function(np.stack([patch for _, patch, _ in group]))
        for (path, _, count), distribution in zip(
            group, np.asarray(scores, np.float64), strict=True
        ):
            sums[path] = sums.get(path, 0.0) + distribution / count


def enlarge(pixels, side):
    """Returns uint8 pixels, enlarged bilinearly where the shorter side is less than `side`."""
    shorter = min(pixels.shape[:2])
    if shorter >= side:
        return pixels
    height, width = (max(side, round(size * side / shorter)) for size in pixels.shape[:2])
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)


def spread(rows, columns, count):
    """Returns the (top, left) corners of `count` patches, spread evenly over an image.

    Patches stand on lines that reach from edge to edge; the longer side has more of them in a line.

    Args:
        rows: largest top edge.
        columns: largest left edge.
        count: number of patches.
    """
    lines = max(1, min(count, round(math.sqrt(count * (rows + 1) / (columns + 1)))))
    corners = []
    for line in range(lines):
        in_line = count // lines + (line < count % lines)
        top = _place(line, lines, rows)
        corners += [(top, _place(i, in_line, columns)) for i in range(in_line)]
    return corners


def write_results(folder, distributions, root, values, description, overwrite=False):
    """Prints mean and deviation of each image, and writes scores.json and scores.csv.

    Both are sorted by the mean score, highest first.

    Args:
        folder: where to write; `None` to print alone.
        distributions: {path: `[K]`}.
        root: folder that paths are shown relative to.
        values: scores of the K bins.
        description: {name: value} of how it was scored, for the JSON file.
        overwrite: see `check_free`.
    """
    rows = []
    values = np.asarray(values, np.float64)
    for path, distribution in distributions.items():
        mean = float(distribution @ values)
        deviation = float(np.sqrt(distribution @ np.square(values - mean)))
        name = pathlib.Path(path).relative_to(root).as_posix()
        rows.append(
            {"image": name, "mean": mean, "std": deviation, "scores": distribution.tolist()}
        )
    rows.sort(key=lambda row: (-row["mean"], row["image"]))
    _print_rows(rows)
    if folder is None:
        return
    check_free(folder, overwrite)
    folder = pathlib.Path(folder)
    content = description | {"score_values": values.tolist(), "images": rows}
    files.write_json(folder / RESULTS, content)
    table = [
        {name: row[name] for name in ("image", "mean", "std")}
        | {f"{value:g}": share for value, share in zip(values, row["scores"], strict=True)}
        for row in rows
    ]
    report.write_table(folder / TABLE, table)
    print(f"Results: {folder / RESULTS}, {folder / TABLE}")


def check_free(folder, overwrite):
    """Raises FileExistsError if the folder holds scores and they may not be replaced."""
    for name in (RESULTS, TABLE):
        path = pathlib.Path(folder) / name
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists: give another --output_path, or --overwrite.")


def _print_rows(rows):
    print(f"{'mean':>8}  {'std':>8}  image")
    lines = [f"{row['mean']:8.3f}  {row['std']:8.3f}  {row['image']}" for row in rows]
    report.print_ends(lines, SHOWN_ROWS)


def _place(index, count, largest):
    return largest // 2 if count == 1 else round(index * largest / (count - 1))


def _scores_function(model):
    function = inference.compile_outputs(model, ["scores"])
    return lambda batch: function(batch)["scores"]
