"""The breaking point of an image: from mild to hard, the first level that changes the answer."""

import numpy as np

from classifiers import levels

# Parameters of degradations that do less harm the larger they are.
_MILD_WHEN_LARGE = ("quality", "photons", "factor")


def order(tested):
    """Returns the levels of a `levels.TestDegradation` from mild to hard, `[]` without any."""
    if tested.values == [None]:
        return []
    return sorted(tested.values, reverse=_is_mild_when_large(tested))


def _is_mild_when_large(tested):
    if tested.unit == levels.SEVERITY:
        return False
    layer = tested.layer
    return (
        layer.parameters[0] in _MILD_WHEN_LARGE
        or type(layer).__name__ == "Pixelate"  # its level is the share of the side that is left
        or getattr(layer, "mode", None) == "dB"
    )


def choose_shown(ordered, most):
    """Returns those of the levels, from mild to hard, at which all images are measured.

    They are all of them, or else multiples of the smallest round distance (1, 2 or 5 times a power
    of ten) that leaves at most `most`; and the hardest, which ends every curve.
    """
    if len(ordered) <= most:
        return list(ordered)
    span = abs(ordered[-1] - ordered[0])
    exponent = np.floor(np.log10(span / most))
    for step in (factor * 10.0 ** (exponent + more) for more in range(3) for factor in (1, 2, 5)):
        chosen = [level for level in ordered if abs(level / step - round(level / step)) < 1e-6]
        if len(chosen) <= most:
            break
    return chosen if ordered[-1] in chosen else [*chosen, ordered[-1]]


def find(ordered, clean, known, answer):
    """Returns the place in `ordered` of the first level that changes each answer, int `[M, B]`.

    Where none does it is `len(ordered)`. An answer that changes back at a harder level has changed
    all the same. Only images whose answer still holds are looked at, so that fewer and fewer are.

    Args:
        ordered: levels from mild to hard.
        clean: answers of M models to B images as they are, int `[M, B]`.
        known: {level: answers `[M, B]`} of levels that were measured already.
        answer: function of a level and of bool `[M, B]`, which answers are wanted; returns answers
            `[M, B]`, where the others may be anything.
    """
    first = np.full(clean.shape, len(ordered))
    holding = np.ones(clean.shape, bool)
    for place, level in enumerate(ordered):
        if not holding.any():
            break
        answers = known[level] if level in known else answer(level, holding)
        broken = holding & (answers != clean)
        first[broken] = place
        holding &= ~broken
    return first
