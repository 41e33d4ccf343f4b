"""Image files: what is kept, what is turned, and what is said about broken ones."""

import cv2
import numpy as np
import PIL.Image
import PIL.ImageCms
import PIL.ImageOps
import pytest

from misc.images import files, image_files
from tests import forks

ALPHA_FORMATS = (".png", ".webp", ".tif")


def random_pixels(shape, dtype=np.uint8, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("extension", [".png", ".tif", ".TIFF"])
@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize("with_alpha", [True, False])
def test_lossless_round_trip(tmp_path, dtype, extension, grey, with_alpha):
    pixels = random_pixels((300, 7) if grey else (300, 7, 3), dtype)
    alpha = random_pixels((300, 7), dtype, seed=1) if with_alpha else None
    path = tmp_path / f"new/image{extension}"
    image_files.write_image(path, pixels, alpha)
    image = image_files.read_image(path)
    assert image.pixels.dtype == dtype
    assert image.maximum == np.iinfo(dtype).max
    expected = np.repeat(pixels[..., None], 3, axis=2) if grey else pixels
    np.testing.assert_array_equal(image.pixels, expected)
    if with_alpha:
        np.testing.assert_array_equal(image.alpha, alpha)
    else:
        assert image.alpha is None
    if not (grey and with_alpha and dtype == np.uint16 and extension != ".png"):
        assert image.grey == grey


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_png_equals_opencv(tmp_path, channels):
    pixels = random_pixels((9, 5, channels), np.uint16)
    alpha = pixels[..., 3] if channels == 4 else None
    image_files.write_image(
        tmp_path / "image.png", pixels[..., :3] if channels > 1 else pixels[..., 0], alpha
    )
    read = cv2.imread(str(tmp_path / "image.png"), cv2.IMREAD_UNCHANGED)
    order = [2, 1, 0, 3][:channels] if channels > 1 else [0]
    np.testing.assert_array_equal(read.reshape(9, 5, channels), pixels[..., order])


@pytest.mark.parametrize("extension", [".jpg", ".webp", ".bmp", ".png", ".tif"])
def test_8_bit_formats_read_like_pillow(tmp_path, extension):
    gradient = np.linspace(0, 255, 16 * 24 * 3).reshape(16, 24, 3).astype(np.uint8)
    path = tmp_path / f"image{extension}"
    image_files.write_image(path, gradient)
    expected = np.asarray(PIL.Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(image_files.read_image(path).pixels, expected)
    np.testing.assert_array_equal(image_files.read_rgb(path), expected)
    assert np.abs(expected.astype(int) - gradient).max() < 12
    assert image_files.image_size(path) == (16, 24)


def test_grey_jpeg_and_bmp_stay_grey(tmp_path):
    for extension in (".jpg", ".bmp"):
        path = tmp_path / f"image{extension}"
        image_files.write_image(path, random_pixels((6, 4)))
        assert image_files.read_image(path).grey


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("shape", [(8, 16), (8, 16, 3)])
def test_exif_orientation(tmp_path, orientation, extension, shape):
    stored = PIL.Image.fromarray(random_pixels(shape))
    exif = PIL.Image.Exif()
    exif[image_files.ORIENTATION_TAG] = orientation
    path = tmp_path / f"image{extension}"
    stored.save(path, exif=exif)
    reference = tmp_path / ("image.jpg" if extension == ".jpg" else "reference.png")
    if extension != ".jpg":
        stored.save(reference, exif=exif)
    upright = PIL.ImageOps.exif_transpose(PIL.Image.open(reference))
    expected = np.asarray(upright.convert("RGB"))
    np.testing.assert_array_equal(image_files.read_image(path).pixels, expected)
    np.testing.assert_array_equal(image_files.read_rgb(path), expected)
    assert image_files.image_size(path) == expected.shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_16_bit_tiff(tmp_path, orientation):
    stored = random_pixels((8, 16), np.uint16)
    exif = PIL.Image.Exif()
    exif[image_files.ORIENTATION_TAG] = orientation
    path = tmp_path / "image.tif"
    PIL.Image.fromarray(stored).save(path, exif=exif)
    PIL.Image.fromarray(stored).save(tmp_path / "image.png", exif=exif)
    expected = np.asarray(PIL.ImageOps.exif_transpose(PIL.Image.open(tmp_path / "image.png")))
    np.testing.assert_array_equal(image_files.read_image(path).pixels[..., 0], expected)
    assert image_files.image_size(path) == expected.shape


def test_exif_after_the_pixels_of_a_png(tmp_path):
    exif = PIL.Image.Exif()
    exif[image_files.ORIENTATION_TAG] = 6
    path = tmp_path / "image.png"
    PIL.Image.fromarray(random_pixels((8, 16, 3))).save(path, exif=exif)
    data = path.read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    trailer = data.index(b"IEND") - 4
    path.write_bytes(data[:start] + data[end:trailer] + data[start:end] + data[trailer:])
    assert image_files.image_size(path) == (16, 8)
    assert image_files.read_rgb(path).shape == (16, 8, 3)


def test_palette_transparency_and_odd_modes(tmp_path):
    rgba = np.dstack([random_pixels((6, 5, 3)), np.full((6, 5), 255, np.uint8)])
    rgba[:3, ..., 3] = 0
    palette = PIL.Image.fromarray(rgba).quantize(16)
    palette.save(tmp_path / "palette.png")
    image = image_files.read_image(tmp_path / "palette.png")
    assert not image.grey
    np.testing.assert_array_equal(image.alpha[:3], 0)
    np.testing.assert_array_equal(image.alpha[3:], 255)

    PIL.Image.fromarray(rgba[..., :3]).convert("CMYK").save(tmp_path / "cmyk.tif")
    assert image_files.read_image(tmp_path / "cmyk.tif").pixels.shape == (6, 5, 3)

    black_and_white = rgba[..., 3] > 0
    PIL.Image.fromarray(black_and_white).save(tmp_path / "bilevel.png")
    image = image_files.read_image(tmp_path / "bilevel.png")
    assert image.grey
    np.testing.assert_array_equal(image.pixels[..., 0], black_and_white * 255)


@pytest.mark.parametrize("extension", [".png", ".jpg", ".webp", ".tif"])
def test_icc_profile_is_kept(tmp_path, extension):
    profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / f"image{extension}"
    image_files.write_image(path, random_pixels((4, 4, 3)), icc_profile=profile)
    assert image_files.read_image(path).icc_profile == profile


def test_icc_profile_is_kept_in_16_bit_png(tmp_path):
    profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / "image.png"
    image_files.write_image(path, random_pixels((4, 4, 3), np.uint16), icc_profile=profile)
    assert image_files.read_image(path).icc_profile == profile


def test_read_rgb_rounds_16_bits(tmp_path):
    values = np.array([[0, 128, 129, 257, 65406, 65407, 65535]], np.uint16)
    image_files.write_image(tmp_path / "image.png", values)
    expected = np.round(values / 257)
    np.testing.assert_array_equal(image_files.read_rgb(tmp_path / "image.png")[..., 1], expected)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("extension", [".png", ".jpg", ".webp", ".tif", ".bmp"])
@pytest.mark.parametrize("read", [image_files.read_image, image_files.read_rgb])
def test_truncated_files_are_named(tmp_path, extension, read):
    path = tmp_path / f"image{extension}"
    image_files.write_image(path, random_pixels((40, 40, 3)))
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(ValueError, match=f"image{extension}"):
        read(path)


@pytest.mark.parametrize("read", [image_files.read_image, image_files.read_rgb])
def test_truncated_16_bit_files_are_named(tmp_path, read):
    path = tmp_path / "image.png"
    image_files.write_image(path, random_pixels((40, 40, 3), np.uint16))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r"image\.png"):
        read(path)


@pytest.mark.parametrize(
    "read", [image_files.read_image, image_files.read_rgb, image_files.image_size]
)
def test_what_is_no_image_is_named(tmp_path, read):
    path = tmp_path / "text.png"
    path.write_text("not an image")
    with pytest.raises(ValueError, match=r"text\.png: not an image"):
        read(path)
    with pytest.raises(ValueError, match=r"missing\.png: no such file"):
        read(tmp_path / "missing.png")
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"text\.png"):
        read(path)


