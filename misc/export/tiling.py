"""Large images piece by piece, with the same result as in one go.

Tiles overlap by at least the receptive radius of the network, and only what lies that far from a
cut is kept. At the image's own border a tile ends exactly there, because the network pads with
zeros there. All tiles of an image have one shape.
"""

import dataclasses
import math

import numpy as np

from misc.images import pixel_store

# Output pixels along one side; see `python -m benchmarks.tiling` for what sizes cost.
OUTPUT_TILE = 1152
# Larger tiles, of which less overlaps, take no more than this part of the memory.
MEMORY_SHARE = 1 / 2


@dataclasses.dataclass(frozen=True)
class Span:
    """One tile along one axis, in input pixels: what is read, and which part of it is kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def split(length, tile, overlap):
    """Returns the `Span`s, all of one size, that cover `length` pixels; see `apply_tiled`."""
    check(tile, overlap)
    if tile == 0 or length <= tile:
        return [Span(0, length, 0, length)]
    count = math.ceil((length - 2 * overlap) / (tile - 2 * overlap))
    size = math.ceil((length - 2 * overlap) / count) + 2 * overlap
    starts = [i * (length - size) // (count - 1) for i in range(count)]
    cuts = [0, *(start + overlap for start in starts[1:]), length]
    return [Span(start, start + size, cuts[i], cuts[i + 1]) for i, start in enumerate(starts)]


def check(tile, overlap):
    """Raises ValueError unless tiles of this size and overlap can cover an image."""
    if overlap < 0:
        raise ValueError(f"--overlap is at least 0. Received: {overlap}")
    if tile != 0 and tile <= 2 * overlap:
        raise ValueError(
            f"--tile is 0 (no tiles) or more than twice the overlap ({2 * overlap}). "
            f"Received: {tile}"
        )


def choose_tile(size, factor, overlap, output_bytes=None):
    """Returns (rows, columns) of the tiles for an image, so large as memory allows; 0: all.

    Args:
        size: (rows, columns) of the image.
        factor: size of the output divided by the size of the input.
        overlap: see `apply_tiled`.
        output_bytes: memory in bytes that each pixel of a tile's output needs, `None` if unknown.
    """
    area = max(int(OUTPUT_TILE / factor), 2 * overlap + 128) ** 2
    available = pixel_store.available_memory()
    if output_bytes and available:
        area = max(area, int(MEMORY_SHARE * available / output_bytes / factor**2))
    rows, columns = size
    widths = _tile_lengths(columns, overlap)
    best = None
    for down, height in _tile_lengths(rows, overlap):
        # The first that fits overlaps least.
        across, width = next((w for w in widths if height * w[1] <= area), widths[-1])
        count = down * across
        found = max(height * width - area, 0), count * height * width, count, height, width
        best = found if best is None else min(best, found)
    *_, height, width = best
    return 0 if height == rows else height, 0 if width == columns else width


def _tile_lengths(length, overlap):
    """Returns [(number of tiles, length of a tile)] along one axis, the fewest first."""
    found = [(1, length)]
    while found[-1][1] > 2 * overlap + 32:
        count = found[-1][0] + 1
        tile = math.ceil((length - 2 * overlap) / count) + 2 * overlap
        if tile >= found[-1][1]:
            break
        found.append((count, tile))
    return found


def apply_tiled(function, image, tile, overlap, factor=1, dtype=None, on_pixels=None):
    """Applies a function on image batches to one image, tile by tile.

    Args:
        function: float32 `[1, height, width, C]` in 0-255 -> float32
            `[1, factor * height, factor * width, D]` in 0-255, a tensor or an array.
        image: `[height, width, C]`; uint8, uint16 (65535 is 255.0 to the function) or float.
        tile: largest height and width to process at once, in pixels of `image`, one number or a
            pair; 0 for all.
        overlap: pixels on each inner side of a tile that are computed and thrown away; the result
            equals the untiled one from the function's receptive radius on.
        factor: whole number, size of the output divided by the size of the input.
        dtype: type of the result `[factor * height, factor * width, D]`: uint8 or uint16 (rounded
            and clipped), or float32 (as it comes); `None` is uint16 for a uint16 image, else uint8.
        on_pixels: called after each tile with the number of input pixels that are done with it.

    Raises:
        ValueError: when the tile is not larger than twice the overlap, or the function returns
            another size.
    """
    if dtype is None:
        dtype = np.uint16 if image.dtype == np.uint16 else np.uint8
    output = None
    height, width = tile if isinstance(tile, tuple) else (tile, tile)
    for rows in split(image.shape[0], height, overlap):
        for columns in split(image.shape[1], width, overlap):
            piece = image[rows.start : rows.stop, columns.start : columns.stop]
            result = np.asarray(function(_to_float(piece)[None]))[0]
            expected = (piece.shape[0] * factor, piece.shape[1] * factor)
            if result.shape[:2] != expected:
                raise ValueError(
                    f"The function should return {list(expected)} pixels for {factor} times "
                    f"{list(piece.shape[:2])}. Received: {list(result.shape[:2])}"
                )
            if output is None:
                size = [length * factor for length in image.shape[:2]]
                output = np.empty((*size, result.shape[2]), dtype)
            target = _scaled(rows, 0, factor), _scaled(columns, 0, factor)
            source = _scaled(rows, rows.start, factor), _scaled(columns, columns.start, factor)
            output[target] = from_float(result[source], dtype)
            if on_pixels:
                kept_rows = rows.keep_stop - rows.keep_start
                on_pixels(kept_rows * (columns.keep_stop - columns.keep_start))
    return output


def from_float(values, dtype):
    """Returns float intensities in 0-255 as uint8 or uint16, rounded and clipped, or as float."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return values.astype(dtype)
    maximum = np.iinfo(dtype).max
    # In place, because arrays of large images cost more than what is done with them.
    rounded = np.rint(values if maximum == 255 else values * (maximum / 255))
    return np.clip(rounded, 0, maximum, out=rounded).astype(dtype)


def _to_float(values):
    if values.dtype == np.uint16:
        return values.astype(np.float32) / np.float32(257)
    return values.astype(np.float32)


def _scaled(span, origin, factor):
    return slice((span.keep_start - origin) * factor, (span.keep_stop - origin) * factor)
