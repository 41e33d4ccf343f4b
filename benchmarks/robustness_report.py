"""What does a robustness report cost beyond its degradations and the network?

    python -m benchmarks.robustness_report [--images=500] [--photos=40] [--peer=FOLDER]

Three questions, in processor time, on one thread each:

- the whole report (measuring, figures, page) against a bare loop over the same batches: the same
  degradations at the same levels, and the network, on the same images (goal: at most 1.1);
- two models in one report against a report of each (goal: at most 0.75), for a small network,
  Keras' MobileNetV3Small on photos, which are degraded once for both; also for ResNet20 on images
  of 32 pixels, whose answers cost twice as much as all else;
- the report of SqueezeNet on ImageNet-C's corruptions of photos against a plain loop of the package
  imagecorruptions and PyTorch, image by image (goal: at least 10 times as fast); and how much of
  both the networks alone need, which no report can save. For this PyTorch
  has to be installed, and imagecorruptions in a folder of its own (pip install --no-deps --target
  FOLDER imagecorruptions), which --peer names. It takes minutes for each photo.

Networks have random weights. JPEG 2000 is left out: its worker processes have a processor time of
their own.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import contextlib
import functools
import io
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from classifiers import levels, networks, robustness
from classifiers.robustness_report import Report
from classifiers.subjects import Subject, compiled
from degradations import GROUPS, random
from misc.images import sample_data

DEGRADATIONS = ("imagenet_c", "jpeg:1-100", "blur:0.1-5,step=0.1", "noise:1-50,step=1")
SIDE = 224
BATCH = 250


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument("--peer", help="folder that imagecorruptions was installed into")
    parser.add_argument("--peer-images", type=int, default=2)
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    compare_with_bare_loop(arguments.images)
    compare_two_with_one(make_subject, "cifar_resnet20", arguments.images, 32, DEGRADATIONS)
    compare_two_with_one(make_small_subject, "MobileNetV3Small", arguments.photos, SIDE)
    if arguments.peer:
        compare_with_peer(arguments.peer, arguments.peer_images)


def compare_with_bare_loop(images):
    photos = make_photos(images, 32)
    subject = make_subject("cifar_resnet20")
    courses = plan(DEGRADATIONS, 32)
    calls = []
    run_report([recorded(subject, calls)], courses, photos, RecordedDegrader(calls))
    bare = BareLoop(subject, photos, calls)
    bare.run()  # the first ones compile
    times = alternate(
        {"report": lambda: run_report([subject], courses, photos), "bare": bare.run}, rounds=3
    )
    print(
        f"{images} images of 32 pixels, ResNet20: report {times['report']:.2f} s, bare loop "
        f"{times['bare']:.2f} s, ratio {times['report'] / times['bare']:.2f} (goal: at most 1.1)",
        flush=True,
    )


def compare_two_with_one(create, network, images, side, texts=("imagenet_c",)):
    photos = make_photos(images, side)
    subjects = [create(network, name) for name in ("first", "second")]
    courses = plan(texts, side)
    run_report(subjects, courses, photos)
    times = alternate(
        {
            "together": lambda: run_report(subjects, courses, photos),
            "first": lambda: run_report(subjects[:1], courses, photos),
            "second": lambda: run_report(subjects[1:], courses, photos),
        },
        rounds=3,
    )
    one = measure(lambda: subjects[0].classify(photos.astype(np.float32)))
    levels_measured = 1 + sum(len({*course.shown, *course.breaking}) for course in courses)
    apart = times["first"] + times["second"]
    print(
        f"two {network} on {images} images of {side} pixels: together {times['together']:.2f} s, "
        f"apart {apart:.2f} s, ratio {times['together'] / apart:.2f} (goal: at most 0.75); the "
        f"networks take up to {2 * levels_measured * one:.2f} s of both",
        flush=True,
    )


def compare_with_peer(folder, images):
    from benchmarks import imagecorruptions_peer

    photos = make_photos(images, SIDE)
    subject = make_subject("squeezenet1_0")
    courses = plan(("imagenet_c",), SIDE)
    run_report([subject], courses, photos)
    ours = measure(lambda: run_report([subject], courses, photos))
    levels_measured = sum(len(course.shown) for course in courses)
    own_network = levels_measured * measure(lambda: subject.classify(photos.astype(np.float32)))
    theirs, their_network = run_peer(imagecorruptions_peer.load(folder), photos)
    print(
        f"SqueezeNet, {images} photos of {SIDE} pixels, ImageNet-C's 15 at 5 severities: report "
        f"{ours:.1f} s, imagecorruptions and PyTorch {theirs:.1f} s, ratio {theirs / ours:.1f} "
        f"(goal: at least 10); the networks alone {own_network:.1f} and {their_network:.1f} s, all "
        f"else a ratio of {(theirs - their_network) / (ours - own_network):.1f}"
    )


def make_photos(count, side):
    """Returns uint8 crops of scikit-image's photos `[count, side, side, 3]`."""
    draws = np.random.default_rng(0)
    whole = [image for _, image in sample_data.sample_photos("train")]
    found = []
    for number in range(count):
        image = whole[number % len(whole)]
        top, left = (draws.integers(0, length - side + 1) for length in image.shape[:2])
        found.append(image[top : top + side, left : left + side])
    return np.stack(found)


