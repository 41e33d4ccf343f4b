import io
import os
import stat
import sys

import keras
import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from PIL import Image

import degradations
from degradations import bitstream_worker, bitstreams, codecs

PILLOW_CODECS = ["jpeg_host:30", "jpeg2000:40", "webp:30", "avif:30,speed=10"]
EXTRA_CODECS = [("bpg:46", "av"), ("heif:41", "pillow_heif"), ("jpegxl:20,effort=3", "pillow_jxl")]


def photo(height=40, width=56, channels=3):
    return np.ascontiguousarray(skimage.data.astronaut()[60 : 60 + height, 90 : 90 + width])[
        :, :, :channels
    ]


def batch(count=3, **shape):
    return np.stack([np.roll(photo(**shape), 5 * i, axis=1) for i in range(count)])


def psnr(first, second):
    return 10 * np.log10(255**2 / np.mean((first.astype(float) - second) ** 2))


def layer_of(text, module=None):
    if module:
        pytest.importorskip(module, reason=f"{module} is of the extra codecs")
    return degradations.parse(text)


ALL = [(text, None) for text in PILLOW_CODECS] + EXTRA_CODECS


@pytest.mark.parametrize(("text", "module"), ALL)
def test_pixels_resemble_the_image_and_sizes_are_those_of_the_stream(text, module):
    layer = layer_of(text, module)
    images = batch()
    level = layer.largest(layer.parameters[0])
    decoded, sizes = layer.call_with_bytes(images.astype(np.float32), 1)
    for image, pixels, size in zip(images, np.asarray(decoded), np.asarray(sizes), strict=True):
        assert psnr(image, pixels) > 20
        stream = layer.codec.encode(image, level)
        assert size == len(stream) < image.size
        np.testing.assert_array_equal(layer.codec.decode(stream), pixels)


@pytest.mark.parametrize(("text", "module"), ALL)
def test_eager_equals_dataset_equals_graph_and_xla_is_refused(text, module):
    layer = layer_of(text, module)
    images = tf.constant(batch(2, height=16, width=20).astype(np.float32))
    eager = layer(images, seed=1)
    mapped = tf.data.Dataset.from_tensors(images).repeat(2)
    mapped = mapped.map(lambda x: layer(x, seed=1), num_parallel_calls=2)
    assert mapped.element_spec.shape == images.shape
    for result in mapped:
        np.testing.assert_array_equal(result, eager)
    np.testing.assert_array_equal(tf.function(lambda x: layer(x, seed=1))(images), eager)
    with pytest.raises(RuntimeError, match="runs on the host"):
        tf.function(lambda x: layer(x, seed=1), jit_compile=True)(images)


@pytest.mark.parametrize(("text", "module"), ALL)
def test_every_size_and_grey(text, module):
    layer = layer_of(text, module)
    for height, width, channels in ((1, 1, 3), (1, 9, 3), (7, 2, 1), (33, 17, 1), (17, 35, 3)):
        images = batch(1, height=height, width=width, channels=channels).astype(np.float32)
        decoded, sizes = layer.call_with_bytes(images, 0)
        assert decoded.shape == images.shape
        assert sizes[0] > 0
        # One mean colour survives every codec.
        assert abs(np.mean(decoded) - np.mean(images)) < 25


@pytest.mark.parametrize(("text", "module"), ALL)
def test_configuration_round_trip(text, module):
    layer = layer_of(text, module)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert copy.get_config() == layer.get_config()
    assert copy.codec_name == layer.codec_name


