"""The pages for users: their links, and the flags and files that their commands name."""

import pathlib
import re
import shlex

import pytest

from misc.training import registry, settings

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchors(path):
    headings = re.findall(r"^#+ (.*)", path.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(path):
    """Yields the parts of all commands of a page, in blocks of code and in tables."""
    text = path.read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, re.S)
    inline = re.findall(r"`((?:python )?(?:\w+\.py|-m misc\.\w+) --[^`\n]*)`", text)
    lines = "\n".join([*blocks, *inline]).replace("\\\n", " ").splitlines()
    for line in lines:
        found = re.search(r"(train\.py|validate\.py|freeze\.py|misc\.\w+)\s.*", line)
        if found:
            yield shlex.split(found.group(), comments=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_front_page_is_short():
    assert len(PAGES[0].read_text().splitlines()) <= 250


@pytest.fixture(scope="module")
def known():
    """Names of all flags of models, dataloaders and commands."""
    source = "".join(path.read_text() for path in ROOT.glob("[!.]*/**/*.py"))
    source += "".join(path.read_text() for path in ROOT.glob("*.py"))
    names = re.findall(r"(?:DEFINE|define)_\w+\(\s*\"(\w+)\"", source)
    for name in registry.list_names("models"):
        names += settings.defined_flags(registry.load("models", name).define_flags)
    # Dataloaders change defaults of the flags of their models.
    for name in registry.list_names("dataloaders"):
        loader = registry.load("dataloaders", name)
        model = registry.load("models", getattr(loader, "MODEL", "eusr"))
        names += settings.defined_flags(model.define_flags, loader.define_flags)
    return {*names, "flagfile", "helpfull", "verbosity"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_flags_and_recipes_that_exist(page, known):
    for program, *arguments in commands(page):
        assert (ROOT / f"{program.removesuffix('.py').replace('.', '/')}.py").is_file(), program
        for argument in arguments:
            if argument.startswith("--"):
                name, _, value = argument[2:].partition("=")
                assert name in known or name.removeprefix("no") in known, (program, argument)
                assert name != "flagfile" or (ROOT / value).is_file(), argument
