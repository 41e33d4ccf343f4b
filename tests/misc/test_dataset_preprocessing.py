"""Stored sets of a small data set: contents, parts, kills, a cluster, a full disk, refusals."""

import contextlib
import csv
import dataclasses
import functools
import io
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest
import skimage.data

import degradations
from misc import dataset_preprocessing
from misc.images import (
    degraded_copies,
    engines,
    files,
    image_files,
    locks,
    preprocessing,
    stored_sets,
)
from misc.training.settings import Settings
from tests import commands, forks

CLASSES = ("n01", "n02")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A folder with train (2 classes of 5 images) and val (2 of 2); a grey image among them."""
    folder = tmp_path_factory.mktemp("data") / "imagenet"
    photo = skimage.data.astronaut()
    for split, count in (("train", 5), ("val", 2)):
        for label, name in enumerate(CLASSES):
            for number in range(count):
                top, left = 60 * number, 80 * label
                pixels = photo[top : top + 70 + number, left : left + 90]
                image_files.write_image(folder / split / name / f"{number}.png", pixels)
    image_files.write_image(folder / "train" / "n02" / "4.png", photo[:80, :64, 0])
    return folder


def make(
    tree,
    output,
    degradation="jpeg:30",
    store="decoded",
    part=(1, 1),
    overwrite=False,
    skip_broken=False,
    wanted=None,
    **values,
):
    """Makes a set of images of 32x32 pixels; returns (counts, rows of statistics)."""
    splits = preprocessing.find_splits(tree, wanted)
    values = {"resize": 40, "crop": 32, "size": 32} | values
    manifest = preprocessing.create_manifest(splits, degradation, store, **values)
    executor = functools.partial(engines.open_executor, "local", 2)
    return dataset_preprocessing.preprocess(
        tree, output, splits, manifest, part, executor, overwrite, skip_broken
    )


def contents(folder):
    """Returns {name: bytes} of what is stored, without the notes on the way there."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and preprocessing.RECORD_FOLDER not in path.parts
    }


def prepared(path):
    """The image as Expert Training prepares it, by Pillow alone."""
    image = PIL.Image.open(path).convert("RGB")
    scale = 40 / min(image.size)
    image = image.resize([int(side * scale) for side in image.size], PIL.Image.Resampling.BICUBIC)
    left, top = (round((side - 32) / 2) for side in image.size)
    return image.crop((left, top, left + 32, top + 32))


