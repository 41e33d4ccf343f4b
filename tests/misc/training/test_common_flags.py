import functools
import importlib

import pytest
from absl import flags
from hypothesis import given
from hypothesis import strategies as st

from classifiers.dataloaders import class_folders
from misc.training import common_flags, registry, settings

DEFINE = flags.DEFINE


def parse(monkeypatch, argv, default, define=common_flags.define_numbers, **options):
    values = flags.FlagValues()
    patched = functools.partial(DEFINE, flag_values=values)
    monkeypatch.setattr(flags, "DEFINE", patched)
    define("numbers", default, "Numbers.", **options)
    values(["test", *argv])
    return values


@given(st.lists(st.integers(), min_size=1))
def test_integers_survive_the_way_through_a_flag_file(numbers):
    with pytest.MonkeyPatch.context() as monkeypatch:
        values = parse(monkeypatch, [f"--numbers={','.join(map(str, numbers))}"], None)
        assert values.numbers == numbers
        again = parse(monkeypatch, [values["numbers"].serialize()], None)
        assert again.numbers == numbers


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_floats_survive_too(numbers):
    with pytest.MonkeyPatch.context() as monkeypatch:
        text = ",".join(map(repr, numbers))
        assert parse(monkeypatch, [f"--numbers={text}"], None, number=float).numbers == numbers


def test_default_may_be_a_list_or_nothing(monkeypatch):
    assert parse(monkeypatch, [], [2, 4, 8]).numbers == [2, 4, 8]
    assert parse(monkeypatch, [], None).numbers is None


@pytest.mark.parametrize("text", ["2,x", "", "2;4", "2,,4", "1.5"])
def test_other_text_is_named(monkeypatch, text):
    with pytest.raises(flags.IllegalFlagValueError, match=f"'{text}' is not a list of ints"):
        parse(monkeypatch, [f"--numbers={text}"], None)


@pytest.mark.parametrize(
    ("text", "message", "options"),
    [
        ("2,nan", "nan is not a finite number", {"number": float}),
        ("1e39", "1e[+]39 is not a finite number", {"number": float}),
        ("2,1", "1 is not an integer at least 2", {"at_least": 2}),
        ("1,256", "256 is not an integer above 0 and below 256", {"above": 0, "below": 256}),
        ("1,2", "2 numbers are given, and 3 expected", {"length": 3}),
        ("2,4,2", "'2,4,2' has a number twice", {"order": "distinct"}),
        ("2,4,2", "'2,4,2' has a number twice", {"order": "ascending"}),
        ("4,2", "'4,2' is not in ascending order", {"order": "ascending"}),
    ],
)
def test_numbers_without_sense_are_refused(monkeypatch, text, message, options):
    with pytest.raises(flags.IllegalFlagValueError, match=f"flag --numbers={text}: .*{message}"):
        parse(monkeypatch, [f"--numbers={text}"], None, **options)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e39", "-1", "1", "0.5"])
def test_a_number_is_finite_and_within_its_bounds(monkeypatch, text):
    arguments = [f"--numbers={text}"], None, common_flags.define_float
    if text == "0.5":
        assert parse(monkeypatch, *arguments, at_least=0, below=1).numbers == 0.5
        return
    with pytest.raises(flags.IllegalFlagValueError, match="finite number at least 0 and below 1"):
        parse(monkeypatch, *arguments, at_least=0, below=1)


def test_names_are_neither_empty_nor_repeated(monkeypatch):
    define = common_flags.define_names
    assert parse(monkeypatch, ["--numbers=a,b"], None, define).numbers == ["a", "b"]
    assert parse(monkeypatch, ["--numbers=a,a"], None, define, repeats=True).numbers == ["a", "a"]
    for text, message in (("a,a", "has a name twice"), ("", "should be names"), ("a,", "names")):
        with pytest.raises(flags.IllegalFlagValueError, match=message):
            parse(monkeypatch, [f"--numbers={text}"], None, define)


COMMANDS = {"train": {}, "validate": {}, "freeze": {}, "misc.predict_folder": {"with_model": True}}
COMMANDS |= dict.fromkeys(
    f"misc.{name}"
    for name in (
        *("compare_results", "data_service", "dataset_preprocessing", "degrade_folder", "demo"),
        *("downscale_folder", "fuse_weights", "fusion_distill_chain", "perceptual_demo"),
        *("rate_accuracy", "sort_into_classes"),
    )
)
COMMANDS |= {
    "misc.convert_weights": {"of_run": False},
    "misc.robustness_report": {"dataloader": class_folders},
}
# Any whole number is a seed, or is counted from the end of a list.
ANY_INTEGER = {"misc.degrade_folder": ["seed"], "ratings": ["ratings_split_seed"]}


def definitions():
    """Yields the name of every model, dataloader and command, and how its flags are defined."""
    for kind in ("models", "dataloaders"):
        for name in registry.list_names(kind):
            module = registry.load(kind, name)
            model = registry.load("models", getattr(module, "MODEL", "eusr"))
            before = model.define_flags if kind == "dataloaders" else lambda: None
            yield name, lambda define=module.define_flags, before=before: (before(), define())
    for name, options in COMMANDS.items():
        define = importlib.import_module(name).define_flags
        yield name, functools.partial(define, **options or {})


@pytest.mark.parametrize(("name", "define"), definitions(), ids=lambda value: str(value)[:30])
def test_every_flag_refuses_values_without_sense(name, define):
    with settings.fresh_flags():
        define()
        for flag in map(flags.FLAGS.__getitem__, flags.FLAGS):
            wrong = []
            if isinstance(flag.parser, flags.FloatParser):
                wrong = ["nan", "inf", "-1"]
            elif isinstance(flag.parser, flags.IntegerParser):
                checked = flag.validators or flag.name in ANY_INTEGER.get(name, ())
                wrong = [] if checked else ["-1"]
            elif "list of float" in flag.flag_type():
                wrong = ["nan,1,2", "inf,1,2"]
            elif "list of int" in flag.flag_type():
                wrong = ["", "2,1,2"]
            elif isinstance(flag.parser, flags.ListParser):
                wrong = ["", "a,,b"]
            for text in wrong:
                with pytest.raises(flags.IllegalFlagValueError, match=f"--{flag.name}="):
                    flag.parse(text)
