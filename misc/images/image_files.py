"""Image files to pixels and back, keeping grey, alpha and 16 bits.

`read_image` keeps what the file has, `read_rgb` gives what a network is trained on: 8-bit RGB.
Both turn the picture the way that its EXIF orientation says.
"""

import contextlib
import dataclasses
import functools
import io
import os
import pathlib
import struct
import zlib

import cv2
import numpy as np
import PIL.Image

from misc.images import files, png16

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
LOSSY_QUALITY = 95
ORIENTATION_TAG = 0x0112
TIFF_BITS_PER_SAMPLE = 258
# EXIF 2.32, tag 0x0112: number of quarter turns counter-clockwise, then whether to mirror
# left-right, that bring the stored pixels upright.
UPRIGHT = {
    1: (0, False),
    2: (0, True),
    3: (2, False),
    4: (2, True),
    5: (3, True),
    6: (3, False),
    7: (1, True),
    8: (1, False),
}
GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N")
UNSUPPORTED_MODES = ("I", "F")


@dataclasses.dataclass(frozen=True)
class Image:
    """Pixels of one file and what has to be kept beside them.

    Attributes:
        pixels: uint8 or uint16 RGB `[height, width, 3]`; grey is replicated.
        grey: whether the file has one intensity per pixel.
        alpha: `None`, or opacity `[height, width]` of the same type as `pixels`.
        icc_profile: bytes of the colour profile that `pixels` are in, or `None`.
    """

    pixels: np.ndarray
    grey: bool = False
    alpha: np.ndarray | None = None
    icc_profile: bytes | None = None

    @property
    def maximum(self):
        """Largest value of a pixel: 255 or 65535."""
        return np.iinfo(self.pixels.dtype).max


def find_images(folder):
    """Returns the sorted paths of all image files under `folder`; hidden ones are left out.

    Raises:
        ValueError: when `folder` is no folder.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise ValueError(f"Images are searched for in a folder. Received: {folder}")
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            pathlib.Path(parent, name)
            for name in names
            if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
        ]
    return sorted(found)


def find_inputs(input_path, output_path, apart=False):
    """Returns the list of images that --input_path names, and the folder that they are in.

    Args:
        input_path: image file, or folder that is searched with its subfolders.
        output_path: folder for results, which is not searched.
        apart: whether that must be another folder.

    Raises:
        ValueError: when there are no images, or the results would lie among them.
    """
    source = pathlib.Path(input_path)
    if source.is_file():
        return [source], source.parent
    if not source.is_dir():
        raise ValueError(f"--input_path is an image file or a folder. Received: {input_path}")
    if apart and os.path.realpath(source) == os.path.realpath(output_path):
        raise ValueError(f"--output_path must be another folder than --input_path={input_path}")
    found = find_images(source)
    if lies_within(output_path, source):
        # Results of an earlier run below the input folder are no input.
        found = [path for path in found if not lies_within(path, output_path)]
    if not found:
        raise ValueError(f"--input_path={input_path} holds no images ({', '.join(EXTENSIONS)})")
    return found, source


def lies_within(path, folder):
    """Returns whether a path leads into a folder, or below it, but not to the folder itself."""
    # `pathlib` raises where a symbolic link leads to itself.
    path, folder = (pathlib.Path(os.path.realpath(one)) for one in (path, folder))
    return folder in path.parents


def check_targets(pairs, remedy="give another --output_path."):
    """Raises ValueError where a result would replace another one, or an input.

    Args:
        pairs: list of (source, target): image files, and those that are made of them.
        remedy: what the messages end with.
    """
    real_folder = functools.cache(os.path.realpath)  # there are many files in each

    def place(path):
        return os.path.join(real_folder(path.parent), path.name)

    inputs, sources = set(), {}
    for source in {source for source, _ in pairs}:
        inputs |= {place(source), os.path.realpath(source)}
    for source, target in pairs:
        before = sources.setdefault(place(target), source)
        if before is not source:
            raise ValueError(f"{before} and {source} would both become {target}: {remedy}")
        if place(target) in inputs:
            raise ValueError(f"The result {target} would replace an input: {remedy}")


def image_size(path):
    """Returns (height, width) as `read_rgb` gives them, from the file's header alone.

    Raises:
        ValueError: when the file is missing or no image; the message names it.
    """
    with _naming(path), _open(path) as image:
        width, height = image.size
        turns, _ = UPRIGHT[_orientation(image)]
        return (width, height) if turns % 2 else (height, width)


def read_rgb(path, upright=True):
    """Returns uint8 RGB `[height, width, 3]`: grey is replicated, alpha left out, 16 bits rounded.

    Args:
        path: image file.
        upright: whether to turn 8-bit images as their EXIF orientation says.

    Raises:
        ValueError: when the file is missing, broken or no image; the message names it.
    """
    return np.asarray(read_picture(path, upright))


def read_picture(path, upright=True):
    """Returns what `read_rgb` does as a picture of Pillow, to be resized or cut without a copy."""
    with _naming(path), _open(path) as image:
        _check_mode(image)
        if _has_16_bits(image):
            pixels = _load_16_bits(image, path).pixels
            pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
            return PIL.Image.fromarray(pixels)
        orientation = _orientation(image) if upright else 1
        image.load()
        picture = image if image.mode == "RGB" else image.convert("RGB")
        if orientation == 1:
            return picture
        return PIL.Image.fromarray(_upright(np.asarray(picture), orientation))


def read_image(path):
    """Returns the `Image` in a PNG, JPEG, WebP, TIFF or BMP file (the first one of several).

    Palettes are resolved; CMYK, YCbCr and other colour spaces become RGB without their profile.

    Raises:
        ValueError: when the file is missing, broken, no image, or has 32 bits per pixel; the
            message names it.
    """
    with _naming(path), _open(path) as image:
        _check_mode(image)
        if _has_16_bits(image):
            return _load_16_bits(image, path)
        orientation = _orientation(image)
        grey = image.mode in GREY_MODES
        keeps_colours = grey or image.mode in ("RGB", "RGBA", "P", "PA")
        profile = image.info.get("icc_profile") if keeps_colours else None
        image.load()
        alpha = None
        if image.has_transparency_data:
            image = image.convert("RGBA")
            alpha = _upright(np.asarray(image.getchannel("A")), orientation)
        pixels = _upright(np.asarray(image.convert("RGB")), orientation)
        return Image(pixels, grey, alpha, profile)


def write_image(path, pixels, alpha=None, icc_profile=None):
    """Writes an image file atomically, in the format of the path's extension.

    JPEG and WebP are written with quality 95 (JPEG without colour subsampling).

    Args:
        path: file to write; its folders are made.
        pixels: uint8 or uint16, `[height, width]` for grey or `[height, width, 3]` for RGB.
        alpha: `None`, or opacity `[height, width]` of the same type.
        icc_profile: bytes of a colour profile, or `None`; 16-bit TIFF files drop it.

    Raises:
        ValueError: for other shapes and types, an unknown extension, or a format that cannot hold
            the alpha channel, the 16 bits or the size; the message names the file.
    """
    path = pathlib.Path(path)
    extension = path.suffix.lower()
    _check_writable(path, extension, pixels, alpha)
    with files.write_atomically(path) as temporary:
        if pixels.dtype == np.uint16 and extension == ".png":
            png16.write(temporary, pixels, alpha, icc_profile)
        elif pixels.dtype == np.uint16:
            _write_16_bit_tiff(temporary, pixels, alpha)
        else:
            _write_8_bits(path, temporary, extension, pixels, alpha, icc_profile)


@contextlib.contextmanager
def _naming(path):
    """Turns whatever a decoder raises into a ValueError that names the file."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        # Pillow's readers raise SyntaxError, EOFError, struct.error and others on broken files.
        raise ValueError(f"Cannot read the image {path}: {error}") from error


