"""CSV files with a header, read with messages that name file, line and column."""

import csv
import dataclasses
import io
import math
import pathlib

from misc.images import files

DELIMITERS = ",;\t"


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of a CSV file.

    Attributes:
        path: the file.
        columns: names of the columns, in lower case.
        rows: one list of texts per row.
        lines: number of the line in the file where each row ends.
    """

    path: str
    columns: list
    rows: list
    lines: list

    def __len__(self):
        return len(self.rows)

    def texts(self, column):
        """Returns the texts of a column."""
        place = self.columns.index(column)
        return [row[place] for row in self.rows]

    def numbers(self, column, optional=False):
        """Returns the numbers of a column; NaN for empty cells if they are allowed.

        Raises:
            ValueError: for a cell that is no finite number; names the line.
        """
        return [
            self._number(text, line, column, optional)
            for text, line in zip(self.texts(column), self.lines, strict=True)
        ]

    def _number(self, text, line, column, optional):
        if optional and not text:
            return math.nan
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(
                f"{self.path}, line {line}: the column {column} must be a number. "
                f"Received: {text!r}"
            )
        return number


def read(path, flag):
    """Returns the `Table` in a file of UTF-8 text, separated by commas, semicolons or tabs.

    Args:
        path: file with the columns' names in its first line.
        flag: name of the flag that gave it, for the message.

    Raises:
        ValueError: when the file is missing, empty, no text, or a row has too many or too few
            cells.
    """
    try:
        text = files.read_text(pathlib.Path(path).expanduser())
    except OSError as error:
        raise ValueError(f"--{flag}: cannot read {path}: {error.strerror}") from error
    header = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=header.count)
    rows, lines = [], []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
    if len(rows) < 2:
        raise ValueError(f"{path} must have a line of column names and at least one row")
    columns = [name.lower() for name in rows[0]]
    repeated = {name for name in columns if columns.count(name) > 1}
    if repeated:
        raise ValueError(f"{path} has several columns named {', '.join(sorted(repeated))}")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(columns):
            raise ValueError(
                f"{path}, line {line}: {len(row)} cells instead of {len(columns)}, as the first "
                "line has"
            )
    return Table(str(path), columns, rows[1:], lines[1:])
