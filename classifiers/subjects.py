"""Classifiers of any kind that a robustness report is about, each as a function of images."""

import dataclasses
import pathlib
import re
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from absl import logging

from classifiers import networks
from misc.export import foreign_models, frozen_graph, input_values, loading

# Among --input_preset: what the file says, or what the network is usually fed with.
OWN = "own"
# A share of right answers is above chance beyond so many standard deviations.
_DEVIATIONS = 3


@dataclasses.dataclass(frozen=True)
class Subject:
    """A classifier.

    Attributes:
        name: what it is called in the report.
        source: its path, as given.
        classify: function of float32 RGB images `[B, H, W, 3]` in 0-255 that returns logits
            `[B, K]`.
        values: what it is fed with, for people.
        class_names: names of its classes, or `None`.
        variant: `None`, or a function of `InputValues` that returns `classify` with these: of
            models of which it is not known for sure.
    """

    name: str
    source: str
    classify: Callable
    values: str
    class_names: list | None = None
    variant: Callable | None = None


def load(texts, presets=None, mean=None, deviation=None, order=None, layout=None, image_size=None):
    """Returns a `Subject` for each text, with different names.

    Args:
        texts: list of files of `foreign_models`, runs of this project, or NETWORK:FILE with one of
            `networks.NAMES` and a file of weights.
        presets: names in `input_values.PRESETS` or `OWN`; one for all texts, or one for each.
        mean: of R, G and B in 0-255, instead of the preset's.
        deviation: of R, G and B in 0-255, instead of the preset's.
        order: of the channels, instead of the preset's.
        layout: see `foreign_models.load`.
        image_size: see `networks.build`.

    Raises:
        ValueError: for models that cannot be used; names the model.
        FileNotFoundError: if there is no such file.
    """
    presets = list(presets or [OWN])
    if len(presets) not in (1, len(texts)):
        raise ValueError(
            f"--input_preset takes one name, or one for each of the {len(texts)} --models. "
            f"Received: {len(presets)}"
        )
    presets = presets * (len(texts) if len(presets) == 1 else 1)
    found = []
    for text, preset in zip(texts, presets, strict=True):
        values = _values(preset, mean, deviation, order)
        subject = _load(text, values, layout, image_size)
        taken = [other.name for other in found]
        if subject.name in taken:
            name = next(
                f"{subject.name} ({number})"
                for number in range(2, len(texts) + 2)
                if f"{subject.name} ({number})" not in taken
            )
            subject = dataclasses.replace(subject, name=name)
        found.append(subject)
    return found


def _values(preset, mean, deviation, order):
    """Returns the `InputValues` that were asked for, `None` for a model's own."""
    if preset != OWN and preset not in input_values.PRESETS:
        known = ", ".join([OWN, *input_values.PRESETS])
        raise ValueError(f"--input_preset={preset} is unknown. Known: {known}")
    changes = {
        name: value if name == "order" else tuple(value)
        for name, value in (("mean", mean), ("deviation", deviation), ("order", order))
        if value
    }
    if preset == OWN and not changes:
        return None
    start = input_values.AS_IT_IS if preset == OWN else input_values.PRESETS[preset]
    if not changes:
        return start
    source = ", ".join(filter(None, [start.source, *(f"--input_{name}" for name in changes)]))
    return dataclasses.replace(start, **changes, source=source)


def _load(text, values, layout, image_size):
    match = re.fullmatch(r"(\w+):(.+)", text)
    if match and match[1] in networks.NAMES:
        return _load_weights(text, *match.groups(), values, image_size)
    path = pathlib.Path(text)
    if not path.exists() and ":" in text:
        raise ValueError(
            f"--models={text}: there is no such file, nor a network of that name. "
            f"Networks: {', '.join(networks.NAMES)}"
        )
    if foreign_models.is_file_of_network(path):
        model = foreign_models.load(path, values, layout)
        return Subject(
            path.name,
            text,
            model,
            f"{model.values} ({model.values.source})",
            model.class_names,
            None if model.told else model.with_values,
        )
    return _load_run(text, path)


