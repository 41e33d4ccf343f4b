"""How fast are degradations and training steps on this device, and are the pixels the CPU's?

    python -m benchmarks.device [--output_path=device.json] [--minutes=7]
    KERAS_BACKEND=jax python -m benchmarks.device

Needs Keras, its backend (tensorflow or jax), NumPy, SciPy, Pillow and OpenCV, and no data. Prints
tables, and writes the same as JSON: images of 224x224 per second through each degradation on
tensors, compiled, in batches of 64, each alone and the 15 of ImageNet-C as one choice per image;
through JPEG forward, with gradient and with the length of the file; images per second of training
steps without and with degradations, and which share of a step these are; the largest memory. What
--minutes leaves no time for is named. On a CPU alone the batches are smaller, and what is compared
are compiled layers with uncompiled ones. What differs is named: JPEG's pixels at all, which also
makes the exit status 1, others' by more than a grey level.
"""

import argparse
import functools
import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import ops

import degradations
from benchmarks import device_backend as backend
from classifiers import networks
from degradations import jpeg
from eusr.network import Generator

SIDE = 224
# Levels of those that have no severities; the others are measured at severity 3.
LEVELS = {"jpeg": "jpeg:50", "noise": "noise:25", "blur": "blur:2", "saltpepper": "saltpepper:0.1"}
SEVERITY = 3
# Daultani & Larochelle, WACV-W 2024; as in classifiers.levels.
FUSION_DISTILL = ("jpeg:1-101", "blur:0-5,step=0.1", "saltpepper:0-0.25", "noise:0-50")
ONE_OF_15 = "/".join(f"{name}@1-5" for name in degradations.GROUPS["imagenet_c"])
# Grey levels by which pixels may differ from the CPU's, but for JPEG's.
ALLOWED = 1
COMPARED = 4
LEAST_SECONDS, LEAST_CALLS = 0.3, 3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_path", default="device.json")
    parser.add_argument("--minutes", type=float, default=7)
    parser.add_argument("--batch", type=int, help="images; default: 64, on a CPU 8")
    arguments = parser.parse_args()
    start = time.monotonic()
    on_accelerator = backend.accelerator() is not None
    batch = arguments.batch or (64 if on_accelerator else 8)
    results = {
        "device": backend.accelerator() or "CPU",
        "backend": f"{keras.backend.backend()} {backend.version()}, Keras {keras.__version__}",
        "batch": batch,
        "left_out": [],
    }
    print(f"{results['device']}, {results['backend']}, batch {batch} of {SIDE}x{SIDE}", flush=True)
    images = make_images(batch)
    # Each part begins nothing after its share of the time.
    for title, share, measure in (
        ("jpeg", 0.2, functools.partial(measure_jpeg, images)),
        ("degradations", 0.65, functools.partial(measure_degradations, images)),
        ("steps", 0.9, functools.partial(measure_steps, on_accelerator)),
    ):
        results[title] = []
        for name, compute in measure():
            if time.monotonic() - start > 60 * arguments.minutes * share:
                results["left_out"].append(name)
                continue
            row = {"name": name} | compute()
            results[title].append(row)
            show(title, row, first=len(results[title]) == 1)
    results["memory_mb"] = backend.peak_memory()
    report(results, arguments.output_path)


def make_images(count, side=SIDE):
    """Returns smooth noise, float32 [count, side, side, 3] of whole numbers in 0-255."""
    random = np.random.default_rng(0)
    small = random.uniform(0, 255, (count, 14, 14, 3))
    large = np.asarray(ops.image.resize(small.astype("float32"), (side, side), "bicubic"))
    noisy = large + random.normal(0, 6, large.shape)
    return np.clip(np.rint(noisy), 0, 255).astype("float32")


def images_per_second(function, count):
    """Returns how many images a function of nothing, which returns a tensor, does in a second."""
    backend.wait(function())  # compiles
    times, start = [], time.perf_counter()
    while len(times) < LEAST_CALLS or time.perf_counter() - start < LEAST_SECONDS:
        before = time.perf_counter()
        backend.wait(function())
        times.append(time.perf_counter() - before)
    return count / float(np.median(times))


def measure_jpeg(images):
    """Yields (name, function) of what is done with JPEG."""
    quality = np.random.default_rng(1).integers(5, 96, len(images)).astype("int32")
    pixels, levels = ops.convert_to_tensor(images), ops.convert_to_tensor(quality)

    def rate(function):
        compiled = backend.compile(function)
        return {
            "images_per_second": images_per_second(lambda: compiled(pixels, levels), len(images))
        }

    def loss(x, q):
        return ops.sum(ops.square(jpeg.round_trip(x, q, differentiable=True)))

    def with_length(x, q):
        return ops.sum(jpeg.round_trip_and_bytes(x, q, exact=False)[1])

    yield "forward", lambda: rate(jpeg.round_trip)
    yield "with gradient", lambda: rate(backend.gradient(loss))
    yield "with length, estimated", lambda: rate(with_length)


def measure_degradations(images):
    """Yields (name, function) of the 15 of ImageNet-C as one, and of every tensor degradation."""
    entries = degradations.NAMES
    names = [name for name in entries if not entries[name].load().host_only]
    texts = {"15 of ImageNet-C, one per image": ONE_OF_15}
    texts |= {name: LEVELS.get(name, f"{name}@{SEVERITY}") for name in names}
    for name, text in texts.items():
        yield name, functools.partial(measure_degradation, text, images)


