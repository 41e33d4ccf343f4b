"""Pairs of a photograph (HR) and its reduced copies (LR): found, checked and decoded."""

import dataclasses
import hashlib
import os
import pathlib
import re

import numpy as np

from degradations import resize
from misc.images import files, image_files, pixel_store, threads

# Agustsson and Timofte, CVPRW 2017: training images are 0001 to 0800, validation images the rest.
DIV2K_TRAINING, DIV2K_IMAGES = 800, 900


@dataclasses.dataclass(frozen=True)
class Pair:
    """One photograph and its copies.

    Attributes:
        name: file name without extension.
        high: path or pixels of the HR image; None if there is none.
        high_size: `(H, W)` of it; None if there is none.
        low: path of the LR image by scale; scales that are absent are made from `high`, which is
            itself the image of scale 1.
        low_sizes: `(h, w)` of the LR image by scale, after cropping (see `low_size`).
    """

    name: str
    high: pathlib.Path | np.ndarray | None
    high_size: tuple | None
    low: dict
    low_sizes: dict

    def read_high(self):
        """Returns the HR image, uint8 `[H, W, 3]`."""
        return _read(self.high, self.high_size)

    def read_low(self, scale, edges, high=None):
        """Returns the LR image, uint8 `[h, w, 3]`, read or made with MATLAB's bicubic.

        Args:
            scale: scale factor.
            edges: `'mirror'` or `'clamp'`, for an image that is made.
            high: HR image, where it has been read already.
        """
        rows, columns = self.low_sizes[scale]
        if scale in self.low:
            return image_files.read_rgb(self.low[scale])[:rows, :columns]
        if 0 in (rows, columns):
            return np.empty((rows, columns, 3), np.uint8)
        high = self.read_high() if high is None else high
        if scale == 1:
            return high
        high = high[: rows * scale, : columns * scale]
        return resize.matlab_bicubic(high, size=(rows, columns), edges=edges)