@pytest.mark.parametrize("subsampling", ["444", "422", "420", "400"])
def test_jpeg_files_are_those_of_pillow(subsampling):
    for optimize in (False, True):
        codec = bitstreams.Jpeg(subsampling, optimize=optimize)
        for quality, shape in ((1, (9, 17)), (37, (40, 56)), (95, (33, 20)), (100, (8, 8))):
            image = photo(*shape)
            picture = Image.fromarray(image)
            options = {"quality": quality, "optimize": optimize}
            if subsampling == "400":
                picture = picture.convert("L")
            else:
                options["subsampling"] = ":".join(subsampling)
            file = io.BytesIO()
            picture.save(file, "JPEG", **options)
            data = codec.encode(image, quality)
            assert data == file.getvalue()
            expected = np.asarray(Image.open(file).convert("RGB"))
            np.testing.assert_array_equal(codec.round_trip(image, quality)[0], expected)


def test_jpeg_2000_is_that_of_pillow_in_both_modes():
    for mode, level in (("rates", 30), ("dB", 28)):
        file = io.BytesIO()
        Image.fromarray(photo()).save(file, "JPEG2000", quality_mode=mode, quality_layers=[level])
        for in_processes in (True, False):
            codec = bitstreams.Jpeg2000(mode, in_processes=in_processes)
            assert codec.encode(photo(), level) == file.getvalue()


def test_more_loss_gives_fewer_bytes():
    for codec, better, worse in (
        (bitstreams.Jpeg2000(), 10, 60),
        (bitstreams.Webp(), 80, 5),
        (bitstreams.Avif(speed=10), 80, 20),
    ):
        assert len(codec.encode(photo(), worse)) < len(codec.encode(photo(), better))


def test_undegraded_images_count_no_bytes():
    images = batch(24, height=8, width=8).astype(np.float32)
    layer = degradations.parse("webp:10,p=0.5")
    pixels, sizes = (np.asarray(part) for part in layer.call_with_bytes(images, 3))
    np.testing.assert_array_equal(sizes == 0, np.all(pixels == images, axis=(1, 2, 3)))
    assert 0 < np.count_nonzero(sizes) < 24


def test_levels_are_drawn_per_image():
    images = np.repeat(batch(1), 6, axis=0).astype(np.float32)
    sizes = degradations.parse("jpeg_host:5-95").call_with_bytes(images, 1)[1]
    assert len(np.unique(sizes)) > 3


@pytest.mark.parametrize(
    "text",
    ["jpeg:10-90,p=0.5", "jpeg:99-101", "jpeg@0-5:step=1", "webp:10-90,p=0.5", "jpeg_host:7"],
)
def test_the_level_of_a_single_image_is_the_one_that_is_drawn_for_it(text):
    layer, image = degradations.parse(text), photo()
    levels = []
    for seed in range(12):
        levels.append(layer.draw_level(np.array([seed, 7], np.int32)))
        decoded, sizes = layer.call_with_bytes(np.float32(image[None]), [seed, 7])
        if levels[-1] is None:
            np.testing.assert_array_equal(decoded[0], image)
            assert sizes[0] == 0
        else:
            stream = layer.codec.encode(image, levels[-1])
            assert sizes[0] == len(stream)
            np.testing.assert_array_equal(layer.codec.decode(stream), decoded[0])
    fixed = text == "jpeg_host:7"
    assert (len(set(levels)) == 1) == fixed
    assert (None in levels) != fixed


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(
        bitstreams.importlib, "import_module", lambda name: __import__(f"missing_{name}")
    )
    for codec in (bitstreams.Heif, bitstreams.Jpegxl, lambda: bitstreams.Bpg("libx265")):
        with pytest.raises(ImportError, match="extra 'codecs'"):
            codec()


# Stand in for the real programs: they note their options and store a PNG.
BPGENC = """#!/usr/bin/env python3
import pathlib, shutil, sys
pathlib.Path({log!r}).write_text(" ".join(sys.argv[1:-3]))
shutil.copy(sys.argv[-1], sys.argv[-2])
"""
BPGDEC = """#!{python}
import sys
from PIL import Image
Image.open(sys.argv[-1], formats=["PNG"]).save(sys.argv[-2])
"""


