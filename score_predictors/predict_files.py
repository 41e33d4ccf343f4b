"""Scores image files of any size with a score predictor.

Files are decoded on several threads while the predictor works on batches of equal size.
"""

import functools
import math
import pathlib
import typing

import cv2
import numpy as np
from absl import flags

from misc.export import inference, tiling
from misc.images import files, image_files, pixel_store
from misc.reports import report

# What models give that are applied here, and what for.
OUTPUTS = (("scores", "features"),)
TASK = "score"
SCORING = ("centre", "patches", "whole")
RESULTS = "scores.json"
TABLE = "scores.csv"
# Of predictors whose file does not say: the original project's, and AVA's scale from 1.
DEFAULT_PATCH_SIZE = 192
SHOWN_ROWS = 20


def define_flags():
    """Defines the flags of scoring files."""
    flags.DEFINE_enum(
        "scoring",
        "centre",
        SCORING,
        "What a score predictor sees of an image: the central patch, several, or all of it.",
    )
    flags.DEFINE_integer(
        "scoring_patches", None, "Patches of --scoring=patches; default: 5.", lower_bound=1
    )
    flags.DEFINE_integer(
        "scoring_patch_size", None, "Side of the patches; default: as trained.", lower_bound=1
    )


def create_predictor(flags, model, source):
    """Returns `score_files` with the model, the flags' settings and the source, for the results."""
    if flags.scoring_patches is not None and flags.scoring != "patches":
        raise ValueError("--scoring_patches is for --scoring=patches.")
    patches = 5 if flags.scoring_patches is None else flags.scoring_patches
    scorer = FileScorer(model, flags.scoring, patches, flags.scoring_patch_size)
    return functools.partial(score_files, scorer, source)


class Score(typing.NamedTuple):
    """What an image is rated: mean and standard deviation of a distribution over scores.

    Attributes:
        mean: mean score.
        deviation: standard deviation of the scores.
        distribution: float64 `[K]`, share of each score.
    """

    mean: float
    deviation: float
    distribution: np.ndarray


def on_pixels(model):
    """Returns a function of uint8 or float32 `[H, W, 3]` in 0-255 that gives its `Score`."""
    scorer = FileScorer(model)

    def score(pixels):
        patches = np.stack(scorer.cut(tiling.from_float(pixels, np.uint8)))
        distribution = scorer.average(scorer.function(patches)["scores"])
        return describe(distribution, scorer.values(len(distribution)))

    return score


def describe(distribution, values):
    """Returns the `Score` of a distribution `[K]` over K values."""
    values = np.asarray(values, np.float64)
    mean = float(distribution @ values)
    deviation = float(np.sqrt(distribution @ np.square(values - mean)))
    return Score(mean, deviation, distribution)


def score_files(scorer, source, found, folder, output_path, overwrite=False, skip_broken=False):
    """Scores images found in a folder with a `FileScorer`, and writes their table.

    Returns the exit status: 0 if every image was scored.
    """
    files.check_free(output_path, (RESULTS, TABLE), overwrite)
    distributions, broken = scorer(found, skip_broken)
    description = {
        "model": str(source),
        "scoring": scorer.scoring,
        "patches": scorer.patches if scorer.scoring == "patches" else 1,
        "patch_size": None if scorer.scoring == "whole" else scorer.patch_size,
        "broken": [str(path) for path in broken],
    }
    if distributions:
        values = scorer.values(len(next(iter(distributions.values()))))
        write_results(output_path, distributions, folder, values, description)
    print(f"{len(distributions)} of {len(found)} images scored, {len(broken)} failed")
    return 1 if broken else 0


