import pytest
from absl import flags
from hypothesis import given
from hypothesis import strategies as st

from misc.training import common_flags

DEFINE = flags.DEFINE


def parse(monkeypatch, argv, default, number=int):
    values = flags.FlagValues()

    def define(*args, **kwargs):
        return DEFINE(*args, flag_values=values, **kwargs)

    monkeypatch.setattr(flags, "DEFINE", define)
    common_flags.define_numbers("numbers", default, "Numbers.", number)
    values(["test", *argv])
    return values


@given(st.lists(st.integers(), min_size=1))
def test_integers_survive_the_way_through_a_flag_file(numbers):
    with pytest.MonkeyPatch.context() as monkeypatch:
        values = parse(monkeypatch, [f"--numbers={','.join(map(str, numbers))}"], None)
        assert values.numbers == numbers
        again = parse(monkeypatch, [values["numbers"].serialize()], None)
        assert again.numbers == numbers


@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_floats_survive_too(numbers):
    with pytest.MonkeyPatch.context() as monkeypatch:
        text = ",".join(map(repr, numbers))
        assert parse(monkeypatch, [f"--numbers={text}"], None, float).numbers == numbers


def test_default_may_be_a_list_or_nothing(monkeypatch):
    assert parse(monkeypatch, [], [2, 4, 8]).numbers == [2, 4, 8]
    assert parse(monkeypatch, [], None).numbers is None


@pytest.mark.parametrize("text", ["2,x", "", "2;4", "2,,4", "1.5"])
def test_other_text_is_named(monkeypatch, text):
    with pytest.raises(flags.IllegalFlagValueError, match=f"'{text}' is not a list of ints"):
        parse(monkeypatch, [f"--numbers={text}"], None)