def measure_degradation(text, images):
    layer = degradations.parse(text)
    seed = ops.convert_to_tensor(np.array([3, 4], "int32"))
    pixels = ops.convert_to_tensor(images)
    compiled = backend.compile(lambda x, s: layer(x, seed=s))
    rate = images_per_second(lambda: compiled(pixels, seed), len(images))
    # Image i depends on the seed and on i alone.
    found = np.asarray(ops.convert_to_numpy(compiled(pixels, seed)))[:COMPARED]
    with backend.on_cpu():
        expected = np.asarray(
            layer(ops.convert_to_tensor(images[:COMPARED]), seed=np.array([3, 4], "int32"))
        )
    difference = np.abs(found - expected)
    allowed = 0 if isinstance(layer, jpeg.Jpeg) else ALLOWED
    return {
        "images_per_second": rate,
        "largest_difference": float(difference.max()),
        "share_beyond": float(np.mean(difference > allowed)),
    }


def measure_steps(on_accelerator):
    """Yields (name, function) of training steps, without and with degradations."""
    count = 16 if on_accelerator else 2
    for precision in ("float32", "mixed_bfloat16"):
        yield (
            f"EUSR x2, published size, {count} patches of 48x48, {precision}",
            functools.partial(
                measure_step, eusr, (count, 48), ["jpeg:30-95/noise:0-25"], precision
            ),
        )
    count = 128 if on_accelerator else 32
    yield (
        f"ResNet56, {count} images of 32x32, FusionDistill's four",
        functools.partial(
            measure_step, classifier("cifar_resnet56", 10), (count, 32), FUSION_DISTILL
        ),
    )
    count = 64 if on_accelerator else 4
    yield (
        f"ResNet50, {count} images of 224x224, FusionDistill's four",
        functools.partial(
            measure_step, classifier("resnet50", 1000), (count, SIDE), FUSION_DISTILL
        ),
    )


def eusr(count, side):
    """Returns network, loss and targets of a batch."""
    return Generator((2,)), "mae", np.zeros((count, 2 * side, 2 * side, 3), "float32")


def classifier(name, classes):
    def create(count, side):
        del side
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return networks.build(name, classes), loss, np.arange(count) % classes

    return create


def measure_step(create, shape, texts, precision="float32"):
    """Measures a training step; `create` is a function of `shape`, (images, side)."""
    keras.config.set_dtype_policy(precision)
    try:
        network, loss, targets = create(*shape)
        plain = step_rate(network, loss, make_images(*shape), targets)
        degraded = step_rate(with_degradations(network, texts), loss, make_images(*shape), targets)
    finally:
        keras.config.set_dtype_policy("float32")
    return {"images_per_second": plain, "degraded": degraded, "share": 1 - degraded / plain}


def with_degradations(network, texts):
    """Returns a model that degrades a block of the batch with each of the texts first."""
    layers = [degradations.parse(text) for text in texts]
    return Degraded(network, layers)


class Degraded(keras.Model):
    """A network behind degradations, each of which gets an equal block of the batch."""

    def __init__(self, network, layers):
        super().__init__(dtype="float32")  # else bfloat16's policy would cast the images first
        self.network = network
        self.degradations = layers
        self.built = True

    def call(self, images, training=None):
        blocks = ops.split(images, len(self.degradations))
        # Keras draws the seeds of the layers.
        blocks = [layer(block) for layer, block in zip(self.degradations, blocks, strict=True)]
        return self.network(ops.concatenate(blocks), training=training)


def step_rate(model, loss, images, targets):
    """Returns images per second of a compiled training step."""
    model.compile(keras.optimizers.Adam(1e-5), loss, jit_compile=backend.compiles())
    return images_per_second(lambda: model.train_on_batch(images, targets), len(images))


def show(title, row, first):
    columns = {
        "jpeg": ("images_per_second",),
        "steps": ("images_per_second", "degraded", "share"),
        "degradations": ("images_per_second", "largest_difference", "share_beyond"),
    }[title]
    if first:
        print(f"\n{title:64}" + "".join(f"{column:>20}" for column in columns))
    cells = [
        f"{row[column]:,.0f}" if row[column] > 100 else f"{row[column]:.4g}" for column in columns
    ]
    print(f"{row['name']:64}" + "".join(f"{cell:>20}" for cell in cells), flush=True)


def report(results, path):
    """Prints what has to be known of all, writes the JSON file and ends the program."""
    differing = {
        row["name"]: row["share_beyond"] for row in results["degradations"] if row["share_beyond"]
    }
    results["differing"] = differing
    with open(path, "w") as file:
        json.dump(results, file, indent=2)
    print(f"\nLargest memory: {results['memory_mb']:,.0f} MB")
    if results["left_out"]:
        print(f"Left out for want of time (--minutes): {'; '.join(results['left_out'])}")
    for name, share in differing.items():
        print(f"{name}: {100 * share:.3g} % of the values are not those of the CPU")
    print(f"Results: {path}")
    sys.exit(1 if {"jpeg", "jpeg_compression"} & set(differing) else 0)


if __name__ == "__main__":
    main()
