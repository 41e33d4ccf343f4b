"""The names of a network's classes, in the order of its outputs.

Data often hold only some of the classes that a network knows: 400 folders of ImageNet's 1,000. A
file of names then says which output each folder belongs to.
"""

import pathlib
import re

from absl import flags

from misc.images import files

IMAGENET = "imagenet"
_IMAGENET_FILE = pathlib.Path(__file__).parent / "imagenet_classes.txt"
# A synset's number, which names the folder, and its words, as ImageNet's own lists have them.
_SYNSET = re.compile(r"(n\d{8})\s+(.+)")


def define_flag():
    """Defines the flag of the classes' names."""
    flags.DEFINE_string(
        "class_names",
        None,
        "Names of the network's classes in the order of its outputs, as the data's folders are "
        "called, where the data hold only some of them: imagenet, or a file with a name in each "
        "line, maybe 'n01440764 tench', or a JSON list. Default: the classes are those of the "
        "data, sorted.",
    )


def read(text):
    """Returns {name of a class: the same to be read} in the order of a network's outputs.

    Args:
        text: "imagenet", or the path of a .json file (a list of names; {name: words}; or
            {"0": [name, words], ...}) or of a text file with a class in each line: a name, or a
            synset's number and words. Empty lines and those that begin with # are left out.

    Raises:
        ValueError: if the file holds something else, or a class twice.
        FileNotFoundError: if there is no such file.
    """
    path = _IMAGENET_FILE if text == IMAGENET else pathlib.Path(text)
    if not path.is_file():
        raise FileNotFoundError(
            f"--class_names is {IMAGENET} or a file of names. Received: {text}, which is no file"
        )
    pairs = _json_pairs(path) if path.suffix == ".json" else _text_pairs(path)
    if not pairs:
        raise ValueError(f"--class_names={path} holds no names.")
    names = dict(pairs)
    if len(names) < len(pairs):
        seen = [name for name, _ in pairs]
        twice = next(name for name in seen if seen.count(name) > 1)
        raise ValueError(f"--class_names={path} holds the class {twice!r} twice.")
    return names


def _text_pairs(path):
    lines = (line.strip() for line in files.read_text(path).splitlines())
    lines = [line for line in lines if line and not line.startswith("#")]
    matches = [_SYNSET.fullmatch(line) for line in lines]
    if all(matches):
        return [match.groups() for match in matches]
    return [(line, line) for line in lines]


def _json_pairs(path):
    content = files.read_json(path)
    if isinstance(content, dict) and set(content) == set(map(str, range(len(content)))):
        content = [content[str(number)] for number in range(len(content))]
    elif isinstance(content, dict):
        content = list(content.items())
    content = content if isinstance(content, list) else [None]
    pairs = [(item, item) if isinstance(item, str) else item for item in content]
    for pair in pairs:
        is_pair = isinstance(pair, list | tuple) and len(pair) == 2
        if not is_pair or not all(isinstance(name, str) for name in pair):
            raise ValueError(
                f"--class_names={path} should hold a list of names, {{name: words}} or "
                '{"0": [name, words], ...}.'
            )
    return [tuple(pair) for pair in pairs]


def are_imagenet(names):
    """Returns whether all names are ImageNet's."""
    return set(names) <= set(read(IMAGENET))


def create(flags):
    """Returns the list of names that --class_names gives, `None` without it."""
    return list(read(flags.class_names)) if flags.get("class_names") else None


def check_among(found, names, where):
    """Raises ValueError if classes that were found `where` are not among the names."""
    unknown = sorted(set(found) - set(names))
    if unknown:
        more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        raise ValueError(f"{where} does not name {', '.join(unknown[:8])}{more}.")


def check_count(names, wanted):
    """Raises ValueError if the data have other than the `wanted` number of classes."""
    if len(names) != wanted:
        raise ValueError(
            f"The data have {len(names)} classes. Received: --num_classes={wanted}. If theirs are "
            f"some of a network's {wanted} classes, name all of these in the order of its outputs: "
            f"--class_names={IMAGENET}, or a file. Else give --num_classes={len(names)}."
        )
