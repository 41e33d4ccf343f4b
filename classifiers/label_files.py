"""Classes of images that lie in one folder, from a table: ImageNet's validation comes so.

Each line holds a file's name, with or without its extension, and its class, by name or number,
with a comma, a tab or a space between: "a.jpg,cat", "ILSVRC2012_val_00000001.JPEG 65", or
LOC_val_solution.csv, whose classes are followed by boxes. A first line that names no image is a
header.
"""

import csv
import re

from misc.images import files, image_files

# A class and the boxes of its objects, four numbers each.
_BOXES = re.compile(r"(\S+)(\s+-?\d+){4,}")


def read(path, folder, names=None):
    """Returns the list of (image, class), and the names of the classes.

    Args:
        path: the table.
        folder: where the images lie.
        names: list of the classes in the order of their numbers; `None`: those of the table,
            sorted, or its numbers from 0 on.

    Raises:
        ValueError: if a line names no image of the folder or no class; says which.
        OSError: if the table cannot be read.
    """
    rows = _rows(path)
    found = image_files.find_images(folder)
    images = {image.relative_to(folder).as_posix(): image for image in found}
    images |= {name.rsplit(".", 1)[0]: image for name, image in images.items()}
    if rows and rows[0][1] not in images:
        rows = rows[1:]
    if not rows:
        raise ValueError(
            f"--data_test_labels={path} should hold a file's name and its class in each line. "
            f"None of its lines begins with an image of {folder}."
        )
    for line, image, _ in rows:
        if image not in images:
            raise ValueError(
                f"--data_test_labels={path}: line {line} names {image!r}, which is not in {folder}."
            )
    names = list(names or _classes([name for _, _, name in rows]))
    numbers = {name: number for number, name in enumerate(names)}
    found = [(images[image], _number(path, line, name, numbers)) for line, image, name in rows]
    return found, names


def _rows(path):
    """Returns the list of (number of the line, image, class)."""
    text = files.read_text(path)
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        delimiter = next((sign for sign in ",\t" if sign in line), None)
        cells = next(csv.reader([line], delimiter=delimiter)) if delimiter else line.split(None, 1)
        if len(cells) < 2:
            raise ValueError(
                f"--data_test_labels={path}: line {number} should hold a file's name and its "
                f"class. Received: {line.strip()[:80]!r}. For a list of classes alone, such as "
                "ImageNet's development kit has, see python -m misc.sort_into_classes."
            )
        image, name = (cell.strip() for cell in cells[:2])
        boxes = _BOXES.fullmatch(name)
        rows.append((number, image, boxes.group(1) if boxes else name))
    return rows


def _classes(found):
    if all(name.isdecimal() for name in found):
        return [str(number) for number in range(max(map(int, found)) + 1)]
    return sorted(set(found))


def _number(path, line, name, numbers):
    if name in numbers:
        return numbers[name]
    if name.isdecimal() and int(name) < len(numbers):
        return int(name)
    raise ValueError(
        f"--data_test_labels={path}: line {line} has the class {name!r}, which is none of the "
        f"{len(numbers)} classes {', '.join(list(numbers)[:3])}, ..."
    )
