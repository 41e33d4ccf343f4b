"""Answers of several classifiers to clean and degraded images, in one pass over the data.

What is measured is kept in parts, one for each batch and degradation, so that a run that was killed
goes on where it was; `read` puts them together.
"""

import dataclasses
import pathlib
import shutil
import zipfile

import numpy as np
import tensorflow as tf

import degradations
from classifiers import breaking_points, metrics
from classifiers.evaluation import BLOCK
from classifiers.levels import TestDegradation
from degradations import random
from misc.images import files, progress

# Levels of a degradation at which all images are measured; between them, breaking points alone.
SHOWN_LEVELS = 10


@dataclasses.dataclass(frozen=True)
class Course:
    """A degradation, its levels from mild to hard, and those that all images are measured at.

    `breaking` is empty where levels are drawn at random: such a degradation has no order.
    """

    tested: TestDegradation
    shown: tuple
    breaking: tuple

    @property
    def name(self):
        """The degradation's text."""
        return self.tested.name


def plan(tested, most=SHOWN_LEVELS):
    """Returns the `Course` of each `levels.TestDegradation`."""
    courses = []
    for one in tested:
        ordered = breaking_points.order(one)
        shown = breaking_points.choose_shown(ordered, most) if ordered else one.values
        courses.append(Course(one, tuple(shown), tuple(ordered)))
    return courses


class Degrader:
    """Degrades images as `evaluation.Evaluation` does, any of them alone.

    The draws of an image depend on the seed, on the degradation, the level and the image's place in
    the data set, not on which images there are beside it.
    """

    def __init__(self, seed, final_jpeg=None):
        """Takes the seed, and the quality of a JPEG step behind each degradation or `None`."""
        self._seed = random.make_seed(seed)
        self._final = None if final_jpeg is None else degradations.parse(f"jpeg:{final_jpeg}")
        self._functions = {}

    def __call__(self, tested, value, images, places):
        """Returns images at a level, float32 `[B, H, W, 3]`.

        Args:
            tested: `levels.TestDegradation`.
            value: one of its values.
            images: float32 `[B, H, W, 3]`.
            places: of the images in the data set, ascending int `[B]`.
        """
        seed = tested.seed(self._seed, value)
        level = tf.constant(0.0 if value is None else value, tf.float32)
        parts = []
        for block, rows, inner in _blocks(places):
            function = self._function(tested, images.shape, _are_first(inner))
            own = random.fold_in(seed, block)
            parts.append(function(images[rows], level, own, tf.constant(inner, tf.int32)))
        return parts[0] if len(parts) == 1 else tf.concat(parts, axis=0)

    def _function(self, tested, shape, first):
        key = tested.name, tuple(shape[1:]), first
        if key in self._functions:
            return self._functions[key]

        def apply(images, level, seed, inner):
            # What is drawn at places costs a little more.
            own = seed if first else random.at_places(seed, inner)
            degraded, _ = tested.apply(images, level, own)
            return degraded if self._final is None else self._final(degraded, seed=0)

        if not tested.layer.host_only:
            signature = [
                tf.TensorSpec([None, *shape[1:]], tf.float32),
                tf.TensorSpec([], tf.float32),
                tf.TensorSpec([2], tf.int32),
                tf.TensorSpec([None], tf.int32),
            ]
            apply = tf.function(apply, input_signature=signature, autograph=False)
        self._functions[key] = apply
        return apply


def _blocks(places):
    """Yields (block, slice of the images in it, their places in it) of ascending places."""
    blocks, inner = np.divmod(np.asarray(places), BLOCK)
    starts = np.flatnonzero(np.diff(blocks, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(blocks)], strict=True):
        yield int(blocks[start]), slice(int(start), int(stop)), inner[start:stop]


def _are_first(inner):
    return bool(inner[-1] == len(inner) - 1)


@dataclasses.dataclass(frozen=True)
class Answers:
    """What M models say of B images, all `[M, B]`.

    Attributes:
        classes: numbers of the classes that they answer, -1 where a value is not finite.
        ranks: how many classes they hold for likelier than the right one.
        ranks_present: the same among the classes alone that there are images of.
        confidence: probabilities of the answers, in 0-1.
    """

    classes: np.ndarray
    ranks: np.ndarray
    ranks_present: np.ndarray
    confidence: np.ndarray

    @classmethod
    def of(cls, logits, labels, present=None):
        """Returns the answers that lie in logits, a list of M arrays `[B, K]`.

        Args:
            logits: see above.
            labels: int `[B]`.
            present: sorted numbers of the classes that there are images of; `None`: all.
        """
        found = [_answers(np.asarray(one, np.float32), labels, present) for one in logits]
        return cls(*(np.stack(part) for part in zip(*found, strict=True)))


