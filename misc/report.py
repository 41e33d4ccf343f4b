"""Results of an evaluation: lines on the screen, pictures, JSON and CSV."""

import csv
import pathlib

from misc import files, images

RESULTS = "results.json"
TABLE = "results.csv"
DECIMALS = {"ssim_y": 4, "bicubic_ssim_y": 4}


class Results:
    """Collects what `Method.evaluate` reports, shows it and keeps it."""

    def __init__(self, path=None, overwrite=False, save_pictures=True):
        """Prepares the folder.

        Args:
            path: folder for results, or `None` to show them on the screen alone.
            overwrite: whether results that are there may be replaced.
            save_pictures: whether to write pictures.

        Raises:
            FileExistsError: if `path` holds results and `overwrite` is false.
        """
        self.path = pathlib.Path(path) if path else None
        self._save_pictures = save_pictures
        self._rows = []
        if self.path and (self.path / RESULTS).exists() and not overwrite:
            raise FileExistsError(
                f"--save_path={self.path} holds results already. Give another folder, or "
                "--overwrite."
            )

    def add_row(self, row):
        """Prints and keeps the figures of one image, {"scale", "name", figure: number}."""
        self._rows.append(row)
        if len(self._rows) == 1:
            print(_line(row, header=True))
        print(_line(row), flush=True)

    def add_picture(self, name, image):
        """Writes uint8 RGB `[height, width, 3]` as NAME.png."""
        if self.path and self._save_pictures:
            images.write_image(self.path / f"{name}.png", image)

    def finish(self, means, description):
        """Prints the means, and writes results.json and results.csv.

        Args:
            means: {name: float}, where names may begin with a group such as "x2/".
            description: {name: value} of what was evaluated.
        """
        if not self._rows:
            raise ValueError("No image was evaluated: the dataloader gave none.")
        print()
        for group in sorted({name.split("/")[0] for name in means if "/" in name}):
            row = {n.split("/")[1]: v for n, v in means.items() if n.startswith(f"{group}/")}
            count = sum(f"x{row['scale']}" == group for row in self._rows)
            print(_line({"scale": group[1:], "name": f"mean of {count}"} | row))
        if self.path:
            results = description | {"mean": means, "images": self._rows}
            files.write_json(self.path / RESULTS, results)
            with (
                files.write_atomically(self.path / TABLE) as temporary,
                open(temporary, "w", newline="") as file,
            ):
                writer = csv.DictWriter(file, fieldnames=list(self._rows[0]))
                writer.writeheader()
                writer.writerows(self._rows)
            print(f"\nResults: {self.path / RESULTS}, {self.path / TABLE}")


def _line(row, header=False):
    cells = []
    for name, value in row.items():
        if name == "scale":
            cells.append(f"{'scale' if header else 'x' + str(value):<5}")
        elif name == "name":
            cells.append(f"{'image' if header else value:<24}")
        else:
            width = max(len(name), 8)
            text = name if header else f"{value:.{DECIMALS.get(name, 3)}f}"
            cells.append(f"{text:>{width}}")
    return "  ".join(cells)
