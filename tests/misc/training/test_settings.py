import pytest
from absl import flags

from misc.training import settings


def define():
    flags.DEFINE_integer("size", 3, "")
    flags.DEFINE_list("scales", ["2"], "")
    flags.DEFINE_string("folder", "here", "")
    settings.local("folder")
    settings.changeable("folder")


def test_defaults_are_overlaid_by_the_run_and_that_by_the_command_line():
    with settings.fresh_flags():
        define()
        kept = {"size": 5, "scales": ["4", "8"], "folder": "there", "older": 1}
        settings.take_over(kept, flags.FLAGS)
        flags.FLAGS(["program", "--size=7"])
        found = settings.parsed()
        assert settings.changeable_names() == {"folder"}
    assert (found.size, found.scales, found.folder) == (7, ["4", "8"], "here")
    assert found.given == {"size"}


def test_a_run_that_lacks_a_newer_flag_gets_its_default():
    found = settings.of_run(define, {"scales": ["4"], "model": "eusr"})
    assert (found.size, found.scales, found.model) == (3, ["4"], "eusr")
    assert found.given == frozenset()


@pytest.mark.parametrize("value", ["large", [1, 2], {}, 1e400])
def test_values_that_a_flag_does_not_take_are_errors(value):
    with pytest.raises(ValueError, match=r"arguments\.json is damaged: .*size"):
        settings.of_run(define, {"size": value})


def test_settings_are_read_by_names_that_exist_and_never_changed():
    found = settings.Settings({"size": 3}, ["size"])
    other = found | {"size": 4, "new": None}
    assert (found.size, other.size, other.new, other.given) == (3, 4, None, {"size"})
    assert "new" not in found
    assert found.get("new", 5) == 5
    with pytest.raises(AttributeError, match="no flag --new"):
        _ = found.new


def test_fresh_flags_leave_the_programs_own_as_they_were():
    before = set(flags.FLAGS)
    with settings.fresh_flags():
        assert not set(flags.FLAGS)
        define()
        assert "size" in flags.FLAGS
    assert set(flags.FLAGS) == before


def test_older_runs_had_none_of_a_newer_flag():
    with settings.fresh_flags():
        define()
        settings.introduced("size", before=0)
        assert settings.values_before() == {"size": 0}