def as_jpeg(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


@pytest.mark.parametrize("store", stored_sets.STORES)
def test_what_is_stored_is_what_the_codec_gives(tree, tmp_path, store):
    counts, rows = make(tree, tmp_path / "set", store=store)
    assert counts == {"made": 14, "present": 0, "broken": []}
    stored = stored_sets.StoredSet(tmp_path / "set")
    for split, row in zip(("train", "val"), rows, strict=True):
        names = [
            path.relative_to(tree / split).as_posix()
            for path in image_files.find_images(tree / split)
        ]
        paths, sizes = stored.find(tree / split, names)
        expected = [as_jpeg(prepared(tree / split / name), 30) for name in names]
        for path, size, stream in zip(paths, sizes, expected, strict=True):
            assert size == len(stream)
            pixels = np.asarray(PIL.Image.open(io.BytesIO(stream)).convert("RGB"))
            np.testing.assert_array_equal(stored.read(path), pixels)
            assert store == "decoded" or path.read_bytes() == stream
        mean = np.mean([len(stream) for stream in expected])
        assert row["mean_bytes"] == pytest.approx(mean)
        assert row["bits_per_pixel"] == pytest.approx(8 * mean / 32**2)
        assert row["coded"] == row["stored"] == row["images"] == len(names)
    with open(tmp_path / "set" / "statistics.csv") as file:
        assert [row["split"] for row in csv.DictReader(file)] == ["train", "val"]
    assert make(tree, tmp_path / "set", store=store)[0]["present"] == 14


@pytest.mark.parametrize(
    ("text", "store", "output_format"),
    [
        ("bpg:46", "bitstreams", "ppm"),
        ("jpeg2000:20", "bitstreams", "ppm"),
        ("jpeg:10-90,subsampling=400", "bitstreams", "ppm"),
        ("saltpepper:0.1", "decoded", "png"),
        ("blur:1|jpeg:10", "decoded", "ppm"),
        ("", "decoded", "ppm"),
    ],
)
def test_any_degradation_is_what_its_layer_gives(tree, tmp_path, text, store, output_format):
    make(tree, tmp_path, text, store, wanted=["val"], output_format=output_format)
    stored = stored_sets.StoredSet(tmp_path)
    paths, sizes = stored.find(
        tree / "val", [f"{name}/{n}.png" for name in CLASSES for n in (0, 1)]
    )
    for number, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        name = f"{CLASSES[number // 2]}/{number % 2}.png"
        pixels, expected_size = np.asarray(prepared(tree / "val" / name)), 0
        if text:
            seed = degraded_copies.make_seed(0, name, text)
            batch, counts = degradations.parse(text).call_with_bytes(
                np.float32(pixels[None]), seed=seed
            )
            pixels, expected_size = np.floor(np.asarray(batch)[0] + 0.5), int(counts[0])
        # What is compiled may differ in the last bit before rounding.
        difference = np.abs(stored.read(path) - np.float32(pixels))
        assert difference.max() <= (1 if "blur" in text else 0)
        assert np.mean(difference > 0) < 0.02
        assert size == expected_size or ("blur" in text and abs(size - expected_size) < 20)
    assert {path.suffix for path in paths} == {
        ".bitstream" if store == "bitstreams" else f".{output_format}"
    }


def test_images_that_the_codec_spares_are_in_no_mean(tree, tmp_path):
    for store in stored_sets.STORES:
        _, rows = make(tree, tmp_path / store, "jpeg:30,p=0.5", store, wanted=["train"])
        stored = stored_sets.StoredSet(tmp_path / store)
        names = [f"{name}/{number}.png" for name in CLASSES for number in range(5)]
        paths, sizes = stored.find(tree / "train", names)
        assert 0 < rows[0]["coded"] < 10
        assert rows[0]["coded"] == np.count_nonzero(sizes)
        assert rows[0]["mean_bytes"] == pytest.approx(sizes[sizes > 0].mean())
        for name, path, size in zip(names, paths, sizes, strict=True):
            image = prepared(tree / "train" / name)
            if size:
                image = PIL.Image.open(io.BytesIO(as_jpeg(image, 30)))
            np.testing.assert_array_equal(stored.read(path), np.asarray(image.convert("RGB")))


def test_parts_together_are_the_whole(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(preprocessing, "SHARD_SIZE", 3)
    make(tree, tmp_path / "whole")
    for number in (2, 3, 1):
        _, rows = make(tree, tmp_path / "parts", part=(number, 3))
        # Whoever is the last writes the index.
        assert all(row["complete"] for row in rows) == (number == 1)
        assert (tmp_path / "parts" / "val" / "index.csv").exists() == rows[1]["complete"]
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")


def test_a_folder_of_classes_without_splits(tree, tmp_path):
    make(tree / "val", tmp_path / "set")
    stored = stored_sets.StoredSet(tmp_path / "set")
    names = [f"{name}/{number}.png" for name in CLASSES for number in (0, 1)]
    paths, _ = stored.find(tree / "val", names)
    assert paths[0] == tmp_path / "set" / "n01" / "0.ppm"


def test_a_split_may_be_added_and_other_settings_may_not(tree, tmp_path):
    make(tree, tmp_path, wanted=["val"])
    make(tree, tmp_path, wanted=["train"])
    assert {"train", "val"} == set(stored_sets.read_manifest(tmp_path).splits)
    statistics = json.loads((tmp_path / "statistics.json").read_text())
    assert {row["split"] for row in statistics} == {"train", "val"}
    before = contents(tmp_path)
    for values, message in (
        ({"degradation": "jpeg:31"}, "degradation was 'jpeg:30', is 'jpeg:31'"),
        ({"degradation": "jpeg:30,subsampling=444"}, "subsampling was '420', is '444'"),
        ({"store": "bitstreams"}, "store was 'decoded', is 'bitstreams'"),
        ({"seed": 1}, "seed was 0, is 1"),
        ({"interpolation": "bilinear"}, "interpolation was 'bicubic'"),
        ({"resize": 33}, "resize was 40, is 33"),
    ):
        with pytest.raises(ValueError, match=message):
            make(tree, tmp_path, **values)
    with pytest.raises(ValueError, match="it has splits, or gets some"):
        make(tree / "val", tmp_path)
    assert contents(tmp_path) == before
    make(tree, tmp_path, degradation="jpeg:31", overwrite=True)
    make(tree, tmp_path / "other", degradation="jpeg:31")
    after = contents(tmp_path)
    assert {k: v for k, v in after.items() if "other" not in k} == contents(tmp_path / "other")


def test_other_versions_of_the_codec_are_refused(tree, tmp_path):
    make(tree, tmp_path, wanted=["val"])
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["versions"]["pillow"] = "1.0"
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"pillow was '1\.0', is '\d"):
        make(tree, tmp_path, wanted=["val"])
    # A host of a cluster that has another one makes nothing.
    splits = preprocessing.find_splits(tree, ["val"])
    manifest = dataclasses.replace(
        preprocessing.create_manifest(splits, "jpeg:30"), codec="JPEG of elsewhere"
    )
    job = preprocessing.Job(str(tree), str(tmp_path / "new"), manifest)
    with pytest.raises(OSError, match="All hosts need the same packages"):
        preprocessing.work(job, preprocessing.plan(splits)[0])
    assert not (tmp_path / "new").exists()


def test_lost_and_cut_off_files_are_made_again(tree, tmp_path):
    make(tree, tmp_path)
    whole = contents(tmp_path)
    victims = [tmp_path / "train" / "n01" / "0.ppm", tmp_path / "val" / "n02" / "1.ppm"]
    victims[0].unlink()
    victims[1].write_bytes(victims[1].read_bytes()[:-5])
    # As killed runs leave them: half a note, and half a file that has no name yet.
    records = tmp_path / preprocessing.RECORD_FOLDER / "train" / "000000.jsonl"
    lines = records.read_text().splitlines()
    records.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:20])
    left = tmp_path / ".degraded-vision.x1y2z3ab.tmp"
    left.mkdir()
    (left / "3.ppm").write_bytes(b"P6")
    counts, _ = make(tree, tmp_path)
    assert counts == {"made": 3, "present": 11, "broken": []}
    assert contents(tmp_path) == whole