class FileScorer:
    """Applies a model with "scores" to files."""

    def __init__(self, model, scoring="centre", patches=5, patch_size=None):
        """Sets how images become scores.

        Args:
            model: `Method` or `FrozenMethod`.
            scoring: "centre": the central square patch; "patches": the average over several patches
                that are spread evenly over the image; "whole": the whole image at once.
            patches: number of patches of "patches".
            patch_size: side of a patch in pixels; `None` for what the model was trained with.
                Images with a shorter side are enlarged to it, bilinearly, in all three ways.

        Raises:
            ValueError: for values that cannot be.
        """
        if scoring not in SCORING:
            raise ValueError(f"--scoring is one of {', '.join(SCORING)}. Received: {scoring}")
        if patches < 1:
            raise ValueError(f"--scoring_patches is at least 1. Received: {patches}")
        self.scoring = scoring
        self.patches = patches
        self.patch_size = patch_size or model.metadata.get("patch_size", DEFAULT_PATCH_SIZE)
        if scoring == "patches":
            size = patches * self.patch_size**2 * 3
            pixel_store.check_memory(size, f"--scoring_patches={patches}: what is cut of an image")
        self._values = model.metadata.get("score_values")
        self.function = inference.compile_outputs(model, ["scores"])

    def values(self, bins):
        """Returns the scores that the bins stand for; 1, 2, ... where the model does not say."""
        return self._values or [float(value) for value in range(1, bins + 1)]

    def __call__(self, paths, skip_broken=False):
        """Returns `({path: float64 [K]}, broken files)`; see `inference.apply_to_files`."""

        def prepare(path):
            pixels = image_files.read_rgb(path)
            try:
                return self.cut(pixels)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error

        found, broken = inference.apply_to_files(
            self.function, prepare, paths, "scoring", skip_broken
        )
        distributions = {path: self.average(outputs["scores"]) for path, outputs in found.items()}
        return distributions, broken

    def average(self, scores):
        """Returns the distribution of an image, float64 `[K]`, from those of its patches."""
        return np.mean(scores, axis=0, dtype=np.float64)

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


def enlarge(pixels, side):
    """Returns uint8 pixels, enlarged bilinearly where the shorter side is less than `side`."""
    shorter = min(pixels.shape[:2])
    if shorter >= side:
        return pixels
    height, width = (max(side, round(size * side / shorter)) for size in pixels.shape[:2])
    pixel_store.check_pixels(height, width, "An enlarged image")
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)


def spread(rows, columns, count):
    """Returns the (top, left) corners of `count` patches, spread evenly over an image.

    Patches stand on lines that reach from edge to edge; the longer side has more of them in a line.
    `rows` and `columns` are the largest top and left edge.
    """
    lines = max(1, min(count, round(math.sqrt(count * (rows + 1) / (columns + 1)))))
    corners = []
    for line in range(lines):
        in_line = count // lines + (line < count % lines)
        top = _place(line, lines, rows)
        corners += [(top, _place(i, in_line, columns)) for i in range(in_line)]
    return corners


def write_results(folder, distributions, root, values, description):
    """Prints mean and deviation of each image, and writes scores.json and scores.csv.

    Both are sorted by the mean score, highest first.

    Args:
        folder: where to write.
        distributions: {path: `[K]`}.
        root: folder that paths are shown relative to.
        values: scores of the K bins.
        description: {name: value} of how it was scored, for the JSON file.
    """
    rows = []
    values = np.asarray(values, np.float64)
    for path, distribution in distributions.items():
        score = describe(distribution, values)
        name = pathlib.Path(path).relative_to(root).as_posix()
        rows.append(
            {
                "image": name,
                "mean": score.mean,
                "std": score.deviation,
                "scores": distribution.tolist(),
            }
        )
    rows.sort(key=lambda row: (-row["mean"], row["image"]))
    print(f"{'mean':>8}  {'std':>8}  image")
    lines = [f"{row['mean']:8.3f}  {row['std']:8.3f}  {row['image']}" for row in rows]
    report.print_ends(lines, SHOWN_ROWS)
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


def _place(index, count, largest):
    return largest // 2 if count == 1 else round(index * largest / (count - 1))
