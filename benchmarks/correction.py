"""What does SyMPIE cost beside the classifier that it stands before?

    python -m benchmarks.correction [warp] [module] [input]

warp: 64 images of 224x224, against a loop over the images with TensorFlow's operations, and against
one with NumPy and SciPy in float64. module: estimator and warp against ResNet50's inference. input:
a training step with ResNet50 and the 23 distortions against one without, on a batch that is on the
device; and what each distortion costs. Processor time, one thread; the peers take turns.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import sys
import time

import keras
import numpy as np
import scipy.ndimage
import tensorflow as tf

from classifiers import correction, networks
from classifiers.evaluation import Evaluation
from classifiers.models import sympie
from classifiers.models.classifier import Classifier
from degradations import expand, parse
from degradations.combined import OneOf

SIDE = 224
ROUNDS = 5


def take_turns(parts, rounds=ROUNDS):
    """Returns {name: median processor time in seconds} of functions."""
    times = {name: [] for name in parts}
    for number in range(rounds + 1):
        for name, function in parts.items():
            start = time.process_time()
            function()
            if number:  # the first one compiles
                times[name].append(time.process_time() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


def random_images(count):
    random = np.random.default_rng(0)
    return random.integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.float32)


def random_parameters(count):
    noise = np.random.default_rng(1).normal(0, 0.2, (count, correction.PARAMETERS))
    return (correction.identity().numpy() + noise).astype(np.float32)


def loop_of_tensorflow(images, parameters):
    warped = []
    for image, values in zip(images, parameters, strict=True):
        matrix = tf.reshape(values[correction.MATRIX], (3, 3))
        coloured = tf.reshape(tf.reshape(image, (-1, 3)) + values[correction.SHIFT], (-1, 3))
        coloured = tf.reshape(tf.matmul(coloured, matrix), (1, SIDE, SIDE, 3))
        kernel = tf.repeat(tf.reshape(values[correction.KERNEL], (5, 5, 1, 1)), 3, axis=2)
        warped.append(tf.nn.depthwise_conv2d(coloured, kernel, (1, 1, 1, 1), "SAME"))
    return tf.concat(warped, axis=0)


def loop_of_scipy(images, parameters):
    warped = np.empty(images.shape)
    for index, (image, values) in enumerate(zip(images, parameters, strict=True)):
        coloured = (image + values[correction.SHIFT]) @ values[correction.MATRIX].reshape(3, 3)
        kernel = values[correction.KERNEL].reshape(5, 5)
        for channel in range(3):
            warped[index, ..., channel] = scipy.ndimage.correlate(
                coloured[..., channel], kernel, mode="constant"
            )
    return warped


def measure_warp():
    images, parameters = random_images(64) / 64 - 2, random_parameters(64)
    tensors = tf.constant(images), tf.constant(parameters)
    doubles = images.astype(np.float64), parameters.astype(np.float64)
    warp = tf.function(correction.warp)
    times = take_turns(
        {
            "batched": lambda: warp(*tensors).numpy(),
            "TensorFlow": lambda: loop_of_tensorflow(*tensors).numpy(),
            "NumPy": lambda: loop_of_scipy(*doubles),
        }
    )
    print(
        f"warp of 64 images: {1e3 * times['batched']:.0f} ms; a loop of TensorFlow's operations "
        f"{times['TensorFlow'] / times['batched']:.1f} times, of NumPy and SciPy in float64 "
        f"{times['NumPy'] / times['batched']:.1f} times as long (goal: 20)"
    )


def measure_module(batch=16):
    images = tf.constant(random_images(batch))
    estimator = correction.for_use(correction.build_estimator())
    network = networks.build("resnet50", 1000)
    module = tf.function(lambda x: correction.correct(x, estimator(x, training=False)))
    classify = tf.function(lambda x: network(x, training=False))
    times = take_turns(
        {"module": lambda: module(images).numpy(), "ResNet50": lambda: classify(images).numpy()}
    )
    print(
        f"module and warp, {batch} images: {1e3 * times['module']:.0f} ms, ResNet50's inference "
        f"{1e3 * times['ResNet50']:.0f} ms: {100 * times['module'] / times['ResNet50']:.0f} % "
        "(goal: at most 25)"
    )


def create_method(distortion):
    return sympie.Sympie(
        correction.build_estimator(),
        lambda: {"resnet50": Classifier(networks.build("resnet50", 1000))},
        Evaluation(classes=1000),
        distortion,
        optimizers={sympie.ESTIMATOR: keras.optimizers.Adam(1e-3)},
        average_decay=0.9,
    )


def measure_input(batch=8):
    data = {"image": tf.constant(random_images(batch)), "label": tf.zeros(batch, tf.int32)}
    names = expand([text.partition("@")[0] for text in sympie.DISTORTIONS])
    layers = {name: parse(f"{name}@1-5:step=1", SIDE) for name in names}
    every = OneOf([parse(text, SIDE) for text in expand(sympie.DISTORTIONS)])
    seeds = iter(range(10**6))
    parts = {}
    for name, distortion in (("all", every), ("fixed", lambda images, seed: images)):
        step = tf.function(create_method(distortion).train_step)
        parts[name] = lambda step=step: step(data, tf.constant([0, next(seeds)]))["loss"].numpy()
    times = take_turns(parts, 3)
    print(
        f"training step, batch {batch}, ResNet50: {times['all']:.2f} s with the 23 distortions, "
        f"{times['fixed']:.2f} s on a fixed batch: {times['all'] / times['fixed']:.2f} times "
        "(goal: at most 1.5)"
    )
    own = {}
    for name, layer in layers.items():
        function = tf.function(lambda seed, layer=layer: layer(data["image"], seed=seed))
        own[name] = lambda function=function: function(tf.constant([0, next(seeds)])).numpy()
    own = take_turns(own, 2)
    for name, seconds in sorted(own.items(), key=lambda item: -item[1]):
        print(f"  {name:<20} {1e3 * seconds / batch:6.1f} ms per image")
    print(f"  {'mean':<20} {1e3 * np.mean(list(own.values())) / batch:6.1f} ms per image")


if __name__ == "__main__":
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    questions = {"warp": measure_warp, "module": measure_module, "input": measure_input}
    for question in sys.argv[1:] or questions:
        questions[question]()
