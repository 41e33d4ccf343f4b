"""What `pip install .` brings: the library of degradations, and what it needs."""

import ast
import os
import pathlib
import re
import shutil
import sys
import tomllib
import zipfile

from setuptools import build_meta

ROOT = pathlib.Path(__file__).parent.parent
MODULES = {"opencv-python-headless": "cv2", "pillow": "PIL"}
# The backends of Keras are the user's choice; the extra "codecs" brings the others.
OPTIONAL = {"tensorflow", "jax"}


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_wheel_holds_degradations_alone(tmp_path):
    names = ("pyproject.toml", "README.md", "LICENSE", "train.py")
    for name in names:
        shutil.copy(ROOT / name, tmp_path)
    for package in ("degradations", "misc", "eusr", "tests"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("*.npz"))
    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        wheel = build_meta.build_wheel(str(tmp_path))
    finally:
        os.chdir(before)
    found = zipfile.ZipFile(tmp_path / wheel).namelist()
    modules = {f"degradations/{path.name}" for path in (ROOT / "degradations").glob("*.py")}
    assert {name for name in found if ".dist-info/" not in name} == modules


def test_degradations_import_what_their_dependencies_bring():
    named = {re.match(r"[\w-]+", text).group() for text in project()["dependencies"]}
    brought = {MODULES.get(name, name) for name in named}
    imported = set()
    for path in (ROOT / "degradations").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    needed = imported - set(sys.stdlib_module_names) - OPTIONAL - {"degradations"}
    assert needed == brought


def test_the_citation_has_the_version():
    version = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert version.group(1) == project()["version"]
