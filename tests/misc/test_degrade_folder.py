"""Degraded copies of a small tree: contents, layouts, resuming, statistics, the sheet."""

import csv
import io
import json
import os

import numpy as np
import PIL.Image
import pytest
import skimage.data

import degradations
from misc import degrade_folder
from misc.images import degraded_copies, files, image_files, locks, resizing
from misc.images.degraded_copies import create_variants
from misc.reports import contact_sheet
from tests import commands, forks


@pytest.fixture
def tree(tmp_path):
    """Three images of different sizes in two classes."""
    photo = skimage.data.astronaut()
    folder = tmp_path / "input"
    image_files.write_image(folder / "cat" / "a.png", photo[100:124, 200:232])
    image_files.write_image(folder / "cat" / "b.png", photo[50:70, 150:170])
    image_files.write_image(folder / "dog" / "a.png", photo[60:81, 200:217])
    return folder


def read_tree(folder):
    return {
        str(path.relative_to(folder)): image_files.read_rgb(path)
        for path in image_files.find_images(folder)
    }


def assert_same_trees(first, second):
    assert first.keys() == second.keys()
    for name, image in first.items():
        np.testing.assert_array_equal(image, second[name])


def test_copies_are_laid_out_as_imagenet_c_and_are_what_the_layer_gives(tree, tmp_path):
    output = tmp_path / "out"
    variants = create_variants(["sparkles", "darken@3"], [1, 2.5])
    counts = degrade_folder.degrade_folder(tree, output, variants)
    assert counts == {"written": 9, "present": 0, "broken": []}
    stored = read_tree(output)
    names = ("cat/a.png", "cat/b.png", "dog/a.png")
    folders = ("sparkles/1", "sparkles/2.5", "darken/3")
    assert set(stored) == {f"{folder}/{name}" for folder in folders for name in names}
    for name in names:
        source = image_files.read_rgb(tree / name)
        seed = degraded_copies.make_seed(0, name, "sparkles@2.5")
        layer = degradations.parse("sparkles@2.5")
        expected = np.asarray(layer(source[None].astype("float32"), seed=seed))[0]
        difference = np.abs(stored[f"sparkles/2.5/{name}"] - expected)
        assert difference.max() <= 1
        assert np.mean(difference > 0) < 0.01
        np.testing.assert_array_equal(stored[f"darken/3/{name}"], np.floor(source / 4 + 0.5))


def test_results_depend_neither_on_order_nor_on_workers(tree, tmp_path):
    variants = create_variants(["brownish_noise"], [3])
    degrade_folder.degrade_folder(tree, tmp_path / "one", variants, workers=1)
    # The same images, alone and with others around, by more workers.
    image_files.write_image(tree / "ant" / "x.png", np.zeros((5, 7, 3), np.uint8))
    degrade_folder.degrade_folder(tree, tmp_path / "four", variants, workers=4)
    one, four = read_tree(tmp_path / "one"), read_tree(tmp_path / "four")
    four.pop("brownish_noise/3/ant/x.png")
    assert_same_trees(one, four)
    degrade_folder.degrade_folder(tree, tmp_path / "seed", variants, seed=1)
    other = read_tree(tmp_path / "seed")
    assert all((image != other[name]).any() for name, image in one.items())


def test_a_stopped_run_goes_on_and_ends_with_the_same_files(tree, tmp_path, monkeypatch):
    variants = create_variants(["sparkles", "white"], [2])
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    degrade_folder.degrade_folder(tree, whole, variants)
    encode, calls = degraded_copies.encode, []

    def encode_thrice(*arguments):
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return encode(*arguments)

    monkeypatch.setattr(degraded_copies, "encode", encode_thrice)
    with pytest.raises(KeyboardInterrupt):
        degrade_folder.degrade_folder(tree, stopped, variants, workers=1)
    monkeypatch.undo()
    kept = read_tree(stopped)
    assert len(kept) == 3
    assert not list(stopped.rglob("*.tmp"))
    # As killed runs leave them: a record without its image, and half a line.
    victim = sorted(stopped.rglob("*.png"))[0]
    holder = victim.with_name(".degraded-vision.x1y2z3ab.tmp")
    holder.mkdir()
    victim.rename(holder / victim.name)
    with open(stopped / ".degrade_folder" / "records.jsonl", "a") as file:
        file.write('\n{"path": "whi')
    counts = degrade_folder.degrade_folder(tree, stopped, variants)
    assert counts == {"written": 4, "present": 2, "broken": []}
    assert not holder.exists()
    assert_same_trees(read_tree(whole), read_tree(stopped))
    statistics = [
        json.loads((folder / "statistics.json").read_text()) for folder in (whole, stopped)
    ]
    key = lambda row: row["degradation"]  # noqa: E731
    assert sorted(statistics[0], key=key) == sorted(statistics[1], key=key)
    assert degrade_folder.degrade_folder(tree, stopped, variants)["present"] == 6


