"""What does storing a degraded data set cost beside its codec, and reading it beside no input?

    python -m benchmarks.dataset_preprocessing               # all questions
    python -m benchmarks.dataset_preprocessing codec cores   # some of: QUESTIONS

Each line ends with a ratio of times that were measured in turn, in one run. Processor time is
disturbed less by other work on the machine than time on the wall is.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import contextlib
import functools
import io
import json
import pathlib
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np
import PIL.Image
import tensorflow as tf

import degradations
from classifiers.dataloaders import class_folders
from classifiers.models import classifier
from degradations import bitstreams
from misc import dataset_preprocessing
from misc.images import engines, preprocessing, sample_data, stored_sets
from misc.training.settings import Settings

QUESTIONS = ("codec", "cores", "restart", "dask", "formats", "training")
FINISHED = 100_000
SIZE = (500, 375)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("questions", nargs="*", help=f"some of {', '.join(QUESTIONS)}")
    parser.add_argument("--images", type=int, default=256, help="photos of 500x375")
    parser.add_argument("--rounds", type=int, default=3, help="turns; medians count")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory(prefix="dataset_preprocessing.") as folder:
        folder = pathlib.Path(folder)
        write_photos(folder / "photos", arguments.images)
        for question in arguments.questions or QUESTIONS:
            globals()[f"measure_{question}"](folder, arguments.rounds)


def write_photos(folder, count):
    """Writes JPEG files as ImageNet has them, all of other contents."""
    photos = [photo for _, photo in sample_data.sample_photos("train")]
    for number in range(count):
        picture = PIL.Image.fromarray(np.roll(photos[number % len(photos)], 17 * number, axis=1))
        path = folder / f"n{number % 4}" / f"{number}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.resize(SIZE).save(path, "JPEG", quality=90)


def store(source, target, degradation, open_executor, kind="decoded", output_format="ppm"):
    """Makes a set anew, as the command does."""
    shutil.rmtree(target, ignore_errors=True)
    splits = preprocessing.find_splits(source)
    manifest = preprocessing.create_manifest(splits, degradation, kind, output_format)
    with contextlib.redirect_stderr(io.StringIO()):
        dataset_preprocessing.preprocess(
            source, target, splits, manifest, (1, 1), open_executor, False, False
        )


def local(workers):
    return functools.partial(engines.open_executor, "local", workers)


def processor_time():
    """Seconds of this process and of its workers, which some codecs have."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def in_turn(functions, rounds, clock=time.perf_counter):
    """Returns {name: list of seconds}; each function runs once to warm up."""
    times = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            start = clock()
            function()
            if number:
                times[name].append(clock() - start)
    return times


def ratio(times, first, second):
    return np.median(np.divide(times[first], times[second]))


def measure_codec(folder, rounds):
    """The command on one core beside a loop that does no more than is needed, and the codec."""
    paths = sorted((folder / "photos").glob("*/*"))
    for text, codec, level in (
        ("bpg:51", bitstreams.Bpg(), 51),
        ("jpeg:10", bitstreams.Jpeg(), 10),
    ):
        images = [prepare(path) for path in paths]

        def loop(codec=codec, level=level):
            for number, path in enumerate(paths):
                decoded, _ = codec.round_trip(prepare(path), level)
                (folder / f"{number}.ppm").write_bytes(stored_sets.encode_ppm(decoded))

        def code(codec=codec, level=level, images=images):
            for image in images:
                codec.round_trip(image, level)

        def command(text=text):
            store(folder / "photos", folder / "set", text, local(1))

        functions = {"command": command, "loop": loop, "codec": code}
        times = in_turn(functions, rounds, processor_time)
        each = {name: 1000 * np.median(found) / len(paths) for name, found in times.items()}
        print(
            f"{text}: {each['command']:.2f} ms of processor time per image, a bare loop that "
            f"reads, resizes, codes and writes {each['loop']:.2f}, the codec {each['codec']:.2f}: "
            f"{ratio(times, 'command', 'loop'):.3f} times the loop, "
            f"{ratio(times, 'command', 'codec'):.2f} times the codec (goal: at most 1.2)",
            flush=True,
        )


