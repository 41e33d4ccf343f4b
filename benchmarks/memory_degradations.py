"""How much memory does each degradation need for a batch, and how long does it take?

    python -m benchmarks.memory_degradations [--batch=64] [--side=224] [--severity=5] \\
        [--mode=compiled|eager] [--only=fog,snow] [--limit_gb=2]

Each degradation runs in a process of its own, twice on the same batch. "peak MB" is by how much the
process's largest resident memory exceeds what it held before, with TensorFlow loaded and the batch
made (the layer's own tensors, its result and its graph); "of limit" its ratio to the limit;
"process MB" is the whole. "ms" is the CPU time of the second run per image, on however many cores
there are, also as a ratio to adding 1 to the batch and cutting it to 0-255 ("x copy"). Exits with 1
if a peak exceeds the limit.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

# Those that are no group's member, at a level that is hard on them.
SINGLE = ("noise:50", "blur:5", "saltpepper:0.25", "jpeg:10")
MEGABYTE = 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--severity", type=float, default=5)
    parser.add_argument("--mode", choices=("compiled", "eager"), default="compiled")
    parser.add_argument("--only", help="degradations, separated by commas")
    parser.add_argument("--limit_gb", type=float, default=2)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments)))
        return
    texts = arguments.only.split(",") if arguments.only else all_degradations()
    print(
        f"batch {arguments.batch} of {arguments.side}x{arguments.side}, severity "
        f"{arguments.severity:g}, {arguments.mode}, limit {arguments.limit_gb:g} GB"
    )
    print(
        f"{'degradation':33}{'peak MB':>9}{'of limit':>10}{'process MB':>12}{'ms':>9}{'x copy':>8}"
    )
    exceeded = []
    for text in texts:
        figures = measure_in_own_process(text, arguments)
        if isinstance(figures, str):
            print(f"{text:33} failed: {figures}", flush=True)
            exceeded.append(text)
            continue
        share = figures["peak"] / (arguments.limit_gb * 1000)
        print(
            f"{text:33}{figures['peak']:9.0f}{share:10.2f}{figures['process']:12.0f}"
            f"{figures['ms']:9.2f}{figures['ms'] / figures['copy_ms']:8.1f}",
            flush=True,
        )
        if share > 1:
            exceeded.append(text)
    if exceeded:
        sys.exit(f"failed or above the limit: {', '.join(exceeded)}")


def all_degradations():
    import degradations

    names = dict.fromkeys(name for group in degradations.GROUPS.values() for name in group)
    return [*names, *SINGLE]


def measure_in_own_process(text, arguments):
    """Returns {"peak", "process": MB, "ms", "copy_ms"}, or the last line of the error."""
    command = [sys.executable, "-m", "benchmarks.memory_degradations", f"--measure={text}"]
    command += [
        f"--{name}={getattr(arguments, name)}" for name in ("batch", "side", "severity", "mode")
    ]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return json.loads(done.stdout.splitlines()[-1])


def measure(text, arguments):
    import numpy as np
    import tensorflow as tf

    import degradations

    layer = degradations.parse(text, severity=arguments.severity)
    shape = (arguments.batch, arguments.side, arguments.side, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    images = tf.constant(images, tf.float32)

    def copy(batch, seed):
        return tf.clip_by_value(batch + 1.0, 0.0, 255.0)

    def degrade(batch, seed):
        return layer(batch, seed=seed)

    copy_ms, _ = time_second_run(copy, images, arguments.mode)
    before = current_memory()
    ms, shape_out = time_second_run(degrade, images, arguments.mode)
    assert shape_out == shape
    process = peak_memory()
    return {"peak": process - before, "process": process, "ms": ms, "copy_ms": copy_ms}


def time_second_run(function, images, mode):
    import tensorflow as tf

    if mode == "compiled":
        function = tf.function(function, autograph=False)
    function(images, tf.constant([0, 1]))
    start = time.process_time()
    shape = tuple(function(images, tf.constant([0, 2])).shape)
    return (time.process_time() - start) / len(images) * 1e3, shape


def current_memory():
    """Returns the resident memory of this process now, in MB (Linux)."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return pages * resource.getpagesize() / MEGABYTE


def peak_memory():
    """Returns the largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE


if __name__ == "__main__":
    main()