@contextlib.contextmanager
def _open(path):
    if not os.path.isfile(path):
        raise FileNotFoundError("no such file")
    # Given a path, Pillow 12 and 13 map uncompressed files into memory and scramble turned TIFFs.
    with open(path, "rb") as file:
        try:
            image = PIL.Image.open(file)
        except PIL.UnidentifiedImageError as error:
            raise ValueError("not an image file, or broken at its start") from error
        yield image


def _check_mode(image):
    if image.mode in UNSUPPORTED_MODES:
        raise ValueError(f"32 bits per pixel are not supported, only 8 and 16 (mode {image.mode})")


def _has_16_bits(image):
    if image.mode.startswith("I;16"):
        return True
    if image.format == "TIFF":
        return max(image.tag_v2.get(TIFF_BITS_PER_SAMPLE, (8,))) == 16
    return image.format == "PNG" and ";16" in _png_raw_mode(image)


def _png_raw_mode(image):
    return str(image.tile[0].args) if image.tile else ""


def _load_16_bits(image, path):
    grey = image.mode in GREY_MODES or _png_raw_mode(image).startswith("LA")
    orientation = _orientation(image)
    profile = image.info.get("icc_profile")
    # Pillow would cut colours to 8 bits; OpenCV keeps 16, as BGR.
    encoded = np.fromfile(path, np.uint8)
    if image.format == "TIFF":
        orientation = _remove_tiff_orientation(encoded)
    pixels = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise ValueError("broken or unsupported 16-bit file")
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    alpha = pixels[..., 3] if pixels.shape[2] == 4 else None
    pixels = pixels[..., 2::-1] if pixels.shape[2] >= 3 else np.repeat(pixels, 3, axis=2)
    alpha = None if alpha is None else _upright(alpha, orientation)
    return Image(_upright(pixels, orientation), grey, alpha, profile)


