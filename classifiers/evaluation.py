"""How classifiers are measured: every degradation and level in one pass over the images."""

import collections
import dataclasses

import numpy as np
import tensorflow as tf

from classifiers import levels, metrics, pictures
from degradations import random
from misc.images import progress

# Images that share a seed. Their draws depend on their place in the data set, whatever the size of
# the batches is.
BLOCK = 50


@dataclasses.dataclass
class Evaluation:
    """What is measured.

    Attributes:
        degradations: list of texts; see `degradations.expand`.
        levels: "random", "all", or numbers separated by commas.
        size: whose severities: 224, 64 or 32.
        seed: seed of all draws.
        classes: number of classes.
        confusion: whether to report the confusion matrices.
    """

    degradations: list = dataclasses.field(default_factory=list)
    levels: str = "random"
    size: int = 32
    seed: int = 0
    classes: int = 10
    confusion: bool = False

    def __post_init__(self):
        self.tested = levels.test_degradations(self.degradations, self.levels, self.size)
        self._functions = {}

    def run(self, classify, batches, report=None, class_names=None):
        """Counts right answers on clean images and at each level of each degradation.

        Images are read once, whatever is tested; noise depends on the seed, the degradation, the
        level and the image's place, not on what else is tested or on the size of the batches.

        Args:
            classify: function from float32 images `[B, H, W, 3]` to logits `[B, K]`; compiled when
                it is first given.
            batches: iterable of {"image", "label"}; where they also have "corruption" and
                "severity", they are counted under these as they are. An attribute `class_names`
                lists the names of their classes, `classes_present` the numbers of those that there
                are images of; other answers do not count in `accuracy_present`. A key "bytes"
                holds the lengths of the images' bit streams, int32 `[B]`, 0 for those without.
            report: see `Method.evaluate`; gets one row per degradation and level.
            class_names: names of the classes that the network was trained for, `None` if unknown.

        Returns:
            {name: float}; see `CorruptionGrid.means`.

        Raises:
            ValueError: if the images' classes are those of the network in another order.
        """
        names = _names_of_classes(getattr(batches, "class_names", None), class_names, self.classes)
        grid = self.count(classify, batches, confusion=report is not None)[None]
        means = grid.means()
        if report is not None:
            self._report(grid, means, report, names)
        return means

    def count(self, classify, batches, confusion=False, examples=None):
        """Counts right answers of one classifier or several in one pass over the images.

        Args:
            classify: see `run`; or a function that returns {name: logits `[B, K]`}.
            batches: see `run`.
            confusion: whether to count what is taken for what.
            examples: `None`, or a dict that takes {degradation: {level: first image as it was seen,
                float32 `[H, W, 3]`}}.

        Returns:
            {name: `CorruptionGrid`}; of a single classifier the name is `None`.
        """
        present = getattr(batches, "classes_present", None)
        grids = collections.defaultdict(
            lambda: metrics.CorruptionGrid(self.classes, confusion, present)
        )

        def update(name, level, images, labels, sizes):
            if examples is not None:
                examples.setdefault(name, {}).setdefault(level, np.asarray(images[0]))
            logits = self._compiled(classify)(images)
            for key, values in (logits if isinstance(logits, dict) else {None: logits}).items():
                pixels = images.shape[1] * images.shape[2]
                grids[key].update(name, level, labels, values, sizes, pixels)

        tests = [(None, metrics.CLEAN, None)]
        tests += [(tested, tested.name, value) for tested in self.tested for value in tested.values]
        total = None
        if hasattr(batches, "cardinality") and len(tests) > 10:
            total = int(batches.cardinality()) * len(tests)
        bar = progress.track(total=total, description="Evaluating", unit="batch") if total else None
        place = 0
        for batch in batches:
            images = tf.convert_to_tensor(batch["image"])
            if "corruption" in batch:
                if self.degradations:
                    raise ValueError(
                        "Stored corruptions are measured as they are: leave --degradations out."
                    )
                cell = batch["corruption"], batch["severity"]
                update(*cell, images, batch["label"], batch.get("bytes"))
                continue
            for tested, name, value in tests:
                seen, sizes = images, batch.get("bytes")
                if tested is not None:
                    seen, sizes = self.degrade(tested, value, images, place)
                update(name, value, seen, batch["label"], sizes)
                if bar is not None:
                    bar.update()
            place += len(images)
        if bar is not None:
            bar.close()
        return grids

    def degrade(self, tested, value, images, place):
        """Returns the images at a level and their bytes, see `TestDegradation.apply`.

        `place` is that of the first image in the data set.
        """
        seed = tested.seed(random.make_seed(self.seed), value)
        level = tf.constant(0.0 if value is None else value, tf.float32)
        function = tested.apply if tested.layer.host_only else self._compiled(tested.apply)
        parts, sizes = [], []
        first = 0
        while first < len(images):
            block, before = divmod(place + first, BLOCK)
            part = images[first : first + BLOCK - before]
            first += len(part)
            if before:  # an image draws by its place in the block
                part = tf.pad(part, [[before, 0], [0, 0], [0, 0], [0, 0]])
            degraded, lengths = function(part, level, random.fold_in(seed, block))
            parts.append(degraded[before:])
            sizes.append(None if lengths is None else lengths[before:])
        return tf.concat(parts, axis=0), None if sizes[0] is None else tf.concat(sizes, axis=0)

    def _compiled(self, function):
        # Apart from each other, so that a network is traced once and not for each degradation.
        if function not in self._functions:
            self._functions[function] = tf.function(function, reduce_retracing=True)
        return self._functions[function]

    def _report(self, grid, means, report, names):
        # Which codec really ran: there are stand-ins.
        codecs = {tested.name: tested.layer.codec_name or "" for tested in self.tested}
        for row in grid.rows():
            coded = {"codec": codecs.get(row["name"], "")} if "bytes" in row else {}
            report.add_row(row | coded)
        report.add_note(
            "accuracy", "percent; mean over the degradations of each one's mean over its levels"
        )
        if self.tested:
            report.add_note("levels", f"{self.levels}, draws from seed {self.seed}")
        report.add_note("mean_error", "100 - accuracy: not normalised, no mCE")
        if np.isfinite(grid.mean_corruption_error() or np.nan):
            partly = "; AlexNet's are of all classes" if "accuracy_present" in means else ""
            report.add_note("mce_alexnet", f"ImageNet-C's mCE: errors divided by AlexNet's{partly}")
        rows = grid.rows()
        if "accuracy_present" in means:
            report.add_note(
                "accuracy_present",
                "as accuracy, with answers out of the classes alone that there are images of",
            )
        if "bytes" in rows[0]:
            report.add_note(
                "bytes, bits_per_pixel",
                "means over the images with a bit stream; top1_coded: accuracy on these alone",
            )
        units = {tested.name: tested.unit for tested in self.tested}
        curves = pictures.draw_curves(rows, units)
        if curves is not None:
            report.add_picture("curves", curves)
        report.add_table("grid", grid.grid())
        grids = pictures.draw_grids(rows, units)
        for unit, picture in grids.items():
            name = "grid" if len(grids) == 1 else f"grid/{pictures.file_name(unit)}"
            report.add_picture(name, picture)
        report.add_table("per_class", grid.per_class(names))
        if self.confusion:
            report.add_table("confusion", grid.confusion(names))
            for name, matrix in grid.confusion_matrices().items():
                picture = pictures.draw_confusion(name, matrix, names)
                report.add_picture(f"confusion/{pictures.file_name(name)}", picture)


def _names_of_classes(names, trained, classes):
    """Returns K different names of the classes, `None` if there are none.

    Args:
        names: those that the data give, or `None`.
        trained: those that the network was trained for, or `None`.
        classes: their number K.
    """
    if names and trained and list(names) != list(trained) and set(names) == set(trained):
        raise ValueError(
            "The classes of the data have other numbers than those that the model was trained for: "
            f"{', '.join(list(names)[:4])}, ... instead of {', '.join(list(trained)[:4])}, ..."
        )
    names = names or trained
    if not names or len(names) != classes:
        return None
    # Names are the columns of tables; ImageNet has two cranes.
    taken = collections.Counter([*names, "degradation", "class"])
    return [f"{name} ({i})" if taken[name] > 1 else name for i, name in enumerate(names)]


def create(flags, classes):
    """Returns the `Evaluation` that the flags of `classifiers.flags` describe.

    Args:
        flags: values of the flags.
        classes: number of classes.
    """
    return Evaluation(
        degradations=flags.degradations,
        levels=flags.levels,
        size=flags.degradation_size,
        seed=flags.get("seed", 0),
        classes=classes,
        confusion=flags.get("confusion_matrix", False),
    )
