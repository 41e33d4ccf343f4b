"""How many images per second do class folders give in training, and how much CPU do they take?

    python -m benchmarks.class_folders

Peer: Pillow decodes, cuts and resizes the same windows of the same files one after the other, as
torchvision does it in each of its workers. JPEG files of two sizes, crops of 224 pixels. The last
line is about the order: its peer is NumPy's permutation of all images.
"""

import argparse
import os
import pathlib
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import PIL.Image
import tensorflow as tf

from classifiers import labelled_images, random_resized_crop
from classifiers.dataloaders import class_folders
from misc.images import sample_data
from misc.training.sampler import Sampler

CROP, BATCH, PER_CLASS = 224, 32, 16
COUNTS = (45_000, 14_000_000)
SIZES = {"500x375": (500, 375), "2000x1500": (2000, 1500)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=4, help="batches per measurement")
    parser.add_argument("--rounds", type=int, default=5, help="measurements; medians count")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores; windows resized to {CROP} pixels, batches of {BATCH}")
    for name, size in SIZES.items():
        with tempfile.TemporaryDirectory(prefix="class_folders.") as folder:
            write_photos(pathlib.Path(folder), size)
            compare(name, folder, arguments.batches, arguments.rounds)
    compare_orders(arguments.rounds)


def write_photos(folder, size):
    for name, photo in sample_data.sample_photos("train")[:4]:
        (folder / name).mkdir()
        for number in range(PER_CLASS):
            # Other contents, so that no two files are alike.
            picture = PIL.Image.fromarray(np.roll(photo, 17 * number, axis=1))
            picture.resize(size).save(folder / name / f"{number}.jpg", quality=90)


def compare(name, folder, batches, rounds):
    paths = sorted(pathlib.Path(folder).glob("*/*.jpg"))
    rates, costs = {"ours": [], "peer": []}, {"ours": [], "peer": []}
    for number in range(rounds):
        # Made anew, so that nothing is read ahead while the peer is measured.
        source = iter(create_batches(folder))
        rates["ours"].append(rate(source, batches))
        del source
        rates["peer"].append(rate(pillow_batches(paths), batches))
        uniform = np.random.default_rng(number).random([len(paths), random_resized_crop.DRAWS])
        for title, read in (("ours", read_window), ("peer", read_with_pillow)):
            used = time.process_time()
            for path, draws in zip(paths, uniform, strict=True):
                read(path, draws)
            costs[title].append((time.process_time() - used) / len(paths))
    for title, label in (("ours", "class_folders"), ("peer", "Pillow, one by one")):
        print(
            f"{name:10} {label:20}{statistics.median(rates[title]):7.0f} images/s"
            f"{1000 * statistics.median(costs[title]):8.2f} ms CPU/image"
        )
    faster, cheaper = (
        statistics.median(one / other for one, other in zip(*pair, strict=True))
        for pair in ((rates["ours"], rates["peer"]), (costs["peer"], costs["ours"]))
    )
    print(f"{name:10} {faster:.2f} times as fast; {cheaper:.2f} images for the CPU time of one")


def rate(source, batches):
    """Images per second, after one batch of warm-up."""
    next(source)
    started = time.monotonic()
    for _ in range(batches):
        next(source)
    return batches * BATCH / (time.monotonic() - started)


def read_window(path, uniform):
    return random_resized_crop.read(path, CROP, uniform)


def read_with_pillow(path, uniform):
    with PIL.Image.open(path) as image:
        picture = image.convert("RGB")
    top, left, height, width = random_resized_crop.choose_window(
        picture.height, picture.width, uniform
    )
    window = picture.crop((left, top, left + width, top + height))
    return np.asarray(window.resize((CROP, CROP), PIL.Image.Resampling.BILINEAR))


def create_batches(folder):
    names = class_folders.find_classes(folder)
    found = class_folders.find_images(pathlib.Path(folder), names)
    images = labelled_images.from_files(found, names, None, CROP, False)
    batches = images.training_batches(Sampler(BATCH, seed=0), area=random_resized_crop.AREA)
    return batches.map(lambda pixels, numbers: tf.cast(pixels, tf.float32)).prefetch(2)


def compare_orders(rounds):
    """What the order of a batch of 128 costs, whatever the number of images."""
    sampler = Sampler(128, seed=0)
    costs = {count: [] for count in COUNTS}
    peers = []
    for step in range(20 * rounds):
        for count, found in costs.items():
            place = tf.constant(step, tf.int64)
            started = time.perf_counter()
            sampler.order(place, count).numpy()
            found.append(time.perf_counter() - started)
        if step % 20 == 0:
            started = time.perf_counter()
            np.random.default_rng(step).permutation(COUNTS[0])
            peers.append(time.perf_counter() - started)
    few, many = (1000 * statistics.median(costs[count]) for count in COUNTS)
    peer = 1000 * statistics.median(peers)
    print(
        f"order of 128 images: {few:.2f} ms of {COUNTS[0]}, {many:.2f} ms of {COUNTS[1]}, "
        f"{many / few:.2f} times; NumPy's permutation of {COUNTS[0]}: {peer:.2f} ms, "
        f"{peer / few:.2f} times ours"
    )


def pillow_batches(paths):
    random = np.random.default_rng(0)
    while True:
        chosen = random.choice(paths, BATCH)
        uniform = random.random([BATCH, random_resized_crop.DRAWS])
        images = [read_with_pillow(*pair) for pair in zip(chosen, uniform, strict=True)]
        yield np.stack(images).astype(np.float32)


if __name__ == "__main__":
    main()