def _answers(logits, labels, present=None):
    ranks = metrics.rank_of_label(labels, logits)
    ranks_present = ranks
    if present is not None:
        places = np.searchsorted(present, labels)
        ranks_present = metrics.rank_of_label(places, logits[:, present])
    with np.errstate(invalid="ignore", over="ignore"):
        confidence = 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
    finite = np.isfinite(logits).all(axis=1)
    return (
        np.where(finite, logits.argmax(axis=1), -1).astype(np.int32),
        ranks.astype(np.int32),
        ranks_present.astype(np.int32),
        np.where(finite, confidence, np.nan).astype(np.float32),
    )


class Measurement:
    """Measures models on batches, part by part; see the module."""

    def __init__(self, classifiers, courses, degrader, folder, present=None):
        """Sets what is measured.

        Args:
            classifiers: list of M functions of float32 images `[B, H, W, 3]` that return logits
                `[B, K]`.
            courses: list of `Course`.
            degrader: `Degrader`.
            folder: folder for the parts.
            present: see `Answers.of`.
        """
        self.classifiers = classifiers
        self.courses = courses
        self.degrader = degrader
        self.folder = pathlib.Path(folder)
        self.present = None if present is None else np.asarray(present)

    def run(self, batches, check=None):
        """Measures what no earlier run has.

        Args:
            batches: iterable of {"image", "label"} with the same batches in every run; or of
                stored corruptions, which have "corruption" and "severity" too.
            check: `None`, or a function that is shown images, labels and `Answers` of the first
                clean batch.

        Raises:
            ValueError: without images, or for stored corruptions that are to be degraded.
        """
        total = int(batches.cardinality()) if hasattr(batches, "cardinality") else -1
        steps = 1 + sum(map(_count_levels, self.courses))
        with progress.track(
            total=total * steps if total > 0 else None, description="Measuring", unit="level"
        ) as bar:
            found = 0
            for number, batch in enumerate(batches):
                images = tf.convert_to_tensor(batch["image"])
                labels = np.asarray(batch["label"])
                place, found = found, found + len(labels)
                about = {"labels": labels}
                about["index"] = np.asarray(batch.get("index", place + np.arange(len(labels))))
                if "corruption" in batch:
                    about["name"] = str(batch["corruption"])
                    about["level"] = np.nan if batch["severity"] is None else batch["severity"]
                    self._measure_stored(number, about, images)
                    bar.update()
                else:
                    self._measure_batch(number, place, about, images, check, bar)
        if not found:
            raise ValueError("No image was measured: the dataloader gave none.")

    def _measure_stored(self, number, about, images):
        if self.courses:
            raise ValueError(
                "Stored corruptions are measured as they are: leave --degradations out."
            )
        path = self.folder / f"stored_{number:06}.npz"
        if not path.exists():
            _write(path, about | _stack([self._answer(images, about["labels"])]))

    def _measure_batch(self, number, place, about, images, check, bar):
        labels = about["labels"]
        path = self.folder / f"{number:06}_clean.npz"
        if path.exists():
            clean = _read(path)["classes"][:, 0]
        else:
            answers = self._answer(images, labels)
            if check is not None and number == 0:
                check(images, labels, answers)
            _write(path, about | _stack([answers]))
            clean = answers.classes
        bar.update()
        for order, course in enumerate(self.courses):
            path = self.folder / f"{number:06}_{order:03}.npz"
            after = bar.n + _count_levels(course)
            if not path.exists():
                _write(path, self._measure(course, images, labels, place, clean, bar))
            bar.update(after - bar.n)  # where no answer holds, no level is left to measure

    def _measure(self, course, images, labels, place, clean, bar):
        """Returns the arrays of a batch and a degradation."""
        places = place + np.arange(len(labels))
        found = {}
        for value in course.shown:
            degraded = self.degrader(course.tested, value, images, places)
            found[value] = self._answer(degraded, labels)
            bar.update()

        def answer(level, holding):
            rows = np.flatnonzero(holding.any(axis=0))
            few = images if len(rows) == len(labels) else tf.gather(images, rows)
            degraded = self.degrader(course.tested, level, few, places[rows])
            classes = np.full(holding.shape, -1, np.int32)
            for model, classify in enumerate(self.classifiers):
                own = np.flatnonzero(holding[model, rows])
                if len(own):
                    seen = degraded if len(own) == len(rows) else tf.gather(degraded, own)
                    logits = np.asarray(classify(seen), np.float32)
                    classes[model, rows[own]] = _answers(logits, labels[rows[own]])[0]
            bar.update()
            return classes

        part = _stack(found.values())
        if course.breaking:
            known = {value: answers.classes for value, answers in found.items()}
            part["breaking"] = breaking_points.find(course.breaking, clean, known, answer)
        return part

    def _answer(self, images, labels):
        logits = [classify(images) for classify in self.classifiers]
        return Answers.of(logits, labels, self.present)

    def remove_parts(self):
        """Removes the parts, which nobody needs once the results are written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _count_levels(course):
    return len(set(course.shown + course.breaking))


def _stack(found):
    """Returns {name: array `[M, L, B]`} of the `Answers` at L levels."""
    found = list(found)
    names = [field.name for field in dataclasses.fields(Answers)]
    return {name: np.stack([getattr(one, name) for one in found], axis=1) for name in names}


def _write(path, arrays):
    with files.write_atomically(path) as temporary:
        np.savez(temporary, **arrays)


def _read(path):
    try:
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is damaged: remove it, and the same command measures it again."
        ) from error


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """All answers.

    Attributes:
        labels: right classes, int `[N]`.
        index: places of the images in the data set, int `[N]`.
        cells: list of (degradation, level); the level is `None` where there is only one.
        answers: `Answers` of M models at F cells, all `[M, F, N]`.
        breaking: {degradation: (levels from mild to hard, places in them `[M, N]`)}; a place behind
            the last level is an answer that holds.
    """

    labels: np.ndarray
    index: np.ndarray
    cells: list
    answers: Answers
    breaking: dict

    @property
    def clean(self):
        """Index of the cell of clean images, `None` without one."""
        cell = (metrics.CLEAN, None)
        return self.cells.index(cell) if cell in self.cells else None


def read(folder, courses):
    """Returns the `Measured` of all parts in a folder.

    Raises:
        ValueError: for a damaged part, or stored corruptions of different images.
    """
    folder = pathlib.Path(folder)
    stored = sorted(folder.glob("stored_*.npz"))
    if stored:
        return _read_stored([_read(path) for path in stored])
    clean = [_read(path) for path in sorted(folder.glob("*_clean.npz"))]
    labels, index = (np.concatenate([part[n] for part in clean]) for n in ("labels", "index"))
    cells, found = [(metrics.CLEAN, None)], [clean]
    breaking = {}
    for order, course in enumerate(courses):
        parts = [_read(path) for path in sorted(folder.glob(f"[0-9]*_{order:03}.npz"))]
        cells += [(course.name, value) for value in course.shown]
        found.append(parts)
        if course.breaking:
            places = np.concatenate([part["breaking"] for part in parts], axis=1)
            breaking[course.name] = list(course.breaking), places
    return Measured(labels, index, cells, _together(found), breaking)


def _together(found):
    """Returns the `Answers` of lists of parts, one list for each cell or several."""
    return Answers(
        *(
            np.concatenate(
                [np.concatenate([part[field.name] for part in parts], axis=2) for parts in found],
                axis=1,
            )
            for field in dataclasses.fields(Answers)
        )
    )


def _read_stored(parts):
    by_cell = {}
    for part in parts:
        level = float(part["level"])
        cell = str(part["name"]), None if np.isnan(level) else level
        by_cell.setdefault(cell, []).append(part)
    # Clean images first, as when they are degraded here.
    by_cell = dict(sorted(by_cell.items(), key=lambda item: item[0][0] != metrics.CLEAN))
    labels = [np.concatenate([p["labels"] for p in parts]) for parts in by_cell.values()]
    if any(not np.array_equal(labels[0], other) for other in labels):
        raise ValueError(
            "The stored corruptions are not of the same images in the same order, which the "
            "report compares: give --data_corruptions that are."
        )
    index = np.concatenate([part["index"] for part in next(iter(by_cell.values()))])
    measured = Measured(labels[0], index, list(by_cell), _together(by_cell.values()), {})
    if measured.clean is not None:
        measured.breaking.update(_breaking_of_stored(measured))
    return measured


def _breaking_of_stored(measured):
    classes = measured.answers.classes
    clean = classes[:, measured.clean]
    found = {}
    for name in dict.fromkeys(name for name, level in measured.cells if level is not None):
        ordered = sorted(level for other, level in measured.cells if other == name)
        known = {level: classes[:, measured.cells.index((name, level))] for level in ordered}
        found[name] = ordered, breaking_points.find(ordered, clean, known, None)
    return found
