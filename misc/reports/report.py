"""Results of an evaluation: lines on the screen, pictures, JSON, CSV, a page."""

import csv
import io
import pathlib

from misc.images import files, image_files
from misc.reports import self_contained

RESULTS = "results.json"
TABLE = "results.csv"
PAGE = "index.html"
# Figures between 0 and 1 need more digits than decibels.
DECIMALS = {"ssim_y": 4, "bicubic_ssim_y": 4}
FLOOR = "floor/"
SHOWN_ROWS = 100
SHOWN_COLUMNS = 20


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
        self._tables = {}
        self._notes = {}
        self._has_page = False
        if self.path and (self.path / RESULTS).exists() and not overwrite:
            raise FileExistsError(
                f"--save_path={self.path} holds results already. Give another folder, or "
                "--overwrite."
            )

    def add_row(self, row):
        """Keeps the figures of one image, {"scale", "name", figure: number}; prints the first."""
        self._rows.append(row)
        if len(self._rows) == 1:
            print(_line(row, header=True))
        if len(self._rows) <= SHOWN_ROWS:
            print(_line(row), flush=True)
        elif len(self._rows) == SHOWN_ROWS + 1:
            print("...", flush=True)

    def add_table(self, name, rows):
        """Keeps a table, a list of dicts with the same keys, and writes it as NAME.csv."""
        self._tables[name] = rows

    def add_note(self, name, text):
        """Keeps what has to be known to read the figures."""
        self._notes[name] = text

    def add_picture(self, name, image):
        """Writes uint8 RGB `[height, width, 3]` as NAME.png."""
        if self.path and self._save_pictures:
            image_files.write_image(self.path / f"{name}.png", image)

    def add_page(self, title, parts):
        """Writes index.html, a page of a title and parts in HTML; see `self_contained`."""
        if self.path:
            self_contained.write(self.path / PAGE, title, parts)
            self._has_page = True

    def finish(self, means, description):
        """Prints the means, and writes results.json and results.csv.

        Args:
            means: {name: float}, where names may begin with a group such as "x2/".
            description: {name: value} of what was evaluated.
        """
        if not self._rows:
            raise ValueError("No image was evaluated: the dataloader gave none.")
        print()
        if "scale" in self._rows[0]:
            self._print_scales(means)
        else:
            self._print_figures(means)
        for name, rows in self._tables.items():
            self._print_table(name, rows)
        if self.path:
            write_table(self.path / TABLE, self._rows)
            for name, rows in self._tables.items():
                write_table(self.path / f"{name}.csv", rows)
            # Last: where it is, the next run replaces nothing unless it is told to.
            results = description | {"mean": means, "notes": self._notes, **self._tables}
            files.write_json(self.path / RESULTS, results | {"images": self._rows})
            written = [self.path / name for name in (RESULTS, TABLE, *[PAGE] * self._has_page)]
            print(f"\nResults: {', '.join(map(str, written))}")

    def _print_table(self, name, rows):
        if rows and (len(rows) > SHOWN_ROWS or len(rows[0]) > SHOWN_COLUMNS):
            where = f", in {self.path / name}.csv" if self.path else ""
            print(f"\n{name}: {len(rows)} rows of {len(rows[0])} columns{where}")
            return
        widths = {
            column: max([len(column), 8, *(len(r[column]) for r in rows if _is_text(r[column]))])
            for column in (rows[0] if rows else ())
        }
        print(f"\n{_cells(rows[0], widths, header=True)}" if rows else f"\n{name}: none")
        for row in rows:
            print(_cells(row, widths))

    def _print_scales(self, means):
        for group in sorted({name.split("/")[0] for name in means if "/" in name}):
            row = {n.split("/")[1]: v for n, v in means.items() if n.startswith(f"{group}/")}
            count = sum(f"x{row['scale']}" == group for row in self._rows)
            print(_line({"scale": group[1:], "name": f"mean of {count}"} | row))

    def _print_figures(self, means):
        has_floor = any(name.startswith(FLOOR) for name in means)
        unit = "levels" if "level" in self._rows[0] else "images"
        width = max(20, *map(len, means)) if means else 20
        print(f"{f'{len(self._rows)} {unit}':<{width}}  {'':>8}" + "     floor" * has_floor)
        for name, value in means.items():
            if name.startswith(FLOOR):
                continue
            floor = means.get(FLOOR + name)
            print(f"{name:<{width}}  {value:8.4f}" + ("" if floor is None else f"  {floor:8.4f}"))
        for name, text in self._notes.items():
            print(f"{name}: {text}")


def print_ends(lines, count):
    """Prints the first and the last lines, `count` of each, and how many are between them."""
    hidden = max(0, len(lines) - 2 * count)
    for line in lines[:count]:
        print(line)
    if hidden:
        print(f"{'...':>8}  {hidden} more")
    for line in lines[count + hidden :]:
        print(line)


def write_table(path, rows):
    """Writes a list of dicts with the same keys as CSV, atomically."""
    with (
        files.write_atomically(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def read_table(path):
    """Returns the rows of a CSV file as a list of dicts of texts.

    Raises:
        ValueError: if it is no CSV file with a header.
    """
    reader = csv.DictReader(io.StringIO(files.read_text(path), newline=""))
    try:
        return list(reader)
    except csv.Error as error:
        raise ValueError(f"{path} is no CSV file: {error}") from error


def _cells(row, widths, header=False):
    cells = []
    for name, value in row.items():
        shown = name if header else value if isinstance(value, int | str) else f"{value:.4f}"
        cells.append(f"{shown:{'<' if _is_text(value) else '>'}{widths[name]}}")
    return "  ".join(cells)


def _is_text(value):
    return isinstance(value, str)


def _line(row, header=False):
    cells = []
    for name, value in row.items():
        if name == "scale":
            cells.append(f"{'scale' if header else 'x' + str(value):<5}")
        elif name == "name":
            title = "degradation" if "level" in row else "image"
            cells.append(f"{title if header else value:<24}")
        elif isinstance(value, str):
            cells.append(f"{name if header else value:<28}")
        else:
            width = max(len(name), 8)
            text = name if header else f"{value:.{DECIMALS.get(name, 3)}f}".replace("nan", "-")
            cells.append(f"{text:>{width}}")
    return "  ".join(cells)