def test_32_bit_files_are_refused(tmp_path):
    PIL.Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ValueError, match=r"float\.tif: 32 bits"):
        image_files.read_image(tmp_path / "float.tif")


def test_formats_that_cannot_hold_the_image(tmp_path):
    pixels = random_pixels((4, 4, 3))
    with pytest.raises(ValueError, match="alpha"):
        image_files.write_image(tmp_path / "a.jpg", pixels, pixels[..., 0])
    with pytest.raises(ValueError, match="16 bits"):
        image_files.write_image(tmp_path / "a.webp", pixels.astype(np.uint16))
    with pytest.raises(ValueError, match="extension"):
        image_files.write_image(tmp_path / "a.gif", pixels)
    with pytest.raises(ValueError, match="float64"):
        image_files.write_image(tmp_path / "a.png", pixels / 2)
    with pytest.raises(ValueError, match="alpha of the pixels"):
        image_files.write_image(tmp_path / "a.png", pixels, pixels[:2, :, 0])
    with pytest.raises(ValueError, match=r"a\.webp"):
        image_files.write_image(tmp_path / "a.webp", np.zeros((1, 20000, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_find_images(tmp_path):
    for name in (
        "b.PNG",
        "a/c.jpeg",
        "a/notes.txt",
        ".hidden.png",
        "a/.b.png.x.tmp/b.png",
        "a.Tif",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = [path.relative_to(tmp_path).as_posix() for path in image_files.find_images(tmp_path)]
    assert found == ["a/c.jpeg", "a.Tif", "b.PNG"]
    with pytest.raises(ValueError, match="missing"):
        image_files.find_images(tmp_path / "missing")


@pytest.mark.parametrize("extension", image_files.EXTENSIONS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_full_disk_is_no_broken_image(tmp_path, extension, dtype, capfd):
    if dtype == np.uint16 and extension not in (".png", ".tif", ".tiff"):
        return
    path = tmp_path / f"a{extension}"
    with forks.full_disk(5000), pytest.raises(files.DiskFullError, match=f"{path} cannot be"):
        image_files.write_image(path, random_pixels((80, 90, 3), dtype))
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_links_that_lead_nowhere_are_left_to_be_named_as_broken(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    image_files.write_image(tmp_path / "a.png", random_pixels((4, 5)))
    expected = [tmp_path / "a.png", tmp_path / "loop.png"]
    for output in (tmp_path / "results", tmp_path / "loop.png"):
        assert image_files.find_inputs(tmp_path, output, apart=True) == (expected, tmp_path)
    with pytest.raises(ValueError, match=r"loop\.png: no such file"):
        image_files.read_rgb(tmp_path / "loop.png")
    with pytest.raises(ValueError, match=r"image file or a folder. Received: .*loop\.png"):
        image_files.find_inputs(tmp_path / "loop.png", tmp_path / "results")


def test_results_replace_no_input(tmp_path):
    photo, stored = tmp_path / "photos" / "a.png", tmp_path / "stored" / "a.png"
    image_files.write_image(stored, random_pixels((4, 5)))
    photo.parent.mkdir()
    photo.symlink_to(stored)
    (tmp_path / "other").symlink_to(tmp_path / "photos")
    image_files.check_targets([(photo, tmp_path / "results" / "a.png")])
    for target in (photo, stored, tmp_path / "other" / "a.png"):
        with pytest.raises(ValueError, match=f"{target} would replace an input: give another"):
            image_files.check_targets([(photo, target)])
    with pytest.raises(ValueError, match="would both become"):
        image_files.check_targets([(photo, tmp_path / "x"), (stored, tmp_path / "x")])
