import pytest
from absl import flags

from misc.training import settings


def define_depth():
    flags.DEFINE_integer("depth", 3, "Depth.")


def test_flags_are_swapped_and_come_back():
    before = set(flags.FLAGS)
    with settings.fresh_flags() as fresh:
        define_depth()
        assert list(fresh) == ["depth"]
        fresh(["program", "--depth=5"])
        assert flags.FLAGS.depth == 5
    assert set(flags.FLAGS) == before
    assert settings.defined_flags(define_depth) == {"depth"}
    with pytest.raises(ZeroDivisionError):
        settings.defined_flags(define_depth, lambda: 1 / 0)
    assert set(flags.FLAGS) == before