def test_images_are_turned_unless_they_are_imagenets(tree, tmp_path):
    turned = PIL.Image.open(tree / "val" / "n01" / "0.png")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "a.png", exif=exif)
    for name in ("cat", "n01440764"):
        image_files.write_image(tmp_path / name / name / "b.png", np.zeros((40, 40, 3), np.uint8))
        shutil.copy(tmp_path / "a.png", tmp_path / name / name)
        settings = {"degradations": "", "resize": 0, "crop": 32, "size": 32}
        values = {"input_path": tmp_path / name, "output_path": tmp_path / "sets" / name}
        names = ("store", "format", "splits", "interpolation", "seed", "engine", "workers")
        defaults = ("decoded", "ppm", None, "bicubic", 0, "local", 1)
        values |= dict(zip(names, defaults, strict=True)) | settings
        values |= {"dask_scheduler": None, "shard": "1/1"}
        values |= {"overwrite": False, "skip_broken": False}
        assert dataset_preprocessing.main(Settings(values)) == 0
    pixels = {
        name: stored_sets.read_ppm(tmp_path / "sets" / name / name / "a.ppm", 32)
        for name in ("cat", "n01440764")
    }
    upright = image_files.read_rgb(tmp_path / "a.png")
    height, width = upright.shape[:2]
    top, left = round((height - 32) / 2), round((width - 32) / 2)
    np.testing.assert_array_equal(pixels["cat"], upright[top : top + 32, left : left + 32])
    np.testing.assert_array_equal(
        pixels["n01440764"],
        np.asarray(PIL.Image.open(tmp_path / "a.png"))[left : left + 32, top : top + 32],
    )