def _load_weights(text, name, path, values, image_size):
    if values is not None and values.order != "RGB":
        raise ValueError(f"--models={text}: the networks here take RGB, not {values.order}.")
    scaled = {}
    if values is not None:
        scaled["mean"] = [value / 255 for value in values.mean]
        scaled["std"] = [value / 255 for value in values.deviation]
    paths = [path] if pathlib.Path(path).exists() else path.split("+")
    try:
        network = networks.build(name, weights=paths, image_size=image_size, **scaled)
    except ValueError as error:
        raise ValueError(f"--models={text} cannot be used. {error}") from error
    if values is None:
        mean, deviation = networks.NORMALISATIONS[networks.NETWORKS[name].normalisation]
        values = input_values.InputValues(
            tuple(255 * value for value in mean),
            tuple(255 * value for value in deviation),
            source="usual for this network",
        )

    def variant(others):
        mean, std = ([value / 255 for value in part] for part in (others.mean, others.deviation))
        other = networks.build(
            name, network.output_shape[-1], None, mean=mean, std=std, image_size=image_size
        )
        other.set_weights(network.get_weights())
        return compiled(lambda images: other(images, training=False))

    return Subject(
        name,
        text,
        compiled(lambda images: network(images, training=False)),
        f"{values} ({values.source})",
        variant=variant,
    )


def _load_run(text, path):
    model = loading.restore_trained(path)
    outputs = tuple(model.export_names["outputs"])
    if outputs != ("logits",):
        raise ValueError(f"--models={text} is no single classifier: it gives {', '.join(outputs)}.")
    name = path.parent.name if path.name.startswith(("model.ckpt", "best")) else path.name
    return Subject(
        name or text,
        text,
        compiled(lambda images: model.predict(images)["logits"]),
        "as its run was trained",
        model.metadata.get("class_names"),
    )


def compiled(function):
    """Returns a function of images of any size whose weights are constants; see `frozen_graph`."""
    traced = {}

    def classify(images):
        size = tuple(images.shape[1:])
        if size not in traced:
            # The networks say what sizes they take where they are traced.
            signature = [tf.TensorSpec([None, *size], tf.float32)]
            traced[size] = frozen_graph.with_constants(
                tf.function(function, input_signature=signature, autograph=False)
            )
        return np.asarray(tf.nest.flatten(traced[size](tf.convert_to_tensor(images)))[0])

    return classify


def check(subjects, images, labels, answers, classes):
    """Warns of models whose answers to the first clean images look like a mistake of ours.

    Args:
        subjects: list of M `Subject`s.
        images: float32 `[B, H, W, 3]`.
        labels: int `[B]`.
        answers: `robustness.Answers`.
        classes: number of classes K of the models.

    Returns:
        {name: text}: what to say of models whose accuracy is at chance, or far better with another
        preset.
    """
    found = {}
    for number, subject in enumerate(subjects):
        right = answers.ranks[number] == 0
        said = _describe_chance(right.mean(), labels, classes)
        best = _best_preset(subject, images, labels, right)
        if best:
            said = (said or f"{100 * right.mean():.1f} % of them are right") + f"; {best}"
        if said:
            found[subject.name] = f"Of the first {len(labels)} clean images: {said}."
            logging.warning("%s: %s", subject.name, found[subject.name])
    return found


def _describe_chance(accuracy, labels, classes):
    """Returns what to say where no more answers are right than guesses would be, else `None`."""
    # Whoever always says the same is right as often as the most frequent class.
    chance = max(1 / classes, np.bincount(labels).max() / len(labels) if classes < 100 else 0)
    deviation = np.sqrt(chance * (1 - chance) / len(labels))
    if accuracy > chance + _DEVIATIONS * deviation:
        return None
    return (
        f"{100 * accuracy:.1f} % of them are right, which is chance "
        f"({100 * chance:.1f} %): check what the model is fed with (--input_preset, --input_mean, "
        "--input_order), and the order of its classes"
    )


def _best_preset(subject, images, labels, right):
    """Returns what to say of a preset that does far better, `None` if none does."""
    if subject.variant is None:
        return None
    found = {}
    for name, values in input_values.PRESETS.items():
        if values.order == "RGB" or isinstance(subject.classify, foreign_models.ForeignModel):
            logits = np.asarray(subject.variant(values)(images))
            found[name] = logits.argmax(axis=1) == labels
    name = max(found, key=lambda name: found[name].sum())
    # McNemar's test, of the images that only one of the two is right on.
    gained, lost = (found[name] & ~right).sum(), (right & ~found[name]).sum()
    if gained - lost <= _DEVIATIONS * np.sqrt(gained + lost):
        return None
    return f"with --input_preset={name} it would be {100 * found[name].mean():.1f} %"
