"""Images, data sets, tables, caches, records: a small whole file of each kind, and its reader."""

import contextlib
import csv
import dataclasses
import json
import pickle
from collections.abc import Callable

import numpy as np
import PIL.Image


@dataclasses.dataclass(frozen=True)
class Kind:
    """How a kind of file is made and read.

    Attributes:
        make: function of a folder that writes a whole file there, and what is read with it; returns
            its path.
        read: function of that path.
        named: whether the file has a name that errors can tell.
    """

    make: Callable
    read: Callable
    named: bool = True


def _pixels(seed=0, shape=(24, 32, 3), kind=np.uint8):
    """Returns smooth pixels with a little noise, which codecs have work with."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] / 32
    smooth = np.stack([rows, columns, rows * columns][: shape[2]], axis=2)
    noise = np.random.default_rng(seed).normal(0, 0.02, shape)
    return np.clip((smooth + noise) * np.iinfo(kind).max, 0, np.iinfo(kind).max).astype(kind)


def _make_image(name, **options):
    def make(folder):
        from misc.images import image_files

        path = folder / name
        if options.pop("kind", None) == "16 bits":
            image_files.write_image(path, _pixels(kind=np.uint16))
        else:
            PIL.Image.fromarray(_pixels()).save(path, **options)
        return path

    return make


def _read_image(path):
    from misc.images import image_files, image_windows

    image_files.image_size(path)
    image_files.read_image(path)
    image_files.read_rgb(path)
    image_windows.read_window(path, lambda height, width: (0, 0, min(height, 9), min(width, 9)))


def _read_frost(path):
    import degradations

    degradations.parse_list([f'frost:folder="{path.parent}"'], severity=3)


def images():
    frost = {"a photo of frost": Kind(_make_image("frost.png"), _read_frost)}
    return frost | {
        name: Kind(_make_image(name, **options), _read_image)
        for name, options in {
            "photo.png": {},
            "photo.jpg": {},
            "progressive.jpg": {"progressive": True},
            "photo.webp": {},
            "photo.bmp": {},
            "photo.tif": {"compression": "tiff_lzw"},
            "deep.png": {"kind": "16 bits"},
            "deep.tif": {"kind": "16 bits"},
        }.items()
    }


def _make_cifar(form, name):
    def make(folder):
        count = 5
        images = np.stack([_pixels(n, (32, 32, 3)) for n in range(count)])
        labels = np.arange(count) % 10
        rows = images.transpose(0, 3, 1, 2).reshape(count, -1)
        files = [f"data_batch_{n}" for n in range(1, 6)]
        if form == "npz":
            np.savez_compressed(folder / "train.npz", images=images, labels=labels)
        elif form == "bin":
            content = np.hstack([labels[:, None], rows]).astype(np.uint8).tobytes()
            for file in files:
                (folder / f"{file}.bin").write_bytes(content)
        else:
            content = {b"data": rows, b"labels": labels.tolist()}
            for file in files:
                (folder / file).write_bytes(pickle.dumps(content, protocol=2))
            names = {b"label_names": [b"class %d" % n for n in range(10)]}
            (folder / "batches.meta").write_bytes(pickle.dumps(names, protocol=2))
        return folder / name

    return make


def _read_cifar(path):
    from classifiers.dataloaders import _cifar

    _cifar.read(_cifar.CIFAR10, path.parent, False, "train")


def _make_cifar_c(name):
    def make(folder):
        np.save(folder / "labels.npy", np.arange(10) % 2)
        np.save(folder / "fog.npy", np.stack([_pixels(n, (8, 8, 3)) for n in range(10)]))
        return folder / name

    return make


def _read_cifar_c(path):
    from classifiers.dataloaders import imagenet_c
    from tests import flag_values

    flags = flag_values.of(imagenet_c, evaluation_batch_size=4) | {"data_path": str(path.parent)}
    for batch in imagenet_c.create_data(flags).evaluation_batches("test"):
        np.asarray(batch["image"])


def _make_tiny_imagenet(folder):
    for name in ("n01", "n02"):
        (folder / "train" / name / "images").mkdir(parents=True)
    (folder / "val" / "images").mkdir(parents=True)
    lines = [f"val_{n}.JPEG\tn0{1 + n % 2}\t0\t0\t63\t63\n" for n in range(6)]
    for n in range(6):
        PIL.Image.fromarray(_pixels(n, (64, 64, 3))).save(folder / f"val/images/val_{n}.JPEG")
    (folder / "val/val_annotations.txt").write_text("".join(lines))
    return folder / "val/val_annotations.txt"


def _read_tiny_imagenet(path):
    from classifiers.dataloaders import tiny_imagenet

    tiny_imagenet._read(path.parents[1], "test", False)


def _make_vizwiz(folder):
    content = {"images": ["a.jpg", "b.jpg"], "categories": [{"id": 3, "name": "cat"}, {"id": 5}]}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder / "annotations.json"


def _read_vizwiz(path):
    from classifiers.dataloaders import vizwiz

    vizwiz._read(str(path))


def _make_embeddings(folder):
    rows = {name: _pixels()[n, :8, 0].tolist() for n, name in enumerate(["cat", "dog"])}
    (folder / "texts.json").write_text(json.dumps(rows))
    return folder / "texts.json"


def _read_embeddings(path):
    from classifiers.networks import clip

    clip.read_embeddings(path)


def data_sets():
    return {
        "CIFAR's pickles": Kind(_make_cifar("python", "data_batch_2"), _read_cifar),
        "CIFAR's names": Kind(_make_cifar("python", "batches.meta"), _read_cifar),
        "CIFAR's binary files": Kind(_make_cifar("bin", "data_batch_2.bin"), _read_cifar),
        "CIFAR's .npz": Kind(_make_cifar("npz", "train.npz"), _read_cifar),
        "CIFAR-C's labels": Kind(_make_cifar_c("labels.npy"), _read_cifar_c),
        "CIFAR-C's images": Kind(_make_cifar_c("fog.npy"), _read_cifar_c),
        "Tiny ImageNet's table": Kind(_make_tiny_imagenet, _read_tiny_imagenet),
        "VizWiz's annotations": Kind(_make_vizwiz, _read_vizwiz),
        "CLIP's embeddings of texts": Kind(_make_embeddings, _read_embeddings),
    }


def _write_table(path, rows, delimiter=","):
    with open(path, "w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def _make_ava(folder):
    random = np.random.default_rng(0)
    counts = random.integers(0, 99, (9, 10))
    rows = [[n, 1000 + n, *row, 1, 0, 17] for n, row in enumerate(counts, start=1)]
    return _write_table(folder / "AVA.txt", rows, " ")


def _read_ava(path):
    from score_predictors import targets
    from score_predictors.dataloaders import ava

    _, counts = ava.read_table(path)
    targets.from_counts(counts, str(path))


def _make_tid2013(folder):
    names = [f"i01_{distortion:02d}_{level}" for distortion in (1, 24) for level in (1, 5)]
    (folder / "mos_std.txt").write_text("0.1\n" * len(names))
    path = folder / "mos_with_names.txt"
    path.write_text("".join(f"{n + 0.25} {name}.bmp\r\n" for n, name in enumerate(names)))
    return path


def _read_tid2013(path):
    from score_predictors import targets
    from score_predictors.dataloaders import tid2013

    path = path.with_name("mos_with_names.txt")
    _, means, deviations = tid2013.read_scores(path)
    targets.from_moments("gaussian", means, deviations, tid2013.VALUES, path)


def _make_koniq(folder):
    head = ["image_name", "c1", "c2", "c3", "c4", "c5", "MOS", "SD", "set"]
    sets = ("training", "validation", "test")
    rows = [[f"{n}.jpg", 0.1, 0.2, 0.3, 0.3, 0.1, 50 + n, 0.5, sets[n % 3]] for n in range(6)]
    return _write_table(folder / "koniq.csv", [head, *rows])


def _read_koniq(path):
    from score_predictors.dataloaders import koniq10k

    koniq10k.read_table(path)


def _make_ratings(folder):
    for n in range(6):
        PIL.Image.fromarray(_pixels(n)).save(folder / f"{n}.png")
    rows = [[f"{n}.png", 1 + n / 2, 0.5, ("train", "validation")[n % 2]] for n in range(6)]
    return _write_table(folder / "ratings.csv", [["path", "mean", "std", "split"], *rows], ";")


def _read_ratings(path):
    from score_predictors.dataloaders import ratings

    table = ratings.read_ratings(str(path), path.parent, range(1, 11))
    table.take_split("train")


def tables():
    return {
        "AVA's table": Kind(_make_ava, _read_ava),
        "TID2013's means": Kind(_make_tid2013, _read_tid2013),
        "TID2013's deviations": Kind(
            lambda folder: _make_tid2013(folder).with_name("mos_std.txt"), _read_tid2013
        ),
        "KonIQ-10k's table": Kind(_make_koniq, _read_koniq),
        "a table of ratings": Kind(_make_ratings, _read_ratings),
    }


def _build_store(folder):
    from misc.images import pixel_store

    def fill(write):
        for number in range(3):
            write(number, 0, _pixels(number))

    return pixel_store.build_on_disk(fill, folder, {"key": 1}, 1 << 16)


def _make_store(pattern):
    def make(folder):
        _build_store(folder)
        return sorted(folder.glob(f"*/{pattern}"))[0]

    return make


def _read_store(path):
    store = _build_store(path.parents[1])
    for group in range(3):
        assert store.image(group, 0).shape == (24, 32, 3)


def _make_records(name):
    def make(folder):
        from misc.images import degraded_copies

        records = degraded_copies.Records(folder, {"seed": 1, "format": "png"})
        layer = _Named("jpeg", None)
        for n in range(4):
            copy = _Named(f"a{n}", layer)
            copy.target, copy.variant = folder / f"a{n}.png", layer
            measured = {"format": "png", "pixels": 9, "bytes": 7, "codec": None, "codec_bytes": 5}
            records.add(copy, **measured, mse=1.5)
        return next(folder.rglob(name))

    return make


class _Named:
    def __init__(self, label, layer):
        self.label, self.severity, self.layer = label, 3, layer


def _read_records(path):
    from misc.images import degraded_copies

    degraded_copies.Records(path.parents[1], {"seed": 1, "format": "png"}).statistics()


def _make_set(name):
    def make(folder):
        import degradations
        from misc.images import preprocessing, stored_sets

        names = [f"a/{n}.png" for n in range(4)]
        preprocessing.create_manifest({"": names}, "jpeg:10", "bitstreams", size=32).write(folder)
        (folder / "a").mkdir()
        codec = degradations.parse("jpeg:10").codec
        for n in range(4):
            stream = codec.encode(_pixels(n, (32, 32, 3)), 10)
            (folder / "a" / f"{n}.bitstream").write_bytes(stream)
            (folder / "a" / f"{n}.ppm").write_bytes(stored_sets.encode_ppm(_pixels(n, (32, 32, 3))))
        rows = [(name, name.replace("png", "bitstream"), 300) for name in names]
        stored_sets.write_index(folder, rows)
        return folder / name

    return make


def _read_set(path):
    from misc.images import stored_sets

    folder = path.parent if path.parent.name != "a" else path.parents[1]
    stored = stored_sets.StoredSet(folder)
    names = [f"a/{n}.png" for n in range(4)]
    for found in stored.find(folder, names)[0]:
        stored.read(found)
    stored.read(folder / "a" / "0.ppm")


def _make_notes(folder):
    from misc.images import preprocessing, shard_records

    shard = preprocessing.Shard("", 0, tuple(f"a/{n}.png" for n in range(4)))
    path = shard.records(folder)
    for name in shard.names:
        shard_records.add(path, shard_records.Record(name, name, 7, 9))
    return path


def _read_notes(path):
    from misc.images import shard_records

    shard_records.read(path)


def _make_chain(folder):
    from classifiers import fusion_distill_chain

    fusion_distill_chain.check_settings(folder, {"recipes": "quick", "degradations": ["jpeg"]})
    return folder / fusion_distill_chain.SETTINGS


def _read_chain(path):
    from classifiers import fusion_distill_chain

    fusion_distill_chain.check_settings(path.parent, {"recipes": "quick", "degradations": ["jpeg"]})


def kept():
    return {
        "a cache's index": Kind(_make_store("index.json"), _read_store),
        "a cache's pixels": Kind(_make_store("*.raw"), _read_store),
        "records of copies": Kind(_make_records("records.jsonl"), _read_records),
        "settings of copies": Kind(_make_records("settings.json"), _read_records),
        "manifest of a set": Kind(_make_set("manifest.json"), _read_set),
        "index of a set": Kind(_make_set("index.csv"), _read_set),
        "bit stream of a set": Kind(_make_set("a/1.bitstream"), _read_set),
        "image of a set": Kind(_make_set("a/0.ppm"), _read_set),
        "notes of a set": Kind(_make_notes, _read_notes),
        "settings of a chain": Kind(_make_chain, _read_chain),
    }


def bit_streams():
    from degradations import bitstreams

    streams = {
        "Jpeg": (bitstreams.Jpeg, 50),
        "Jpeg2000": (bitstreams.Jpeg2000, 30),
        "Webp": (bitstreams.Webp, 50),
        "Avif": (bitstreams.Avif, 50),
        "Heif": (bitstreams.Heif, 40),
        "Jpegxl": (bitstreams.Jpegxl, 50),
    }
    found = {}
    for name, (create, level) in streams.items():
        with contextlib.suppress(ImportError, ValueError):
            found[f"a bit stream of {name}"] = _codec(create(), level)
    return found


def _codec(codec, level):
    def make(folder):
        path = folder / "stream"
        path.write_bytes(codec.encode(_pixels(), level))
        return path

    return Kind(make, lambda path: codec.decode(path.read_bytes()), named=False)