def test_broken_images_are_named_or_left_out(tree, tmp_path):
    shutil.copytree(tree, tmp_path / "data")
    (tmp_path / "data" / "val" / "n01" / "1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"val/n01/1\.png"):
        make(tmp_path / "data", tmp_path / "set")
    counts, rows = make(tmp_path / "data", tmp_path / "set", skip_broken=True)
    assert len(counts["broken"]) == rows[1]["broken"] == 1
    stored = stored_sets.StoredSet(tmp_path / "set")
    names = [f"{name}/{number}.png" for name in CLASSES for number in (0, 1)]
    paths, sizes = stored.find(tmp_path / "data" / "val", names)
    assert sizes[1] == 0
    with pytest.raises(ValueError, match=r"n01/1\.png"):
        stored.read(paths[1])
    # It may have been repaired.
    shutil.copy(tree / "val" / "n01" / "1.png", tmp_path / "data" / "val" / "n01" / "1.png")
    assert make(tmp_path / "data", tmp_path / "set")[0]["made"] == 1
    make(tree, tmp_path / "whole")
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


def test_a_full_disk_is_reported_and_survived(tree, tmp_path):
    make(tree, tmp_path / "whole")
    with (
        forks.full_disk(2000),
        pytest.raises(files.DiskFullError, match=r"\.ppm cannot be written"),
    ):
        make(tree, tmp_path / "set", skip_broken=True)
    assert not list((tmp_path / "set").rglob("*.ppm"))
    make(tree, tmp_path / "set")
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


def test_another_process_is_kept_out(tree, tmp_path):
    with (
        forks.beside(locks.hold(tmp_path / "set")),
        pytest.raises(OSError, match="set is in use by process"),
    ):
        make(tree, tmp_path / "set")


def test_what_cannot_be_is_refused(tree, tmp_path):
    with pytest.raises(ValueError, match=r"--splits=test: .* Found: train, val"):
        preprocessing.find_splits(tree, ["test"])
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds no images in folders of classes"):
        preprocessing.find_splits(tmp_path / "empty")
    for name in ("a.png", "a.jpg"):
        image_files.write_image(tmp_path / "twice" / "cat" / name, np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="called cat/a but for their extension"):
        preprocessing.find_splits(tmp_path / "twice")
    for output in (tree, tree / "train", tree / "val" / "new"):
        with pytest.raises(ValueError, match="lies among the images"):
            dataset_preprocessing.find_splits(tree, output, None)
    dataset_preprocessing.find_splits(tree, tree / "bpg", None)
    for text in ("blur:2", "blur:2|jpeg:10", "jpeg:10/jpeg:20", ""):
        with pytest.raises(ValueError, match="--store=bitstreams needs one codec"):
            make(tree, tmp_path / "set", text, "bitstreams")
    for text in ("0/4", "5/4", "1", "a/b", "1/2/3"):
        with pytest.raises(ValueError, match="--shard is a part of all parts"):
            dataset_preprocessing.parse_part(text)
    assert dataset_preprocessing.parse_part("3/64") == (3, 64)
    with (
        pytest.raises(ValueError, match="--engine=dask needs --dask_scheduler"),
        engines.open_executor("dask"),
    ):
        pass


def test_sizes_are_those_of_expert_training():
    def shape(**values):
        given = {"size": 224, "crop": None, "resize": None, "interpolation": "bicubic", "seed": 0}
        found = dataset_preprocessing._shape(Settings(given | values))
        return found["resize"], found["crop"], found["size"]

    assert shape() == (256, 224, 224)
    assert shape(size=299) == (int(256 * 299 / 224), 299, 299)
    assert shape(size=32) == (256, 224, 32)
    assert shape(size=32, crop=32, resize=0) == (None, 32, 32)
    assert shape(size=None, crop=32, resize=0) == (None, 32, 32)
    with pytest.raises(ValueError, match="--resize=100 leaves less"):
        shape(resize=100)


def arguments(tree, output, **values):
    values = {"degradations": "bpg:51", "resize": 40, "crop": 32, "size": 32} | values
    return [
        "-m",
        "misc.dataset_preprocessing",
        f"--input_path={tree}",
        f"--output_path={output}",
        *commands.to_arguments(values),
    ]


def test_command_line(tree, tmp_path):
    output = commands.run(*arguments(tree, tmp_path / "set", store="bitstreams"))
    assert "14 images made" in output
    assert "train: 10 images, of 10 bit streams" in output
    assert "bits per pixel" in output


@pytest.fixture(scope="module")
def larger_tree(tmp_path_factory):
    """A hundred and fifty photos, of which BPG takes some seconds."""
    folder = tmp_path_factory.mktemp("larger") / "data"
    photo = skimage.data.astronaut()
    for number in range(150):
        pixels = photo[number : number + 300, 2 * (number % 90) : 2 * (number % 90) + 320]
        image_files.write_image(folder / CLASSES[number % 2] / f"{number}.jpg", pixels)
    return folder


LARGE = {"resize": 256, "crop": 224, "size": 224}


@pytest.fixture(scope="module")
def expected(larger_tree, tmp_path_factory):
    """What a run that nobody disturbs makes of them."""
    folder = tmp_path_factory.mktemp("expected") / "set"
    commands.run(*arguments(larger_tree, folder, **LARGE))
    return contents(folder)


def wait_until(condition, process=None, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)


def count_images(folder):
    # Not what has no name yet.
    return sum(1 for _ in folder.glob("n0*/*.ppm"))


@pytest.mark.slow  # four processes, and hundreds of images by BPG
def test_a_run_that_is_killed_goes_on(larger_tree, expected, tmp_path):
    for number in (20, 60, 110):
        run = commands.start(*arguments(larger_tree, tmp_path / "set", **LARGE))
        wait_until(lambda number=number: count_images(tmp_path / "set") >= number, run)
        run.kill()
        run.communicate()
        # Nothing that is there is half-written.
        for path in (tmp_path / "set").glob("n0*/*.ppm"):
            assert path.read_bytes() == expected[path.relative_to(tmp_path / "set").as_posix()]
        assert not (tmp_path / "set" / "index.csv").exists()
    done = count_images(tmp_path / "set")
    output = commands.run(*arguments(larger_tree, tmp_path / "set", **LARGE))
    made = int(output.partition(" images made")[0].split()[-1])
    # Of two shards, one image each may have been there without a note.
    assert 150 - done <= made <= 150 - done + 2
    assert contents(tmp_path / "set") == expected
    assert not list((tmp_path / "set").rglob("*.tmp"))


@contextlib.contextmanager
def cluster(folder, workers):
    """Yields (address, processes of the workers) of a cluster of dask's on the loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    dask = str(pathlib.Path(sys.executable).parent / "dask")
    start = functools.partial(
        subprocess.Popen,
        # Nobody needs this project on the path: workers find it by themselves.
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    processes = [start([dask, "scheduler", "--host=127.0.0.1", f"--port={port}", "--no-dashboard"])]
    try:
        for number in range(workers):
            options = ["--nthreads=1", "--no-nanny", "--no-dashboard", f"--name=w{number}"]
            processes.append(
                start([dask, "worker", address, *options, f"--local-directory={folder}/{number}"])
            )
        yield address, processes[1:]
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(30)


@pytest.mark.slow  # a cluster of three processes and two runs on it
def test_a_cluster_that_loses_a_worker_makes_the_same(larger_tree, expected, tmp_path):
    pytest.importorskip("distributed")
    with cluster(tmp_path, workers=2) as (address, workers):
        on_cluster = {"engine": "dask", "dask_scheduler": address} | LARGE
        run = commands.start(*arguments(larger_tree, tmp_path / "set", **on_cluster))
        wait_until(lambda: count_images(tmp_path / "set") >= 20, run)
        workers[0].kill()
        output, errors = run.communicate(timeout=300)
        assert run.returncode == 0, output + errors
        assert workers[0].wait() == -signal.SIGKILL
        assert "2 workers with 2 threads" in errors
        assert contents(tmp_path / "set") == expected
        assert not list((tmp_path / "set").rglob("*.tmp"))
        # What goes wrong on a worker is said here.
        (tmp_path / "broken").mkdir()
        shutil.copytree(larger_tree, tmp_path / "broken" / "data")
        (tmp_path / "broken" / "data" / "n01" / "0.jpg").write_bytes(b"no image")
        broken = arguments(tmp_path / "broken" / "data", tmp_path / "broken" / "set", **on_cluster)
        errors = commands.run(*broken, status=1)
        assert "n01/0.jpg" in errors
        assert "Traceback" not in errors
    errors = commands.run(*arguments(larger_tree, tmp_path / "other", **on_cluster), status=1)
    assert f"--dask_scheduler={address}: no scheduler answers" in errors
