"""The pages for users: their links, and the flags and files that their commands name."""

import pathlib
import re
import shlex

import pytest

from misc.images import image_files, sample_data
from misc.training import registry, settings, weight_files
from tests import runs

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


@pytest.mark.slow  # a network for scores, one for classes and two for photos
def test_the_front_page_is_right_about_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo = sample_data.sample_photos("validation")[0][1]
    image_files.write_image(tmp_path / "photo.jpg", photo[:60, :64])
    values = {"patch_size": 32, "score_values": list(range(1, 11))}
    method = runs.save(tmp_path / "train", "mobilenetv2", values)
    weight_files.write(tmp_path / "train/ava.h5", method.networks)
    values = {"class_names": list("abcdefghij"), "crop": 32, "resize": 32}
    runs.save(tmp_path / "runs/clean/best", "classifier", values)
    blocks = re.findall(r"```python\n(.*?)```", PAGES[0].read_text(), re.S)
    assert len(blocks) == 2
    # There is no file of PyTorch's here, and a small network is as good.
    source = "\n".join(blocks).replace('"resnet50", weights="resnet50.pth"', '"cifar_resnet20", 10')
    found = {}
    exec(compile(source, "README.md", "exec"), found)
    assert found["large"].shape == (240, 256, 3)
    assert found["clean"].shape == found["pixels"].shape
    assert found["distribution"].sum() == pytest.approx(1)
    assert found["answers"][0]["class"] in "abcdefghij"
    assert found["degraded"].shape == found["images"].shape
    assert found["logits"].shape == (1, 10)