def test_other_settings_are_refused_unless_overwriting(tree, tmp_path):
    variants = create_variants(["white"], [2])
    degrade_folder.degrade_folder(tree, tmp_path / "out", variants, seed=0)
    before = read_tree(tmp_path / "out")
    with pytest.raises(ValueError, match="--seed was 0, is 1"):
        degrade_folder.degrade_folder(tree, tmp_path / "out", variants, seed=1)
    degrade_folder.degrade_folder(tree, tmp_path / "out", variants, seed=1, overwrite=True)
    after = read_tree(tmp_path / "out")
    assert any((before[name] != after[name]).any() for name in before)


def test_results_made_elsewhere_are_kept_and_measured(tree, tmp_path):
    output = tmp_path / "out"
    black = np.zeros((24, 32, 3), np.uint8)
    image_files.write_image(output / "white" / "2" / "cat" / "a.png", black)
    variants = create_variants(["white"], [2])
    assert degrade_folder.degrade_folder(tree, output, variants)["present"] == 1
    assert not image_files.read_rgb(output / "white" / "2" / "cat" / "a.png").any()
    assert json.loads((output / "statistics.json").read_text())[0]["images"] == 3
    image_files.write_image(tmp_path / "other" / "white" / "2" / "cat" / "a.png", black[:4])
    with pytest.raises(ValueError, match="another size"):
        degrade_folder.degrade_folder(tree, tmp_path / "other", variants)


