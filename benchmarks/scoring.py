"""How much faster is scoring a folder than Keras' `model.predict` called per image?

    python -m benchmarks.scoring

Both read the same JPEG files, cut the central 192x192 patch and score it with the published
MobileNetV2 (random weights, which cost as much). Process time is compared, because other work on
the machine hides in elapsed time; elapsed time is printed beside it. Frozen files follow.
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import contextlib
import os
import pathlib
import statistics
import tempfile
import time

import numpy as np
import skimage.data
from absl import flags

from misc.export import frozen
from misc.images import image_files
from score_predictors import network, predict_files
from score_predictors.models import nima

FLAGS = flags.FLAGS
FORMATS = ("pb", "onnx", "tflite")


def define_flags():
    flags.DEFINE_integer("images", 96, "Number of files.")
    flags.DEFINE_integer("rounds", 3, "Rounds, of which the median counts.")
    flags.DEFINE_integer("width", 320, "Width of the pictures in pixels.")


def write_folder(folder, count, width):
    """Writes crops of a photograph as JPEG files; returns their paths."""
    photo = skimage.data.rocket()
    height = width * 3 // 4
    paths = []
    for number in range(count):
        top = number * 7 % (photo.shape[0] - height)
        left = number * 13 % (photo.shape[1] - width)
        path = pathlib.Path(folder) / f"{number:04}.jpg"
        image_files.write_image(path, photo[top : top + height, left : left + width])
        paths.append(path)
    return paths


def predict_per_image(method, paths):
    """Scores files as the examples of NIMA's public code do."""
    cut = predict_files.FileScorer(method).cut
    return [
        method.predictor.predict(
            cut(image_files.read_rgb(path))[0][None].astype(np.float32), verbose=0
        )
        for path in paths
    ]


def measure(work):
    """Returns (process seconds, elapsed seconds) of one call."""
    process, elapsed = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - process, time.perf_counter() - elapsed


def main(_):
    method = nima.ScorePredictor(network.create_network())
    with tempfile.TemporaryDirectory() as folder:
        paths = write_folder(folder, FLAGS.images, FLAGS.width)
        candidates = {
            "keras predict per image": lambda: predict_per_image(method, paths),
            "checkpoint": scoring(method, paths),
        }
        for result in frozen.freeze(method, pathlib.Path(folder) / "model", FORMATS):
            model = frozen.load(result.path)
            candidates[result.path.suffix] = scoring(model, paths)
        for work in candidates.values():
            work()  # traces graphs
        times = {name: [] for name in candidates}
        for _ in range(FLAGS.rounds):
            for name, work in candidates.items():
                times[name].append(measure(work))
    print(f"{FLAGS.images} images, {os.cpu_count()} cores, medians of {FLAGS.rounds} rounds")
    print(f"{'':<24}  {'CPU ms/image':>12}  {'ms/image':>9}  {'CPU ratio':>9}  {'ratio':>6}")
    medians = {
        name: [statistics.median(column) * 1e3 / FLAGS.images for column in zip(*rows, strict=True)]
        for name, rows in times.items()
    }
    peer = medians["keras predict per image"]
    for name, (process, elapsed) in medians.items():
        ratios = f"{peer[0] / process:9.1f}  {peer[1] / elapsed:6.1f}"
        print(f"{name:<24}  {process:12.2f}  {elapsed:9.2f}  {ratios}")
    return 0


def scoring(model, paths):
    scorer = predict_files.FileScorer(model)

    def work():
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            scorer(paths)

    return work


if __name__ == "__main__":
    define_flags()
    entry_point.run(main, with_model=False)