def prepare(path):
    """Resizes and cuts out with Pillow alone."""
    image = PIL.Image.open(path).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize([int(side * scale) for side in image.size], PIL.Image.Resampling.BICUBIC)
    left, top = ((side - 224) // 2 for side in image.size)
    return np.asarray(image.crop((left, top, left + 224, top + 224)))


def measure_cores(folder, rounds):
    """Two workers against one."""
    for text in ("bpg:51", "jpeg:10"):
        times = in_turn(
            {
                workers: functools.partial(
                    store, folder / "photos", folder / "set", text, local(workers)
                )
                for workers in (1, 2)
            },
            rounds,
        )
        print(
            f"{text}: one worker {np.median(times[1]):.2f} s, two {np.median(times[2]):.2f} s, "
            f"{ratio(times, 1, 2):.2f} times as fast (goal: at least 1.8)",
            flush=True,
        )


def measure_restart(folder, rounds):
    """The command on a set that is finished, from the start of the program to its end."""
    source, target = folder / "many", folder / "many_set"
    content = io.BytesIO()
    PIL.Image.new("RGB", (8, 8)).save(content, "PNG")
    for number in range(FINISHED):
        path = source / f"{number % 1000}" / f"{number}.png"
        if number < 1000:
            path.parent.mkdir(parents=True)
        path.write_bytes(content.getvalue())
    splits = preprocessing.find_splits(source)
    manifest = preprocessing.create_manifest(splits, "", resize=None, crop=8, size=8)
    finish_at_once(source, target, splits, manifest)
    command = [sys.executable, "-m", "misc.dataset_preprocessing", f"--input_path={source}"]
    command += [f"--output_path={target}", "--degradations=", "--resize=0", "--crop=8", "--size=8"]
    times, used = [], processor_time()
    for _ in range(rounds):
        start = time.perf_counter()
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        times.append(time.perf_counter() - start)
        assert f"{FINISHED} were there already" in output, output
    print(
        f"restart on {FINISHED:,} finished files: {np.median(times):.1f} s, of which "
        f"{(processor_time() - used) / rounds:.1f} s processor time (goal: under 20)",
        flush=True,
    )


def finish_at_once(source, target, splits, manifest):
    """Writes what a run would have left, without its care for each file."""
    manifest.write(target)
    data = stored_sets.encode_ppm(np.zeros((8, 8, 3), np.uint8))
    for shard in preprocessing.plan(splits):
        lines = []
        for name in shard.names:
            file = name.replace(".png", ".ppm")
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            (target / file).write_bytes(data)
            lines.append(json.dumps([name, file, 0, len(data)]))
        path = shard.records(target)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))