def make_subject(network, name="model"):
    return as_subject(networks.build(network, 10 if network.startswith("cifar") else 1000), name)


def make_small_subject(network, name):
    return as_subject(getattr(keras.applications, network)(weights=None), name)


def as_subject(built, name):
    return Subject(name, name, compiled(lambda images: built(images, training=False)), "")


def plan(texts, size):
    return robustness.plan(levels.test_degradations(list(texts), "all", size))


def run_report(subjects, courses, photos, degrader=None):
    """Writes a whole report into a temporary folder."""
    images = photos.astype(np.float32)
    # As if the first were right, so that no report warns of accuracies at chance.
    labels = subjects[0].classify(images).argmax(axis=1).astype(np.int32)
    data = {"image": images, "label": labels}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        report = Report(
            subjects=subjects,
            batches=tf.data.Dataset.from_tensor_slices(data).batch(BATCH),
            courses=courses,
            folder=folder,
            seed=0,
            final_jpeg=None,
            size=photos.shape[1],
            kept={},
            command="",
        )
        report.degrader = degrader or shared_degrader()
        report.run()


@functools.cache
def shared_degrader():
    """Returns the one of all reports, so that it compiles once."""
    return robustness.Degrader(seed=0)


class RecordedDegrader:
    """Notes what is degraded."""

    def __init__(self, calls):
        self.calls = calls

    def __call__(self, tested, value, images, places):
        self.calls.append(("degrade", tested, value, np.array(places)))
        return shared_degrader()(tested, value, images, places)


def recorded(subject, calls):
    """Returns the subject, which also notes how many images it is shown."""

    def classify(images):
        calls.append(("classify", len(images)))
        return subject.classify(images)

    return Subject(subject.name, subject.source, classify, subject.values)


class BareLoop:
    """The degradations and the network on the images of the recorded calls, and nothing else."""

    def __init__(self, subject, photos, calls):
        self.classify, self.steps, self.functions = subject.classify, [], {}
        self.images = images = tf.constant(photos.astype(np.float32))
        for kind, *call in calls:
            if kind == "classify":
                self.steps.append((call[0], None))
                continue
            tested, value, places = call
            level = tf.constant(0.0 if value is None else value, tf.float32)
            part = tf.gather(images, places)
            self.steps.append((part, functools.partial(self.compiled(tested, part), level=level)))

    def compiled(self, tested, images):
        if tested.name not in self.functions:
            signature = [
                tf.TensorSpec([None, *images.shape[1:]], tf.float32),
                tf.TensorSpec([], tf.float32),
                tf.TensorSpec([2], tf.int32),
            ]
            self.functions[tested.name] = tf.function(
                lambda images, level, seed: tested.apply(images, level, seed)[0],
                input_signature=signature,
            )
        return self.functions[tested.name]

    def run(self):
        images, seed = self.images, random.make_seed(1)
        for step, function in self.steps:
            if function is None:
                self.classify(images[:step])
            else:
                images = function(step, seed=seed)


def alternate(functions, rounds):
    """Returns the median processor time of each function; they take turns."""
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.process_time()
            function()
            times[name].append(time.process_time() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


def measure(function):
    """Returns the processor time of a call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def run_peer(package, photos):
    """Returns the processor times of photos, one after the other, through package and network.

    The second is that of the network alone.
    """
    import torch
    import torchvision

    torch.set_num_threads(1)
    network = torchvision.models.squeezenet1_0(weights=None).eval()
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    start, of_network = time.process_time(), 0.0
    with torch.no_grad():
        for photo in photos:
            for name in GROUPS["imagenet_c"]:
                for severity in (1, 2, 3, 4, 5):
                    damaged = getattr(package, name)(Image.fromarray(photo), severity)
                    damaged = np.uint8(np.clip(damaged, 0, 255))
                    values = (torch.from_numpy(damaged) / 255 - mean) / deviation
                    of_network += measure(lambda x=values: network(x.permute(2, 0, 1)[None]))
    return time.process_time() - start, of_network


if __name__ == "__main__":
    main()
