"""How fast frozen files run, against the Keras model in a tf.function.

python -m benchmarks.frozen_inference --size=128 --scale=2

Freezes a network with random weights, then runs all of them in turn on one image, once with one
thread each and once with each library's default. A ratio above 1 is faster than the Keras model.
"""

import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
FILES = ("model.pb", "model_saved_model", "model_x{}.onnx", "model_x{}.tflite")


def create_method():
    import keras

    from eusr import network
    from eusr.models import eusr

    keras.utils.set_random_seed(0)
    generator = network.Generator(
        scales=(FLAGS.scale,), features=FLAGS.features, shared_blocks=FLAGS.blocks
    )
    return eusr.EUSR(generator)


def freeze(folder):
    from misc.export import frozen

    for result in frozen.freeze(create_method(), folder / "model", tuple(frozen.FORMATS)):
        if result.error:
            print(f"{result.path.name} is left out: {result.error}")


def measure(folder, threads):
    import tensorflow as tf

    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    from misc.export import frozen

    method = create_method()
    runs = {
        "Keras model": tf.function(
            lambda images: method.predict(images, FLAGS.scale)["output"],
            input_signature=[tf.TensorSpec([None, None, None, 3])],
        )
    }
    for name in (name.format(FLAGS.scale) for name in FILES):
        if (folder / name).exists():
            model = frozen.load(folder / name, threads)
            runs[name] = lambda images, model=model: model.predict(images, FLAGS.scale)["output"]

    images = np.random.default_rng(0).uniform(0, 255, (1, FLAGS.size, FLAGS.size, 3))
    images = images.astype(np.float32)
    seconds = {name: [] for name in runs}
    for repeat in range(FLAGS.repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            np.asarray(run(images))
            if repeat:  # the first call prepares memory and kernels
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{'1 thread' if threads else 'default threads':18}  s/image   times the Keras model")
    for name, value in medians.items():
        print(f"{name:18}  {value:7.3f}   {medians['Keras model'] / value:.2f}", flush=True)


def main(argv):
    if FLAGS.folder:
        measure(pathlib.Path(FLAGS.folder), FLAGS.threads)
        return
    with tempfile.TemporaryDirectory() as folder:
        freeze(pathlib.Path(folder))
        for threads in (1, 0):
            # TensorFlow's number of threads is fixed once it has run.
            own = [sys.executable, "-m", "benchmarks.frozen_inference", *argv[1:]]
            own += [f"--{name}={FLAGS[name].value}" for name in ("scale", "size", "features")]
            own += [f"--blocks={FLAGS.blocks}", f"--repeats={FLAGS.repeats}"]
            subprocess.run([*own, f"--folder={folder}", f"--threads={threads}"], check=True)


if __name__ == "__main__":
    flags.DEFINE_integer("scale", 2, "Upscaling factor.")
    flags.DEFINE_integer("size", 128, "Height and width of the input.")
    flags.DEFINE_integer("features", 64, "Features of the network.")
    flags.DEFINE_integer("blocks", 32, "Shared blocks of the network.")
    flags.DEFINE_integer("repeats", 5, "Timed runs; the median is reported.")
    flags.DEFINE_string("folder", None, "Folder of frozen files to measure in this process.")
    flags.DEFINE_integer("threads", 0, "Threads in this process; 0: each library's default.")
    app.run(main)