def test_flat_layout_and_jpeg(tree, tmp_path):
    output = tmp_path / "out"
    variants = create_variants(["night"], [5])
    degrade_folder.degrade_folder(
        tree, output, variants, layout="flat", output_format="jpeg", quality=85
    )
    stored = read_tree(output)
    assert set(stored) == {
        "cat__a__night__5.jpg",
        "cat__b__night__5.jpg",
        "dog__a__night__5.jpg",
    }
    layer = degradations.parse("night@5")
    seed = degraded_copies.make_seed(0, "cat/a.png", "night@5")
    source = image_files.read_rgb(tree / "cat" / "a.png")
    degraded = np.asarray(layer(source[None].astype("float32"), seed=seed))[0].astype(np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(degraded).save(buffer, "JPEG", quality=85)
    expected = np.asarray(PIL.Image.open(buffer)).astype(int)
    assert np.abs(stored["cat__a__night__5.jpg"] - expected).max() <= 4
    with PIL.Image.open(output / "cat__a__night__5.jpg") as picture:
        assert picture.quantization == PIL.Image.open(buffer).quantization


def test_a_full_disk_ends_the_work_though_broken_images_are_skipped(tree, tmp_path):
    variants = create_variants(["darken"], [1])
    with forks.full_disk(900), pytest.raises(files.DiskFullError, match=r"cat/a\.png cannot be"):
        degrade_folder.degrade_folder(tree, tmp_path / "out", variants, skip_broken=True)
    counts = degrade_folder.degrade_folder(tree, tmp_path / "out", variants)
    assert counts["written"] + counts["present"] == 3
    assert len(read_tree(tmp_path / "out")) == 3
    files.write_text(tmp_path / "other/.degrade_folder/records.jsonl", "\n" * 2000)
    with forks.full_disk(2000), pytest.raises(files.DiskFullError, match=r"records\.jsonl cannot"):
        degrade_folder.degrade_folder(tree, tmp_path / "other", variants, skip_broken=True)


def test_another_process_is_kept_out(tree, tmp_path):
    variants = create_variants(["darken"], [1])
    with (
        forks.beside(locks.hold(tmp_path / "out")),
        pytest.raises(OSError, match="out is in use by process"),
    ):
        degrade_folder.degrade_folder(tree, tmp_path / "out", variants)


def test_names_that_are_long_or_no_text(tree, tmp_path):
    names = [os.fsdecode(b"caf\xe9.png"), "n" * 246 + ".png"]
    os.rename(tree / "cat/a.png", tree / "cat" / names[0])
    os.rename(tree / "cat/b.png", tree / "cat" / names[1])
    variants = create_variants(["darken"], [1])
    for present in (0, 3):
        counts = degrade_folder.degrade_folder(tree, tmp_path / "out", variants)
        assert counts == {"written": 3 - present, "present": present, "broken": []}
    assert all((tmp_path / "out/darken/1/cat" / name).exists() for name in names)


def test_images_that_would_not_fit_into_memory_are_named(tree, tmp_path):
    variants = create_variants(["darken"], [1])
    for size in (1_000_000, 10**15):
        with pytest.raises(ValueError, match=r"cat/a\.png: A resized image of .* GB of memory"):
            degrade_folder.degrade_folder(tree, tmp_path / "out", variants, resize=size, crop=16)
    # Nothing was made with these settings.
    assert degrade_folder.degrade_folder(tree, tmp_path / "out", variants)["written"] == 3


def test_images_are_prepared_as_for_imagenet_c(tree, tmp_path):
    variants = create_variants(["darken", "brownish_noise"], [1])
    degrade_folder.degrade_folder(tree, tmp_path / "out", variants, resize=18, crop=16)
    stored = read_tree(tmp_path / "out")
    assert {image.shape for image in stored.values()} == {(16, 16, 3)}
    with PIL.Image.open(tree / "cat" / "a.png") as picture:  # 24x32
        resized = np.asarray(picture.resize((24, 18), PIL.Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(
        stored["darken/1/cat/a.png"], np.floor(resized[1:17, 4:20] / 2 + 0.5)
    )
    with pytest.raises(ValueError, match="smaller than the square of 21"):
        degrade_folder.degrade_folder(tree, tmp_path / "other", variants, crop=21)


def test_pictures_are_prepared_as_their_pixels_are(tmp_path):
    photo = PIL.Image.fromarray(skimage.data.chelsea()[:90, :120])
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(tmp_path / "turned.png", exif=exif)
    photo.convert("L").save(tmp_path / "grey.jpg")
    photo.convert("CMYK").save(tmp_path / "cmyk.tif")
    photo.quantize(20).save(tmp_path / "palette.png")
    deep = np.asarray(photo).astype(np.uint16) * 257 + 40
    image_files.write_image(tmp_path / "deep.png", deep)
    for path in image_files.find_images(tmp_path):
        for interpolation in resizing.INTERPOLATIONS:
            for resize, crop, size in (
                (40, 32, None),
                (None, 32, None),
                (40, 32, 8),
                (40, None, 9),
            ):
                values = {"resize": resize, "crop": crop, "size": size}
                values |= {"interpolation": interpolation}
                pixels = image_files.read_rgb(path)
                np.testing.assert_array_equal(
                    resizing.read_and_crop(path, **values),
                    resizing.resize_and_crop(pixels, **values),
                )
    with pytest.raises(ValueError, match=r"turned\.png: an image of 120x90 pixels is smaller"):
        resizing.read_and_crop(tmp_path / "turned.png", crop=100)


@pytest.mark.slow
def test_compiled_for_one_size_or_any_gives_the_same_pixels():
    image = np.ascontiguousarray(skimage.data.chelsea()[100:124, 150:182])
    seed = degraded_copies.make_seed(0, "a", "b")
    # Fog cannot be traced for any size, the others can.
    for variant in create_variants(["fog", "shot_noise", "ripple"], [3]):
        eager, _ = degraded_copies.Degrader(compiled=False)(variant, image, seed)
        for size in (None, (24, 32)):
            found, _ = degraded_copies.Degrader(size)(variant, image, seed)
            difference = np.abs(found.astype(int) - eager)
            assert difference.max() <= 1, variant.name
            assert np.mean(difference > 0) < 0.01, variant.name


def test_statistics(tree, tmp_path):
    output = tmp_path / "out"
    degrade_folder.degrade_folder(tree, output, create_variants(["darken@0", "darken@1"], [1]))
    rows = json.loads((output / "statistics.json").read_text())
    clean, dark = sorted(rows, key=lambda row: row["severity"])
    assert clean["psnr"] is None
    assert clean["unchanged_images"] == 3
    assert dark["bytes_of"] == "stored png"
    sources = {name: image.astype(float) for name, image in read_tree(tree).items()}
    stored = [output / "darken" / "1" / name for name in sources]
    sizes = [path.stat().st_size for path in stored]
    errors = [np.mean((image - np.floor(image / 2 + 0.5)) ** 2) for image in sources.values()]
    pixels = sum(image[..., 0].size for image in sources.values())
    assert dark["mean_bytes"] == pytest.approx(np.mean(sizes))
    assert dark["bits_per_pixel"] == pytest.approx(8 * sum(sizes) / pixels)
    assert dark["psnr"] == pytest.approx(np.mean(10 * np.log10(255**2 / np.array(errors))))
    with open(output / "statistics.csv") as file:
        table = list(csv.DictReader(file))
    assert [row["degradation"] for row in table] == ["darken", "darken"]
    assert float(table[1]["psnr"]) == pytest.approx(rows[1]["psnr"])


def test_statistics_do_not_depend_on_which_copy_was_the_first(tmp_path):
    variants = create_variants(["darken", "night"], [1, 2])
    copies = [
        (degraded_copies.Copy(variant, tmp_path / variant.name / f"{number}.png"), 0.1 * number)
        for number in range(1, 8)
        for variant in variants
    ]
    found = []
    for order in (copies, copies[::-1]):
        records = degraded_copies.Records(tmp_path, {}, overwrite=True)
        for copy, error in order:
            records.add(copy, format="png", pixels=9, bytes=5, codec=None, codec_bytes=0, mse=error)
        found.append(records.statistics())
    assert found[0] == found[1]
    assert [(row["degradation"], row["severity"]) for row in found[0]] == [
        ("darken", 1), ("darken", 2), ("night", 1), ("night", 2)
    ]  # fmt: skip


def test_damaged_records_are_left_out(tmp_path):
    (variant,) = create_variants(["darken"], [1])
    records = degraded_copies.Records(tmp_path, {})
    for name in ("a", "b"):
        copy = degraded_copies.Copy(variant, tmp_path / f"{name}.png")
        records.add(copy, format="png", pixels=9, bytes=5, codec=None, codec_bytes=None, mse=1.5)
    whole, path = records.statistics(), tmp_path / ".degrade_folder/records.jsonl"
    first = path.read_text().splitlines()[1]
    damaged = [
        "[]",
        "7",
        "{}",
        *(
            first.replace(old, new).replace("a.png", "c.png")
            for old, new in (
                ('"path"', '"part"'),
                ("1.5", "Infinity"),
                ("9", "0"),
                ('"png"', "3"),
                ("5", '"5"'),
            )
        ),
    ]
    path.write_text(path.read_text() + "\n" + "\n".join(damaged))
    assert degraded_copies.Records(tmp_path, {}).statistics() == whole


def test_bytes_of_the_codec_count_where_there_is_one(tree, tmp_path):
    output = tmp_path / "out"
    variants = create_variants(["jpeg:30|white@1", "white@1"], [1])
    degrade_folder.degrade_folder(tree, output, variants)
    coded, plain = json.loads((output / "statistics.json").read_text())
    sizes = []
    for source in read_tree(tree).values():
        buffer = io.BytesIO()
        PIL.Image.fromarray(source).save(buffer, "JPEG", quality=30)
        sizes.append(buffer.tell())
    assert coded["bytes_of"] == "Jpeg"
    assert coded["mean_bytes"] == pytest.approx(np.mean(sizes))
    assert coded["bits_per_pixel"] == pytest.approx(8 * sum(sizes) / (24 * 32 + 20 * 20 + 21 * 17))
    assert plain["bytes_of"] == "stored png"


def test_broken_images_are_named(tree, tmp_path):
    (tree / "dog" / "broken.png").write_bytes(b"no image")
    variants = create_variants(["darken"], [1, 2])
    with pytest.raises(ValueError, match=r"broken\.png"):
        degrade_folder.degrade_folder(tree, tmp_path / "out", variants)
    counts = degrade_folder.degrade_folder(tree, tmp_path / "out", variants, skip_broken=True)
    assert len(counts["broken"]) == 1
    assert "broken.png" in counts["broken"][0]
    assert counts["written"] + counts["present"] == 6


def test_two_sources_of_one_copy_and_bad_folders_are_refused(tree, tmp_path):
    variants = create_variants(["darken"], [1])
    image_files.write_image(tree / "cat" / "a.jpg", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"would both become .*a\.png"):
        degrade_folder.degrade_folder(tree, tmp_path / "out", variants)
    with pytest.raises(ValueError, match="another folder"):
        degrade_folder.degrade_folder(tree, tree, variants)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no images"):
        degrade_folder.degrade_folder(tmp_path / "empty", tmp_path / "out", variants)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1-5", [1, 2, 3, 4, 5]), ("3", [3]), ("1,2.5", [1, 2.5]), ("1-2,4", [1, 2, 4])],
)
def test_severities_are_parsed(text, expected):
    assert degraded_copies.parse_severities(text) == expected


@pytest.mark.parametrize("text", ["", "0", "6", "1-9", "3,3", "a", "1-", "5-1", "1.2.3"])
def test_bad_severities_are_refused(text):
    with pytest.raises(ValueError, match="--severities"):
        degraded_copies.parse_severities(text)


def test_names_of_variants():
    texts = [
        "colour",
        "sparkles@2",
        "ripple:3",
        "lines:level=2,p=0.5",
        "ripple:3|darken",
        "white@2/night@1",
    ]
    names = [variant.name for variant in create_variants(texts, [1, 5])]
    assert names == [
        *(
            f"{name}@{severity}"
            for name in ("darken", "sunset", "night", "white")
            for severity in (1, 5)
        ),
        "sparkles@2",
        "ripple_3",
        "lines_level_2_p_0.5",
        "ripple_3+darken@1",
        "ripple_3+darken@5",
        "white_2_or_night_1",
    ]
    with pytest.raises(ValueError, match="twice: darken@1"):
        create_variants(["darken", "darken@1"], [1])
    assert [v.severity for v in create_variants(["darken"], [4])] == [4]


def test_photos_of_frost_do_not_name_the_copies(tmp_path):
    image_files.write_image(tmp_path / "frost1.png", np.zeros([8, 8, 3], np.uint8))
    variants = create_variants([f'imagenet_c:folder="{tmp_path}"'], [1, 5])
    assert [v.name for v in variants if "frost" in v.name] == ["frost@1", "frost@5"]


def test_show_draws_every_degradation_at_every_severity(tmp_path):
    variants = create_variants(["darken", "white", "ripple:3"], [1, 5])
    degrade_folder.show(tmp_path / "sheet.png", None, variants, tile=32, columns=2)
    sheet = image_files.read_rgb(tmp_path / "sheet.png")
    # Two columns of two rows: original, darken; white, ripple.
    assert sheet.shape[1] == 2 * (2 * 34 - 2 + 16)
    image_files.write_image(tmp_path / "photo.png", skimage.data.chelsea())
    degrade_folder.show(tmp_path / "own.png", tmp_path / "photo.png", variants, tile=32, columns=2)
    own = image_files.read_rgb(tmp_path / "own.png")
    assert own.shape == sheet.shape
    with pytest.raises(ValueError, match="one image"):
        degrade_folder.show(tmp_path / "x.png", tmp_path, variants)


def test_sheet_places_its_tiles():
    rows = [("red", [("1", np.full((8, 8, 3), [200, 0, 0], np.uint8))])]
    rows += [("blue", [("", np.full((20, 20, 3), [0, 0, 200], np.uint8))] * 2)]
    sheet = contact_sheet.draw_sheet(rows, 20, columns=1)
    assert (sheet == [0, 0, 200]).all(-1).sum() == 2 * 20 * 20
    reds = (sheet == [200, 0, 0]).all(-1)
    assert 0 < reds.sum() < 20 * 20  # the label covers some
    top, left = np.argwhere((sheet == [0, 0, 200]).all(-1)).min(axis=0)
    assert left == contact_sheet.MARGIN
    assert top > np.argwhere(reds).max(axis=0)[0]


def test_crop_square_takes_the_middle():
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = 255
    assert contact_sheet.crop_square(image, 10).min() == 255


def test_table_names_every_degradation():
    table = degrade_folder.format_table()
    for name, entry in degradations.NAMES.items():
        assert f"| `{name}` | {entry.unit} |" in table
    assert len({line.count("|") for line in table.split("\n\n")[0].splitlines()}) == 1


def test_command_line(tree, tmp_path):
    output = commands.run(
        "-m",
        "misc.degrade_folder",
        f"--input_path={tree}",
        f"--output_path={tmp_path / 'out'}",
        "--degradations=lines:level=2,p=0.5",
        "--degradations=darken",
        "--severities=1-2",
    )
    assert "9 copies written" in output
    assert len(read_tree(tmp_path / "out")) == 9