def measure_dask(folder, rounds):
    """A cluster of two workers on this machine against two threads."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    dask = str(pathlib.Path(sys.executable).parent / "dask")
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    port = address.rpartition(":")[2]
    commands = [[dask, "scheduler", "--host=127.0.0.1", f"--port={port}", "--no-dashboard"]]
    commands += 2 * [[dask, "worker", address, "--nthreads=1", "--no-dashboard"]]
    processes = [subprocess.Popen(command, **options) for command in commands]
    try:
        on_cluster = functools.partial(engines.open_executor, "dask", scheduler=address)
        times = in_turn(
            {
                name: functools.partial(
                    store, folder / "photos", folder / "set", "bpg:51", open_executor
                )
                for name, open_executor in (("dask", on_cluster), ("local", local(2)))
            },
            rounds,
        )
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()
    print(
        f"bpg:51, two workers: dask {np.median(times['dask']):.2f} s, local "
        f"{np.median(times['local']):.2f} s, ratio {ratio(times, 'dask', 'local'):.3f} "
        "(goal: at most 1.1)",
        flush=True,
    )


def measure_formats(folder, rounds):
    """Reading stored images, beside rows of one array that is mapped into memory."""
    kinds = {"ppm": ("decoded", "ppm"), "png": ("decoded", "png"), "JPEG": ("bitstreams", "ppm")}
    functions = {}
    for name, kind in kinds.items():
        target = folder / f"set_{name}"
        store(folder / "photos", target, "jpeg:10", local(2), *kind)
        stored = stored_sets.StoredSet(target)
        names = preprocessing.find_splits(folder / "photos")[""]
        paths, _ = stored.find(folder / "photos", names)
        functions[name] = functools.partial(read_all, stored.read, paths)
    array = np.stack([stored.read(path) for path in paths])
    np.save(folder / "array.npy", array)
    mapped = np.load(folder / "array.npy", mmap_mode="r")
    functions["array"] = functools.partial(read_all, mapped.__getitem__, range(len(mapped)))
    times = in_turn(functions, 5 * rounds, processor_time)
    each = {name: 1e3 * np.median(found) / len(mapped) for name, found in times.items()}
    print(
        "reading an image, ms of processor time: "
        + ", ".join(f"{name} {value:.3f}" for name, value in each.items()),
        flush=True,
    )


def read_all(read, items):
    for item in items:
        np.asarray(read(item)).astype(np.float32)


def measure_training(folder, rounds, batch_size=8, steps=3):
    """Steps of ResNet50 with input of each kind, against steps on a batch that is there."""
    photos = folder / "photos"
    store(photos, folder / "set", "jpeg:10", local(2))
    flags = training_settings(photos, batch_size)
    method = classifier.create_model(flags, training=True)
    layer = degradations.parse("jpeg:10")

    @tf.function
    def step(batch):
        return method.train_step(batch, tf.constant([0, 0]))["loss"]

    def on_the_fly():
        data = class_folders.create_data(flags | {"data_interpolation": "bicubic"})
        batches = data.training_batches(0)
        return batches.map(lambda batch: batch | {"image": layer(batch["image"], seed=1)})

    def decoded():
        return class_folders.create_data(
            flags | {"data_degraded_path": str(folder / "set")}
        ).training_batches(0)

    fixed = {k: v for k, v in next(iter(decoded())).items() if k in ("image", "label")}
    sources = {
        "fixed": lambda: iter(tf.data.Dataset.from_tensors(fixed).repeat()),
        "decoded": lambda: iter(decoded()),
        "on_the_fly": lambda: iter(on_the_fly()),
    }
    wall, used = ({name: [] for name in sources} for _ in range(2))
    for number in range(rounds + 1):
        for name, create in sources.items():
            # Made anew, so that none works ahead while another one is measured.
            batches = create()
            step(only_seen(next(batches))).numpy()
            start = time.perf_counter(), time.process_time()
            for _ in range(steps):
                step(only_seen(next(batches))).numpy()
            if number:
                wall[name].append(time.perf_counter() - start[0])
                used[name].append(time.process_time() - start[1])
            del batches
    for name in ("decoded", "on_the_fly"):
        print(
            f"ResNet50, batch {batch_size} of 224x224, {name}: "
            f"{np.median(wall[name]) / steps:.2f} s a step, "
            f"{ratio(wall, name, 'fixed'):.3f} times a fixed batch, "
            f"{ratio(used, name, 'fixed'):.3f} times its processor time (goal: at most 1.05)",
            flush=True,
        )


def only_seen(batch):
    return {"image": batch["image"], "label": batch["label"]}


def training_settings(photos, batch_size):
    """Settings of training ResNet50 on the photos."""
    from absl import flags

    from misc.training import common_flags, settings

    def define():
        flags.DEFINE_integer("max_steps", 10, "")
        common_flags.define_training_flags()
        classifier.define_flags()
        class_folders.define_flags()

    values = {"network": "resnet50", "num_classes": 4, "batch_size": batch_size}
    values |= {"augment_flip": False, "augment_padding": 0, "data_held_out": 0.0}
    local_values = {"data_path": str(photos), "data_cached": False}
    return Settings(settings.of_run(define, values).to_dict() | local_values)


if __name__ == "__main__":
    main()