def low_size(high_size, scale, found=None, path=None):
    """Returns the `(rows, columns)` of an LR image that have a full counterpart in the HR image.

    MATLAB's imresize rounds sizes up: the last row or column of such an LR image shows less than
    `scale` HR pixels and is left out. Benchmarks crop the HR image first instead.

    Args:
        high_size: `(H, W)`.
        scale: scale factor.
        found: `(h, w)` of the LR file `path`, None if the LR image is made from the HR image.
        path: for the message.

    Raises:
        ValueError: if the LR file is no reduced copy of the HR image by its size.
    """
    size = tuple(length // scale for length in high_size)
    if found is not None:
        allowed = [{length // scale, -(-length // scale)} for length in high_size]
        if any(length not in lengths for length, lengths in zip(found, allowed, strict=True)):
            raise ValueError(
                f"{path} must have 1/{scale} of the rows and columns of its HR image, "
                f"{high_size[0]}x{high_size[1]}. Received: {found[0]}x{found[1]}"
            )
    return size


def pairs_from_arrays(photos, scales):
    """Returns the pairs of a list of `(name, uint8 [H, W, 3])`, with LR images to be made."""
    return [
        Pair(name, photo, photo.shape[:2], {}, _made_sizes(photo.shape[:2], scales))
        for name, photo in photos
    ]


def find_pairs(input_path, truth_path, scales, skip_broken=False):
    """Returns the pairs in folders of images, checked by what the files' headers say.

    Args:
        input_path: folder with x2/, x4/, ... of LR images; None to make them from the HR images.
            Where it has x1/, this holds damaged images of the same size.
        truth_path: folder of HR images; None for LR images alone.
        scales: scale factors.
        skip_broken: whether to leave out what does not fit instead of raising.

    Returns:
        `(pairs, skipped)`: list of `Pair`, sorted by name, and messages about what was left out.

    Raises:
        ValueError: when a folder is missing or empty; and, unless `skip_broken`, when a file is
            broken, has no partner, or its size does not fit. The message names it.
    """
    low_files = {}
    if input_path is not None:
        # At scale 1, the HR images serve where there are no others.
        needed = [scale for scale in scales if scale != 1 or truth_path is None]
        stored = [scale for scale in scales if scale in needed or _find_scale(input_path, scale)]
        low_files = {scale: _by_name(_scale_folder(input_path, scale), scale) for scale in stored}
    high_files = _by_name(truth_path) if truth_path is not None else None
    names = sorted(set(high_files or ()).union(*low_files.values()))

    def find(name):
        high = None
        if high_files is not None:
            high = _partner(high_files, name, truth_path, low_files)
        low = {
            scale: _partner(found, name, f"{input_path}/x{scale}", {0: high_files or {}})
            for scale, found in low_files.items()
            if high_files is not None or name in found
        }
        return _pair_of_files(name, high, low, scales)

    pairs, skipped = threads.for_each(find, names, "Looking at image sizes", skip_broken)
    pairs = [pair for pair in pairs if pair is not None]
    if not pairs:
        raise ValueError(f"All {len(names)} images were skipped. The first: {skipped[0]}")
    return pairs, skipped


def default_held_out(names):
    """Returns how many of the pairs of these names validate, where nothing else is said.

    Of DIV2K with validation images among them, all of those; else a tenth, at most 10, and none of
    a single pair.
    """
    published = sum(_div2k_number(name) > DIV2K_TRAINING for name in names)
    if all(map(_div2k_number, names)) and 0 < published < len(names):
        return published
    return min(10, max(1, len(names) // 10)) if len(names) > 1 else 0


def hold_out(pairs, count):
    """Returns (pairs to train on, `count` pairs to validate on), both sorted by name.

    DIV2K's validation images are the first to be held out. Which of the others are depends on their
    names alone, so that runs with other seeds, or with some more images, validate on the same.
    """

    def order(pair):
        mixed = hashlib.sha256(os.fsencode(pair.name)).digest()
        return _div2k_number(pair.name) <= DIV2K_TRAINING, mixed

    held_out = {pair.name for pair in sorted(pairs, key=order)[:count]}
    return (
        [pair for pair in pairs if pair.name not in held_out],
        [pair for pair in pairs if pair.name in held_out],
    )


def _div2k_number(name):
    """Returns the number of an image of DIV2K, 0001 to 0900, and 0 for another name."""
    number = int(name) if re.fullmatch("[0-9]{4}", name) else 0
    return number if number <= DIV2K_IMAGES else 0


def build_store(pairs, scales, edges, cached, cache_path, skip_broken=False):
    """Decodes the pairs into a store with the groups [HR, LR at scales[0], LR at scales[1], ...].

    At scale 1 nothing is stored unless there are files: the HR image is the LR image, too.

    Args:
        pairs: list of `Pair` with HR images.
        scales: scale factors.
        edges: see `Pair.read_low`.
        cached: True for memory, False for the disk, None for memory if the images need less than
            half of what is available.
        cache_path: folder of stores on disk; None for images/ in `files.cache_folder()`.
        skip_broken: whether to leave out broken images instead of raising.

    Raises:
        ValueError: for a broken image, named, or if none remain.
    """
    scales = [scale for scale in scales if scale != 1 or any(1 in pair.low for pair in pairs)]

    def fill(write):
        def decode(numbered):
            number, pair = numbered
            high = pair.read_high()
            lows = [pair.read_low(scale, edges, high) for scale in scales]
            for position, pixels in enumerate([high, *lows]):
                write(number, position, pixels)

        _, skipped = threads.for_each(
            decode, list(enumerate(pairs)), "Decoding images", skip_broken
        )
        if len(skipped) == len(pairs):
            raise ValueError(f"All {len(pairs)} images were skipped. The first: {skipped[0]}")

    key = ["pairs", list(scales), edges, skip_broken, [_fingerprint(pair) for pair in pairs]]
    return choose_store(fill, key, _decoded_bytes(pairs, scales), cached, cache_path)


def choose_store(fill, key, expected_bytes, cached, cache_path):
    """Builds a store in memory or on disk; arguments as for `build_store` and `pixel_store`."""
    if cached is None:
        cached = pixel_store.fits_in_memory(expected_bytes)
    if cached:
        return pixel_store.build_in_memory(fill)
    folder = cache_path or files.cache_folder() / "images"
    return pixel_store.build_on_disk(fill, folder, key, expected_bytes)


def _pair_of_files(name, high, low, scales):
    found = {scale: image_files.image_size(path) for scale, path in low.items()}
    if high is None:
        return Pair(name, None, None, low, found)
    high_size = image_files.image_size(high)
    if not low:
        return Pair(name, high, high_size, {}, _made_sizes(high_size, scales))
    sizes = {
        scale: low_size(high_size, scale, found.get(scale), low.get(scale)) for scale in scales
    }
    return Pair(name, high, high_size, low, sizes)


def _made_sizes(high_size, scales):
    return {scale: low_size(high_size, scale) for scale in scales}


def _find_scale(input_path, scale):
    # DIV2K's own archives write X2.
    folders = (pathlib.Path(input_path, f"{x}{scale}") for x in "xX")
    return next((folder for folder in folders if folder.is_dir()), None)


def _scale_folder(input_path, scale):
    folder = _find_scale(input_path, scale)
    if folder is not None:
        return folder
    raise ValueError(
        f"The LR images at scale {scale} must lie in {input_path}/x{scale}, and there is no such "
        "folder. --scales chooses other scales."
    )


def _by_name(folder, scale=None):
    """Returns the image files of a folder by name; DIV2K's LR name 0001x2.png counts as 0001."""
    found = {}
    for path in image_files.find_images(folder):
        name = path.stem
        if scale is not None and name.lower().endswith(f"x{scale}"):
            name = name[: -len(f"x{scale}")] or name
        if name in found:
            raise ValueError(f"Two images have the same name: {found[name]} and {path}")
        found[name] = path
    if not found:
        known = ", ".join(image_files.EXTENSIONS)
        raise ValueError(f"There is no image in the folder {folder} ({known})")
    return found


def _partner(files, name, folder, others):
    if name in files:
        return files[name]
    known = next((group[name] for group in others.values() if name in group), name)
    raise ValueError(f"{known} has no partner of the same name in {folder}")


def _read(source, size):
    if isinstance(source, np.ndarray):
        return source
    pixels = image_files.read_rgb(source)
    if pixels.shape[:2] != tuple(size):
        raise ValueError(f"{source} changed its size while it was being used")
    return pixels


def _fingerprint(pair):
    """Returns what tells that a pair's files are the same as before."""
    if isinstance(pair.high, np.ndarray):
        return [pair.name, hashlib.sha256(pair.high.tobytes()).hexdigest()]
    paths = [pair.high, *pair.low.values()]
    return [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]


def _decoded_bytes(pairs, scales):
    return sum(
        3 * rows * columns
        for pair in pairs
        for rows, columns in [pair.high_size, *(pair.low_sizes[scale] for scale in scales)]
    )
