"""Who may import whom, and who may read flags."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = ("eusr", "score_predictors", "classifiers")
ENTRY_POINTS = ("train", "validate", "freeze")
ROOMS = ("misc.export", "misc.training", "misc.reports", "misc.images")
# Room: what it may import beside itself and libraries.
ALLOWED = {
    "degradations": (),
    "misc.images": ("degradations",),
    "misc.reports": ("misc.images", "degradations"),
    "misc.training": ("misc.images", "degradations"),
    "misc.export": ("misc.training", "misc.images", "degradations"),
    **dict.fromkeys(PACKAGES, (*ROOMS, "degradations")),
    "commands": (*PACKAGES, *ROOMS, "degradations"),
}
SOURCES = sorted(
    path.relative_to(ROOT)
    for folder in (*PACKAGES, "degradations", "misc")
    for path in (ROOT / folder).rglob("*.py")
) + [pathlib.Path(f"{name}.py") for name in ENTRY_POINTS]
MODULES = {path.with_suffix("").as_posix().replace("/", ".") for path in SOURCES}
COMMANDS = [path for path in SOURCES if path.parent in (pathlib.Path("misc"), pathlib.Path())]
COMMANDS = [path for path in COMMANDS if path.name != "__init__.py"]
# May import TensorFlow although they lie among what is neutral.
BACKEND_SPECIFIC = (
    "degradations/random.py",
    "degradations/codecs.py",
    "classifiers/networks/batch_norm.py",
)
# Where flags become settings.
FLAG_MODULES = ("command_line", "common_flags", "entry_point", "registry", "settings")


def imported(path):
    """Yields the dotted names that a file imports anywhere in it."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(name):
    """Returns the room that a dotted name of the project lies in, `None` for a library's."""
    parts = name.split(".")
    if parts[0] == "misc":
        return next((r for r in ROOMS if f"{name}.".startswith(f"{r}.")), "commands")
    if parts[0] in (*PACKAGES, "degradations"):
        return parts[0]
    return "commands" if parts[0] in ENTRY_POINTS else None


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_rooms_import_what_lies_below_them(path):
    own = room(path.with_suffix("").as_posix().replace("/", "."))
    found = {room(name) for name in imported(path)} - {None}
    assert found - {own} <= set(ALLOWED[own])
    # Nobody imports a command, other commands neither.
    assert "commands" not in found


@pytest.mark.parametrize("path", COMMANDS, ids=str)
def test_what_lies_at_the_top_is_a_command(path):
    assert '__name__ == "__main__"' in (ROOT / path).read_text()


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_networks_losses_and_degradations_are_backend_neutral(path):
    neutral = path.name.startswith("network") or path.name in ("losses.py", "discriminator.py")
    neutral = neutral or path.parts[0] == "degradations" or "networks" in path.parts
    if neutral and path.as_posix() not in BACKEND_SPECIFIC:
        assert "tensorflow" not in {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parts[0] in PACKAGES], ids=str)
def test_networks_losses_and_metrics_know_nothing_of_training(path):
    if not {"models", "dataloaders"} & set(path.parts):
        assert not any(".models" in name or ".dataloaders" in name for name in imported(path))


def functions(path):
    """Yields (name, node) of the functions of a file, also of those in classes and functions."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node.name, node


BELOW = [path for path in SOURCES if path not in COMMANDS and path.stem not in FLAG_MODULES]


@pytest.mark.parametrize("path", BELOW, ids=str)
def test_flags_are_read_where_things_are_created(path):
    """Functions whose names begin with create_ read flags; all others take plain values."""
    for name, function in functions(path):
        arguments = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}
        uses = any(
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and (node.value.id == "FLAGS" or (node.value.id == "flags" and node.attr == "FLAGS"))
            for node in ast.walk(function)
        )
        if "flags" in arguments:
            assert name.startswith("create") or name == "data_settings", name
        if uses:
            assert name.startswith("define_"), name
