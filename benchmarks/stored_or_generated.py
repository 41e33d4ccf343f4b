"""What do generated corruptions cost in accuracy, beside files made by imagecorruptions?

    python -m benchmarks.stored_or_generated --weights=squeezenet1_0.pth --data_path=PHOTOS \\
        --frost=FROST [--oracle=FOLDER] [--network=squeezenet1_0] [--photos=200] [--only=fog,snow]

Photos lie in folders called by ImageNet's classes. The package's images are stored as JPEG of
quality 85, as ImageNet-C's are; the layers' are taken as they are, and through the same step. One
row per corruption, in percent of right answers over the five severities, and the difference between
the layers with that step and the package, with the 95 % interval of a bootstrap over the photos.
The package is a peer for measurements only (see `benchmarks.corruptions`); an hour on two cores.
"""

import argparse
import io
import pathlib
import zlib

import numpy as np
import tensorflow as tf
from PIL import Image

import degradations
from benchmarks import imagecorruptions_peer
from classifiers import bootstrap, class_names, networks, subsets
from classifiers.dataloaders import class_folders
from misc.images import image_files
from misc.images.degraded_copies import JPEG_QUALITY, resize_and_crop

SEVERITIES = range(1, 6)
BATCH = 50
# The package departs from ImageNet-C's definition of one, and enlarges the photos of the other.
APART = ("elastic_transform", "frost")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True, help="of the network, for ImageNet's classes")
    parser.add_argument("--data_path", required=True, help="folder of class folders")
    parser.add_argument("--frost", required=True, help="folder of ImageNet-C's photos of frost")
    parser.add_argument("--oracle", help="folder that imagecorruptions was installed into")
    parser.add_argument("--network", default="squeezenet1_0", choices=networks.NAMES)
    parser.add_argument("--mean", default="122.67892,116.66877,104.00699", help="in 0-255")
    parser.add_argument("--deviation", default="1,1,1", help="in 0-255")
    parser.add_argument("--resize", type=int, default=256, help="shorter side of the photos")
    parser.add_argument("--crop", type=int, default=227, help="central square that is taken")
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--only", help="names, separated by commas")
    arguments = parser.parse_args()
    peer = imagecorruptions_peer.load(arguments.oracle)
    # Snow as the package has it, not as ImageNet-C.
    peer._motion_blur = getattr(peer._motion_blur, "__wrapped__", peer._motion_blur)
    photos, labels = read(arguments)
    network = create(arguments)
    step = degradations.parse(f"jpeg:{JPEG_QUALITY}", 224)

    def right(images):
        parts = [network(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
        return 100.0 * (np.argmax(np.concatenate(parts), axis=1) == labels)

    print(f"{len(photos)} photos, clean {right(photos).mean():.1f}")
    print(f"{'':24}{'package':>9}{'here':>7}{'JPEG':>7}{'difference':>12}")
    names = arguments.only.split(",") if arguments.only else degradations.GROUPS["imagenet_c"]
    rows = {}
    for name in names:
        found = []
        text = f'{name}:folder="{arguments.frost}"' if name == "frost" else name
        degrade = tf.function(degradations.parse(text, 224, severity=(1, 5)).call_at)
        for severity in SEVERITIES:
            made = generate(degrade, photos, name, severity)
            stored = store(getattr(peer, name), photos, name, severity)
            found.append([right(images) for images in (stored, made, step(made, seed=0).numpy())])
        rows[name] = np.mean(found, axis=0)
        show(name, rows[name])
    together = [values for name, values in rows.items() if name not in APART]
    show(f"mean of {len(together)}", np.mean(together, axis=0))


def read(arguments):
    """Returns float32 photos [N, S, S, 3], as many of each class as can be, and their labels."""
    names = list(class_names.read(class_names.IMAGENET))
    found = class_folders.find_images(pathlib.Path(arguments.data_path), names)
    chosen = subsets.choose([label for _, label in found], arguments.photos, seed=0)
    paths, labels = zip(*(found[number] for number in chosen), strict=True)
    size = arguments.resize, arguments.crop
    photos = [resize_and_crop(image_files.read_rgb(path, upright=False), *size) for path in paths]
    return np.stack(photos).astype(np.float32), np.array(labels)


def create(arguments):
    """Returns the network as a function from images to logits."""
    mean, deviation = (
        [float(value) / 255 for value in text.split(",")]
        for text in (arguments.mean, arguments.deviation)
    )
    network = networks.build(arguments.network, weights=arguments.weights, mean=mean, std=deviation)
    return tf.function(lambda images: network(images, training=False), reduce_retracing=True)


def generate(degrade, photos, name, severity):
    """Returns the layer's images."""
    seed = zlib.crc32(f"{name}{severity}".encode()) & 0x7FFFFFFF
    parts = [
        degrade(photos[i : i + BATCH], tf.constant(float(severity)), tf.constant([seed, i]))
        for i in range(0, len(photos), BATCH)
    ]
    return np.concatenate(parts)


def store(corrupt, photos, name, severity):
    """Returns the package's images as they come back from their files."""
    images = []
    for number, photo in enumerate(photos):
        np.random.seed(zlib.crc32(f"{name} {severity} {number}".encode()))  # noqa: NPY002
        pixels = np.uint8(corrupt(Image.fromarray(np.uint8(photo)), severity))
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=JPEG_QUALITY)
        images.append(np.asarray(Image.open(file).convert("RGB")))
    return np.float32(images)


def show(name, values):
    """Prints means of right answers [3, N] and the difference with its interval."""
    difference = values[2] - values[0]
    low, high = bootstrap.interval(bootstrap.resample_means(difference[:, None], 0)[:, 0])
    package, here, coded = values.mean(axis=1)
    print(
        f"{name:24}{package:9.1f}{here:7.1f}{coded:7.1f}{difference.mean():+12.2f}"
        f" ({low:+.2f} to {high:+.2f})",
        flush=True,
    )


if __name__ == "__main__":
    main()
