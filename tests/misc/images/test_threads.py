import time

import pytest

from misc.images import threads


def work(item):
    if item % 10 == 3:
        raise ValueError(f"file {item}")
    return item * item


def test_results_keep_the_order():
    results, skipped = threads.for_each(work, [4, 5, 6, 7] * 20, "Squares")
    assert results == [16, 25, 36, 49] * 20
    assert skipped == []


def test_generators_are_read_as_threads_become_free():
    results, _ = threads.for_each(lambda item: item, iter(range(100)), "Items", total=100)
    assert results == list(range(100))


def test_broken_items():
    with pytest.raises(ValueError, match="file 3"):
        threads.for_each(work, range(10), "Squares")
    results, skipped = threads.for_each(work, range(24), "Squares", skip_broken=True)
    assert [number for number, result in enumerate(results) if result is None] == [3, 13, 23]
    assert sorted(skipped) == ["file 13", "file 23", "file 3"]


def test_other_errors_are_never_skipped():
    def fail(item):
        raise RuntimeError(item)

    with pytest.raises(RuntimeError):
        threads.for_each(fail, range(3), "Items", skip_broken=True)


def test_items_come_in_order_however_long_they_take():
    begun = []

    def work(item):
        begun.append(item)
        if item == 3:
            raise ValueError("3 is broken")
        time.sleep(0.01 * (item % 2))
        return 10 * item

    found = []
    for item, result, error in threads.ahead(work, range(20), 4):
        assert len(begun) <= item + 6
        found.append(result)
        assert (error is None) == (item != 3)
    assert found == [None if item == 3 else 10 * item for item in range(20)]


def test_nothing_is_worked_on_any_more_when_it_has_ended():
    working = set()

    def work(item):
        working.add(item)
        time.sleep(0.02)
        working.remove(item)
        if item == 2:
            raise ValueError("2 is broken")

    with pytest.raises(ValueError, match="2 is broken"):
        threads.for_each(work, range(40), "Items", threads=4)
    assert not working