def test_bpg_programs_are_used_when_they_are_on_the_path(tmp_path, monkeypatch):
    log = tmp_path / "options"
    for name, text in (
        ("bpgenc", BPGENC.format(log=str(log))),
        ("bpgdec", BPGDEC.format(python=sys.executable)),
    ):
        program = tmp_path / name
        program.write_text(text)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    codec = bitstreams.Bpg()
    assert codec.codec_name == "BPG (bpgenc)"
    decoded, size = codec.round_trip(photo(), 41)
    np.testing.assert_array_equal(decoded, photo())
    assert size > 0
    assert log.read_text() == "-q 41 -f 420 -m 9 -b 8 -c ycbcr"


def test_without_the_programs_the_stand_in_is_named(monkeypatch):
    pytest.importorskip("av", reason="av is of the extra codecs")
    monkeypatch.setattr(bitstreams.shutil, "which", lambda name: None)
    assert "HEVC" in bitstreams.Bpg().codec_name
    with pytest.raises(ValueError, match="bpgenc and bpgdec on the PATH"):
        bitstreams.Bpg("bpgenc")


def test_the_stand_in_stores_bpg_files():
    pytest.importorskip("av", reason="av is of the extra codecs")
    data = bitstreams.Bpg("libx265").encode(photo(64, 300), 51)
    # BPG specification 0.9.5, section 3.1: 4:2:0 of 8 bits, 300x64, data up to the end of the file.
    header = b"BPG\xfb\x20\x00" + b"\x82\x2c" + b"\x40" + b"\x00"
    assert data.startswith(header)
    # Coding blocks of 8 to 64 pixels, transforms of 4 to 32, 3 deep; sample adaptive offsets, no
    # pulse codes, strong smoothing, no extension, padding.
    length = data[len(header)]
    fields = data[len(header) + 1 : len(header) + 1 + length]
    assert f"{int.from_bytes(fields, 'big'):024b}" == "1 00100 1 00100 00100 1 0 1 0 000".replace(
        " ", ""
    )
    # A picture parameter set, and the slice: no parameter sets of video and sequence.
    units = data[len(header) + 1 + length :].split(b"\0\0\1")
    assert [unit[0] >> 1 & 63 for unit in units] == [34, 20]


def test_a_worker_passes_errors_on_and_is_replaced_when_it_dies():
    with pytest.raises(ZeroDivisionError):
        bitstream_worker.call(divmod, 1, 0)
    with pytest.raises(RuntimeError, match="died"):
        bitstream_worker.call(os._exit, 3)
    assert bitstream_worker.call(divmod, 7, 2) == (3, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("webp:101", "from 0 to 100"),
        ("jpeg2000:0", "from 1 to 10000"),
        ("jpeg2000:10,mode=bits", "mode must be one of rates, dB"),
        ("webp:10,method=9", "method must be one of"),
        ("avif:10,subsampling=400", "subsampling must be one of 444, 422, 420"),
        ("jpeg_host:10,optimize=3", "optimize must be True or False"),
        ("webp@3", "no severities"),
    ],
)
def test_bad_arguments(text, message):
    with pytest.raises(ValueError, match=message):
        degradations.parse(text)


def test_bad_levels_and_bad_streams():
    with pytest.raises(ValueError, match="must be a whole number from 1 to 100"):
        bitstreams.Jpeg().encode(photo(), 10.5)
    with pytest.raises(ValueError, match="not a JPEG file"):
        bitstreams.Jpeg().decode(b"nothing")


def test_where_host_code_can_run():
    seen = {}

    def look(name):
        def function(x):
            seen[name] = codecs.is_on_host(x), codecs.is_in_dataset()
            return x

        return function

    look("eager")(tf.constant(1))
    tf.function(look("graph"))(1)
    tf.function(look("compiled"), jit_compile=True)(1)
    tf.data.Dataset.range(1).map(look("dataset"))
    assert seen == {
        "eager": (True, False),
        "graph": (True, False),
        "compiled": (False, False),
        "dataset": (True, True),
    }