def _remove_tiff_orientation(encoded):
    """Sets the orientation tag of a TIFF file's first image to 1 and returns what it was.

    OpenCV turns and mirrors some of the eight orientations and fails on the others.
    """
    order = "<" if bytes(encoded[:2]) == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", encoded, 4)
    (entries,) = struct.unpack_from(order + "H", encoded, start)
    for position in range(start + 2, start + 2 + 12 * entries, 12):
        (tag,) = struct.unpack_from(order + "H", encoded, position)
        if tag == ORIENTATION_TAG:
            (orientation,) = struct.unpack_from(order + "H", encoded, position + 8)
            struct.pack_into(order + "H", encoded, position + 8, 1)
            return orientation if orientation in UPRIGHT else 1
    return 1


def _orientation(image):
    if image.format == "TIFF":
        return 1  # Pillow turns TIFF images itself, sizes included.
    if image.format == "PNG":
        # Pillow would decode all pixels to look for a late eXIf chunk; only headers are needed.
        exif = image.info.get("exif") or _late_png_exif(image.fp)
        tags = PIL.Image.Exif()
        if exif:
            tags.load(exif)
    else:
        tags = image.getexif()
    orientation = tags.get(ORIENTATION_TAG, 1)
    return orientation if orientation in UPRIGHT else 1


def _late_png_exif(file):
    """Returns the content of a PNG's eXIf chunk, wherever it is, or `None`."""
    position = file.tell()
    try:
        file.seek(8)
        while len(header := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", header)
            if name == b"eXIf":
                return b"Exif\x00\x00" + file.read(length)
            file.seek(length + 4, io.SEEK_CUR)
        return None
    finally:
        file.seek(position)


def _upright(pixels, orientation):
    turns, mirror = UPRIGHT[orientation]
    pixels = np.rot90(pixels, turns)
    return np.ascontiguousarray(pixels[:, ::-1] if mirror else pixels)


def _check_writable(path, extension, pixels, alpha):
    if extension not in EXTENSIONS:
        raise ValueError(
            f"The extension of {path} names no format that can be written. "
            f"Allowed: {', '.join(EXTENSIONS)}"
        )
    right_shape = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if not right_shape or pixels.dtype not in (np.uint8, np.uint16) or not pixels.size:
        raise ValueError(
            f"{path} takes uint8 or uint16 pixels [height, width] or [height, width, 3]. "
            f"Received: {pixels.dtype} {list(pixels.shape)}"
        )
    if alpha is not None and (alpha.dtype != pixels.dtype or alpha.shape != pixels.shape[:2]):
        raise ValueError(
            f"{path} takes alpha of the pixels' type and size. Received: {alpha.dtype} "
            f"{list(alpha.shape)} for {pixels.dtype} {list(pixels.shape)}"
        )
    if pixels.dtype == np.uint16 and extension not in (".png", ".tif", ".tiff"):
        raise ValueError(f"{path} cannot hold 16 bits per value: PNG and TIFF can")
    if alpha is not None and extension in (".jpg", ".jpeg", ".bmp"):
        raise ValueError(f"{path} cannot hold an alpha channel: PNG, TIFF and WebP can")


def _write_16_bit_tiff(temporary, pixels, alpha):
    if alpha is not None:
        # OpenCV has no grey with alpha.
        colours = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
        pixels = np.dstack([colours, alpha])
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    encoded, data = cv2.imencode(".tif", pixels)
    if not encoded:
        raise ValueError(f"Cannot write a 16-bit TIFF of shape {list(pixels.shape)}")
    temporary.write_bytes(data.tobytes())


def _write_8_bits(path, temporary, extension, pixels, alpha, icc_profile):
    image = PIL.Image.fromarray(pixels)
    if alpha is not None:
        image.putalpha(PIL.Image.fromarray(alpha))
    options = {"icc_profile": icc_profile} if icc_profile else {}
    if extension in (".jpg", ".jpeg"):
        options |= {"quality": LOSSY_QUALITY, "subsampling": 0}
    elif extension == ".webp":
        options |= {"quality": LOSSY_QUALITY}
    elif extension in (".tif", ".tiff"):
        options |= {"compression": "tiff_lzw"}
    elif extension == ".png":
        # Of photos the same size as with Pillow's own settings, in a quarter of the time.
        options |= {"compress_level": 1, "compress_type": zlib.Z_RLE}
    # Given a path, Pillow does not notice that the disk took a part alone.
    content = io.BytesIO()
    try:
        image.save(content, PIL.Image.registered_extensions()[extension], **options)
    except (OSError, ValueError) as error:
        raise ValueError(f"Cannot write {path}: {error}") from error
    temporary.write_bytes(content.getbuffer())
