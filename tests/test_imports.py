"""The rules of who may import whom."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = ("eusr", "score_predictors", "classifiers")
ENTRY_POINTS = ("train.py", "validate.py", "freeze.py")
SOURCES = sorted(
    path.relative_to(ROOT)
    for folder in (*PACKAGES, "degradations", "misc")
    for path in (ROOT / folder).rglob("*.py")
) + [pathlib.Path(name) for name in ENTRY_POINTS if (ROOT / name).exists()]
BACKEND_SPECIFIC = (
    "degradations/random.py",
    "degradations/codecs.py",
    "classifiers/networks/batch_norm.py",
)


def imported(path):
    """Yields the dotted names that a file imports anywhere in it."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def tops(path):
    return {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_packages_do_not_import_each_other(path):
    package = path.parts[0]
    others = set(PACKAGES) - {package}
    assert not tops(path) & others
    if package == "degradations":
        assert not tops(path) & {"misc"}
    if path.name not in ENTRY_POINTS:
        assert not tops(path) & {name[:-3] for name in ENTRY_POINTS}


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_networks_losses_and_degradations_are_backend_neutral(path):
    neutral = path.name.startswith("network") or path.name in ("losses.py", "discriminator.py")
    neutral = neutral or path.parts[0] == "degradations" or "networks" in path.parts
    if neutral and path.as_posix() not in BACKEND_SPECIFIC:
        assert "tensorflow" not in tops(path)


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parts[0] in PACKAGES], ids=str)
def test_networks_losses_and_metrics_know_nothing_of_training(path):
    if not {"models", "dataloaders"} & set(path.parts):
        assert not any(".models" in name or ".dataloaders" in name for name in imported(path))


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name not in ENTRY_POINTS], ids=str)
def test_only_flag_functions_touch_the_global_flags(path):
    tree = ast.parse((ROOT / path).read_text())
    is_command = any(
        isinstance(node, ast.If) and "__main__" in ast.dump(node.test) for node in tree.body
    )
    if is_command or path.as_posix() in (
        "misc/common_flags.py",
        "misc/entry_point.py",
        "misc/zoo.py",
    ):
        return
    users = {
        scope.name if isinstance(scope, ast.FunctionDef | ast.ClassDef) else "module level"
        for scope in tree.body
        for node in ast.walk(scope)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id == "FLAGS" or (node.value.id == "flags" and node.attr == "FLAGS"))
    }
    assert all(name.startswith(("define_", "create_")) for name in users), users
