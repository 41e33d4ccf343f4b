"""Classes of pixels: those of Cityscapes, and how well they are found.

Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016: numbers,
colours and the 19 classes that are evaluated are those of its public scripts.
"""

import numpy as np

from misc.images import progress
from misc.reports import contact_sheet

# Class: number in labelIds, colour.
CITYSCAPES = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
CLASSES = tuple(CITYSCAPES)
# Pixels that do not count: other classes, and what was not labelled.
IGNORED = 255
TILE = 256


def _table(known):
    """Returns the class of each number from 0 to 255; -1 for those that are not known."""
    table = np.full(256, -1, np.int32)
    for number, found in known.items():
        table[number] = found
    return table


_OWN = {number: place for place, (number, _) in enumerate(CITYSCAPES.values())}
# labelIds go from 0 to 33; -1, the licence plate, is stored as 255.
IDS = _table(dict.fromkeys((*range(34), 255), IGNORED) | _OWN)
TRAIN_IDS = _table({place: place for place in range(len(CLASSES))} | {255: IGNORED, 19: IGNORED})
COLOURS = np.zeros((256, 3), np.uint8)
COLOURS[: len(CLASSES)] = [colour for _, colour in CITYSCAPES.values()]


def count(truth, predicted):
    """Returns how often which class was taken for which, int64 `[19, 19]`, rows are the truth.

    Args:
        truth: integers of any shape, `IGNORED` where a pixel does not count.
        predicted: integers of the same shape.
    """
    classes = len(CLASSES)
    counted = truth != IGNORED
    places = classes * truth[counted].astype(np.int64) + predicted[counted]
    return np.bincount(places, minlength=classes**2).reshape(classes, classes)


def intersection_over_union(counts):
    """Returns the intersection over union of each class in percent; NaN where there is neither."""
    found = np.diag(counts).astype(np.float64)
    union = counts.sum(axis=0) + counts.sum(axis=1) - found
    return 100 * np.divide(found, union, out=np.full(len(found), np.nan), where=union > 0)


def measure(segment, batches, report=None):
    """Returns the mean intersection over union of each way to see images, and the differences.

    Args:
        segment: function of images `[1, h, w, 3]` and the size (H, W) of the result that returns
            {name: (images as they were seen, classes `[1, H, W]`)}; the first is compared with.
        batches: see `classifiers.dataloaders.cityscapes`.
        report: see `Method.evaluate`; gets a row for each image and a table of all classes.

    Raises:
        ValueError: if there is no image.
    """
    counts, picture = {}, None
    for batch in progress.track(batches, description="Evaluating", unit="image"):
        truth = batch["classes"]
        row = {"name": batch["name"]}
        seen = segment(batch["image"], truth.shape)
        for name, (_, predicted) in seen.items():
            here = count(truth, np.asarray(predicted)[0])
            counts[name] = counts.get(name, 0) + here
            row[f"mean_iou/{name}"] = float(np.nanmean(intersection_over_union(here)))
        if report is not None:
            report.add_row(row)
            if picture is None:
                picture = _draw(batch["name"], seen, truth)
    if not counts:
        raise ValueError("No image was evaluated: the dataloader gave none.")
    by_class = {name: intersection_over_union(values) for name, values in counts.items()}
    if report is not None:
        report.add_picture("segmented", picture)
        report.add_table(
            "classes",
            [
                {"class": name} | {key: float(values[place]) for key, values in by_class.items()}
                for place, name in enumerate(CLASSES)
            ],
        )
        report.add_note("mean_iou", "percent; mean over the classes that there are")
    first, *others = means = {key: float(np.nanmean(iou)) for key, iou in by_class.items()}
    differences = {f"difference/{key}": means[key] - means[first] for key in others}
    return {f"mean_iou/{key}": value for key, value in means.items()} | differences


def _draw(title, seen, truth):
    """Draws an image as it was seen each time, what was found in it, and the truth."""
    tiles = []
    for name, (image, predicted) in seen.items():
        pixels = np.clip(np.rint(np.asarray(image)[0]), 0, 255).astype(np.uint8)
        tiles += [(name, pixels), (f"{name}: classes", COLOURS[np.asarray(predicted)[0]])]
    tiles.append(("truth", COLOURS[truth]))
    squares = [(name, contact_sheet.crop_square(pixels, TILE)) for name, pixels in tiles]
    return contact_sheet.draw_sheet([(title, squares)], TILE)
