"""What is kept beside results, so that nothing else is taken for them."""

import json

from misc.images import files

SETTINGS = "settings.json"


def keep_settings(record, settings, replaced):
    """Keeps what all results in a folder are made with.

    Args:
        record: hidden folder among the results, for the file.
        settings: {name of a flag: value}.
        replaced: whether all results that are there are made again, or there are none.

    Raises:
        ValueError: if there are results of other settings, which stay.
    """
    path = record / SETTINGS
    if path.exists() and not replaced:
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            differing = [
                f"--{name} was {before[name]}, is {value}"
                for name, value in settings.items()
                if name in before and before[name] != value
            ]
        except (ValueError, TypeError, RecursionError):
            differing = [f"{path} is damaged"]
        if differing:
            raise ValueError(
                f"--output_path={record.parent} holds results of other settings "
                f"({'; '.join(differing)}): give another --output_path, or --overwrite."
            )
    files.write_json(path, settings)


def is_kept(record):
    """Returns whether `keep_settings` has worked in this folder."""
    return (record / SETTINGS).exists()
