"""The images whose answers break first, as they are and at the level that breaks them."""

import numpy as np

from classifiers import robustness, robustness_figures

SHOWN = 8


def draw(measured, subjects, batches, courses, degrader, class_names, names):
    """Returns {model: list of pairs of photos}; see `robustness_page.write`.

    Args:
        measured: `robustness.Measured`.
        subjects: list of the M `Subject`s.
        batches: the data, which are read once more.
        courses: list of `robustness.Course`.
        degrader: `robustness.Degrader`.
        class_names: names of the classes, or `None`.
        names: function that shortens the text of a degradation.
    """
    chosen = [
        robustness_figures.most_fragile(measured, model, SHOWN) for model in range(len(subjects))
    ]
    courses = {course.name: course for course in courses}
    pixels = _find(batches, {one.image for found in chosen for one in found})

    def draw_pair(subject, one):
        course = courses[one.degradation]
        level, clean = course.breaking[one.place], pixels[one.image]
        broken = np.asarray(degrader(course.tested, level, clean[None], [one.image]))[0]
        said = [_say(subject, image, class_names) for image in (clean, broken)]
        return {
            "clean": _to_8_bits(clean),
            "broken": _to_8_bits(broken),
            "caption_clean": [said[0], f"image {measured.index[one.image]}"],
            "caption_broken": [
                f"{names(course.name)} at {level:g}: {said[1]}",
                f"holds {100 * one.score:.0f} % of all levels",
            ],
        }

    return {
        subject.name: [draw_pair(subject, one) for one in found if one.degradation in courses]
        for subject, found in zip(subjects, chosen, strict=True)
    }


def _find(batches, wanted):
    """Returns {place: float32 `[H, W, 3]`} of the images at the wanted places."""
    found, place = {}, 0
    for batch in batches if wanted else ():
        count = len(batch["label"])
        for image in wanted:
            if place <= image < place + count:
                found[image] = np.asarray(batch["image"][image - place], np.float32)
        place += count
        if len(found) == len(wanted):
            break
    return found


def _say(subject, image, class_names):
    """Returns what a model says of an image: the class and its probability."""
    answers = robustness.Answers.of([subject.classify(image[None])], np.zeros(1, int))
    number = int(answers.classes[0, 0])
    said = robustness_figures.class_name(number, class_names)
    return f"{said} ({100 * answers.confidence[0, 0]:.0f} %)"


def _to_8_bits(image):
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
