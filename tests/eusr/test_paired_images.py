import socket

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from degradations import resize
from eusr import pairs, patches
from eusr.dataloaders import paired_images
from misc.images import image_files, pixel_store
from misc.training.settings import Settings


def make_flags(**values):
    defaults = {
        "data_input_path": None,
        "data_truth_path": None,
        "data_validation_input_path": None,
        "data_validation_truth_path": None,
        "data_validation_count": 0,
        "data_skip_broken": False,
        "data_edges": "mirror",
        "batch_size": 4,
        "input_patch_size": 5,
        "data_cached": True,
        "data_cache_path": None,
        "data_service": None,
        "scales": [2, 4],
    }
    return Settings(defaults | values)


def photo(rows, columns, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    """Three HR images of different sizes with LR images as DIV2K names them."""
    for number, (rows, columns) in enumerate([(40, 48), (56, 44), (48, 48)]):
        high = photo(rows, columns, number)
        save(tmp_path / f"HR/{number:04d}.png", high)
        for scale in (2, 4):
            low = resize.matlab_bicubic(high, 1 / scale)
            name = f"{number:04d}.png" if scale == 2 else f"{number:04d}x{scale}.png"
            save(tmp_path / f"LR/x{scale}/{name}", low)
    return tmp_path


def with_folders(folder, **values):
    return make_flags(data_input_path=f"{folder}/LR", data_truth_path=f"{folder}/HR", **values)


def take(flags, count, **arguments):
    dataset = paired_images.create_data(flags).training_batches(3, **arguments)
    return [{name: value.numpy() for name, value in batch.items()} for batch in dataset.take(count)]


def assert_equal(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        for name in ("low", "high"):
            np.testing.assert_array_equal(batch[name], other[name])


def test_shapes_ranges_and_both_scales(folder):
    batches = take(with_folders(folder), 12)
    sides = {batch["high"].shape[1] for batch in batches}
    assert sides == {10, 20}
    for batch in batches:
        assert batch["low"].shape == (4, 5, 5, 3)
        assert batch["high"].shape[1] == batch["high"].shape[2]
        assert batch["low"].dtype == batch["high"].dtype == np.float32
        assert batch["high"].max() > 200


def test_resumed_run_reads_what_the_uninterrupted_one_reads(folder):
    flags = with_folders(folder)
    assert_equal(take(flags, 9)[6:], take(flags, 3, first_step=6))


def test_seed_matters(folder):
    flags = with_folders(folder)
    first = next(iter(paired_images.create_data(flags).training_batches(1)))
    second = next(iter(paired_images.create_data(flags).training_batches(2)))
    assert not np.array_equal(first["low"], second["low"])


def test_shards_put_together_are_the_whole_batch(folder):
    flags = with_folders(folder)
    shards = [take(flags, 5, shard=(index, 2)) for index in range(2)]
    united = [
        {name: np.concatenate([first[name], second[name]]) for name in first}
        for first, second in zip(*shards, strict=True)
    ]
    assert_equal(take(flags, 5), united)
    with pytest.raises(ValueError, match="multiple of the number of hosts"):
        take(flags, 1, shard=(0, 3))


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_low_and_high_show_the_same_window_turned_the_same_way(scale):
    lows = [photo(9, 12, seed) for seed in range(3)]
    stored = [[low.repeat(scale, 0).repeat(scale, 1), low] for low in lows]

    def fill(write):
        for number, group in enumerate(stored):
            for position, pixels in enumerate(group):
                write(number, position, pixels)

    store = pixel_store.build_in_memory(fill)
    sampler = patches.PatchSampler(store, [scale], 5, 6, seed=0)
    seen = set()
    for step, batch in enumerate(sampler.local_batches().take(20)):
        low, high = batch["low"].numpy(), batch["high"].numpy()
        np.testing.assert_array_equal(high, low.repeat(scale, 1).repeat(scale, 2))
        draw = sampler.draw(tf.constant(step, tf.int64))
        for row in range(6):
            top, left, turns, flip = (
                int(values[row]) for values in (draw.top, draw.left, draw.turns, draw.flip)
            )
            window = lows[int(draw.image[row])][top : top + 5, left : left + 5]
            window = np.rot90(window, turns)
            np.testing.assert_array_equal(low[row], window[:, ::-1] if flip else window)
            seen.add((turns, flip))
    assert len(seen) == 8


def test_draws_are_uniform():
    store = pixel_store.PixelStore(
        {(n, p): shape for n in range(5) for p, shape in enumerate([(40, 48, 3), (20, 24, 3)])}
    )
    sampler = patches.PatchSampler(store, [2], 16, 500, seed=5)
    draw = sampler.draw(tf.constant(2**40, tf.int64))
    for values, count in [(draw.image, 5), (draw.top, 5), (draw.left, 9), (draw.turns, 4)]:
        found = np.bincount(values.numpy(), minlength=count)
        assert len(found) == count
        # Five standard deviations.
        assert np.abs(found - 500 / count).max() < 5 * np.sqrt(500 / count)
    assert abs(draw.flip.numpy().mean() - 0.5) < 5 * 0.5 / np.sqrt(500)
    # 500 = 100 passes over the five images.
    assert np.all(np.bincount(draw.image.numpy()) == 100)


def test_memory_disk_and_made_images_give_the_same_batches(folder, monkeypatch):
    memory = take(with_folders(folder), 6)
    cache = {"data_cached": False, "data_cache_path": str(folder / "cache")}
    assert_equal(memory, take(with_folders(folder, **cache), 6))
    # These LR images are what would be made.
    assert_equal(memory, take(make_flags(data_truth_path=f"{folder}/HR"), 6))
    monkeypatch.setattr(image_files, "read_rgb", lambda path: pytest.fail("decoded again"))
    assert_equal(memory, take(with_folders(folder, **cache), 6))


def test_changed_images_are_decoded_again(folder):
    cache = {"data_cached": False, "data_cache_path": str(folder / "cache")}
    before = take(with_folders(folder, **cache), 4)
    save(folder / "HR/0000.png", photo(40, 48, 9))
    after = take(with_folders(folder, **cache), 4)
    assert_equal(after, take(with_folders(folder), 4))
    assert not all(np.array_equal(a["high"], b["high"]) for a, b in zip(before, after, strict=True))


def test_automatic_cache_depends_on_the_memory(folder, monkeypatch):
    cache = {"data_cached": None, "data_cache_path": str(folder / "cache")}
    flags = with_folders(folder, batch_size=1, **cache)
    take(flags, 1)
    assert not (folder / "cache").exists()
    monkeypatch.setattr(pixel_store, "available_memory", lambda: 50_000)
    take(flags, 1)
    assert (folder / "cache").exists()


def test_sizes_that_matlab_rounds_up(tmp_path):
    high = photo(43, 46)
    save(tmp_path / "HR/a.png", high)
    low = resize.matlab_bicubic(high, 1 / 4)
    assert low.shape == (11, 12, 3)
    save(tmp_path / "LR/x4/a.png", low)
    (found,), _ = pairs.find_pairs(tmp_path / "LR", tmp_path / "HR", [4])
    np.testing.assert_array_equal(found.read_low(4, "mirror"), low[:10, :11])
    take(with_folders(tmp_path, scales=[4]), 3)


def broken_folder(folder, kind):
    if kind == "truncated":
        path = folder / "HR/0001.png"
        path.write_bytes(path.read_bytes()[:3000])
        return r"HR/0001\.png"
    if kind == "no image":
        (folder / "LR/x2/0001.png").write_bytes(b"text")
        return r"x2/0001\.png"
    if kind == "size":
        save(folder / "LR/x4/0001x4.png", photo(14, 13))
        return r"0001x4\.png must have 1/4 .* 56x44\. Received: 14x13"
    if kind == "no LR":
        (folder / "LR/x4/0001x4.png").unlink()
        return r"HR/0001\.png has no partner .*LR/x4"
    (folder / "HR/0001.png").unlink()
    return r"x2/0001\.png has no partner .*HR"


@pytest.mark.parametrize("kind", ["truncated", "no image", "size", "no LR", "no HR"])
def test_what_does_not_fit_is_named_or_skipped(folder, kind, caplog):
    message = broken_folder(folder, kind)
    with pytest.raises(ValueError, match=message):
        take(with_folders(folder), 1)
    found, skipped = pairs.find_pairs(folder / "LR", folder / "HR", [2, 4], skip_broken=True)
    store = pairs.build_store(found, [2, 4], "mirror", True, None, skip_broken=True)
    assert len(store.shapes) == 2
    # Headers tell all that is wrong but for what is truncated.
    assert [pair.name for pair in found if pair.name != "0001"] == ["0000", "0002"]
    assert ["0001" in reason for reason in skipped] == [True] * (3 - len(found))
    take(with_folders(folder, data_skip_broken=True), 2)


def test_nothing_left(folder):
    for path in (folder / "HR").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="All 3 images were skipped"):
        take(with_folders(folder, data_skip_broken=True), 1)


def test_missing_folders(folder):
    with pytest.raises(ValueError, match="LR/x8"):
        take(with_folders(folder, scales=[8]), 1)
    for flag in paired_images.FOLDERS:
        with pytest.raises(ValueError, match=rf"--{flag}=.*/nowhere: there is no such folder"):
            paired_images.create_data(make_flags(**{flag: f"{folder}/nowhere"}))
    with pytest.raises(ValueError, match=r"--data_truth_path=.*0000\.png: is no folder"):
        paired_images.create_data(make_flags(data_truth_path=f"{folder}/HR/0000.png"))
    with pytest.raises(ValueError, match="--data_truth_path"):
        take(make_flags(data_input_path=f"{folder}/LR"), 1)
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="no image in the folder"):
        take(make_flags(data_truth_path=f"{folder}/empty"), 1)


def test_images_that_are_too_small_at_a_scale(folder, caplog):
    # x4 patches of 12 need 48 pixels: only the third image has them, all have them at x2.
    flags = with_folders(folder, input_patch_size=12)
    expected = {scale: set() for scale in (2, 4)}
    found, _ = pairs.find_pairs(folder / "LR", folder / "HR", [2, 4])
    store = pairs.build_store(found, [2, 4], "mirror", True, None)
    sampler = patches.PatchSampler(store, [2, 4], 12, 4, seed=3)
    for step in range(20):
        draw = sampler.draw(tf.constant(step, tf.int64))
        expected[[2, 4][int(draw.scale)]].update(draw.image.numpy().tolist())
    assert expected == {2: {0, 1, 2}, 4: {2}}
    take(flags, 4)
    with pytest.raises(ValueError, match=r"None of the 3 images .* 52 pixels .* x4"):
        take(with_folders(folder, input_patch_size=13), 1)


def test_smaller_than_the_scale(tmp_path):
    save(tmp_path / "HR/small.png", photo(3, 20))
    save(tmp_path / "HR/large.png", photo(24, 20))
    take(make_flags(data_truth_path=f"{tmp_path}/HR"), 2)
    flags = make_flags(data_truth_path=f"{tmp_path}/HR")
    shown = [
        (e["scale"], e["name"]) for e in paired_images.create_data(flags).evaluation_batches("test")
    ]
    assert shown == [(2, "large"), (2, "small"), (4, "large")]


def test_evaluation_reads_whole_images(folder):
    flags = with_folders(folder)
    elements = paired_images.create_data(flags).evaluation_batches("test")
    for _ in range(2):
        shown = [(element["scale"], element["name"]) for element in elements]
        assert shown == [(scale, f"{number:04d}") for scale in (2, 4) for number in range(3)]
    first = next(iter(elements))
    assert first["low"].dtype == np.float32
    assert first["high"].dtype == np.uint8
    high = photo(40, 48)
    np.testing.assert_array_equal(first["high"][0], high)
    np.testing.assert_array_equal(first["low"][0], resize.matlab_bicubic(high, 1 / 2))


def test_evaluation_without_truth(folder):
    elements = list(
        paired_images.create_data(make_flags(data_input_path=f"{folder}/LR")).evaluation_batches(
            "test"
        )
    )
    assert len(elements) == 6
    assert "high" not in elements[0]


def test_where_evaluation_images_come_from(folder):
    validation = make_flags(
        data_validation_input_path=f"{folder}/LR", data_validation_truth_path=f"{folder}/HR"
    )
    for split in ("validation", "test"):
        assert len(list(paired_images.create_data(validation).evaluation_batches(split))) == 6
    # Where no pair is held out, the sample photographs validate.
    shown = paired_images.create_data(with_folders(folder)).evaluation_batches("validation")
    assert {element["name"] for element in shown} == {"chelsea", "coffee"}


def brightness_folder(tmp_path, names):
    """A folder of HR images, each of one grey value, its place in the list."""
    for value, name in enumerate(names):
        save(tmp_path / f"HR/{name}.png", np.full((24, 24, 3), value, np.uint8))
    return make_flags(
        data_truth_path=f"{tmp_path}/HR", data_validation_count=None, input_patch_size=6
    )


def validated(data):
    return [element["name"] for element in data.evaluation_batches("validation")]


def trained(data, **arguments):
    """The grey values in the first batches, which show each of 20 images."""
    batches = data.training_batches(3, **arguments).take(6)
    return {int(value) for batch in batches for value in batch["high"].numpy().ravel()}


def test_some_pairs_are_held_out_and_not_trained_on(tmp_path, caplog):
    caplog.set_level("INFO")
    names = [f"photo{number:02}" for number in range(20)]
    flags = brightness_folder(tmp_path, names) | {"scales": [2]}
    data = paired_images.create_data(flags)
    held_out = validated(data)
    assert len(held_out) == data.settings["data_validation_count"] == 2
    assert "2 of the 20 pairs" in caplog.text
    assert all(name in caplog.text for name in held_out)
    kept = set(range(20)) - {names.index(name) for name in held_out}
    shards = [trained(data, shard=(index, 2)) for index in range(2)]
    assert shards[0] | shards[1] == kept
    # More of them are the same and others.
    more = paired_images.create_data(flags | {"data_validation_count": 5})
    assert set(held_out) < set(validated(more))
    everything = paired_images.create_data(flags | {"data_validation_count": 0})
    assert trained(everything) == set(range(20))
    assert "chelsea" in validated(everything)
    assert [e["name"] for e in everything.evaluation_batches("test")] == names


def test_the_published_split_of_div2k(tmp_path):
    names = ["0001", "0002", "0799", "0800", "0801", "0899", "0900"]
    flags = brightness_folder(tmp_path, names) | {"scales": [2]}
    data = paired_images.create_data(flags)
    assert validated(data) == ["0801", "0899", "0900"]
    assert len(data.build_store().shapes) == 4
    # The same count is the same split, so that a run can be continued with it.
    assert validated(paired_images.create_data(flags | data.settings)) == validated(data)
    save(tmp_path / "HR/0901.png", photo(24, 24))
    assert len(validated(paired_images.create_data(flags))) == 1


@pytest.mark.parametrize(("count", "default"), [(1, 0), (2, 1), (9, 1), (25, 2), (400, 10)])
def test_how_many_pairs_are_held_out(count, default):
    assert pairs.default_held_out([f"photo{number}" for number in range(count)]) == default


def test_counts_that_cannot_be_held_out(folder):
    data = paired_images.create_data(with_folders(folder, data_validation_count=3))
    with pytest.raises(ValueError, match="--data_validation_count=3 leaves none of the 3 pairs"):
        data.evaluation_batches("validation")
    other = {"data_validation_truth_path": f"{folder}/HR"}
    for values in ({}, other, {"data_truth_path": f"{folder}/HR"} | other):
        with pytest.raises(ValueError, match="--data_validation_count=1 is for pairs of"):
            paired_images.create_data(make_flags(data_validation_count=1, **values))


def test_a_data_service_that_is_not_there_is_named(folder):
    with socket.socket() as taken:  # bound, but it does not listen
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ValueError, match=f"--data_service=grpc://{address} does not answer"):
            paired_images.create_data(with_folders(folder, data_service=f"grpc://{address}"))
    with pytest.raises(ValueError, match=r"must be such as grpc://host:5050\. Received: host"):
        paired_images.create_data(with_folders(folder, data_service="host:5050"))


def test_batches_beyond_the_memory_are_refused_before_images_are_read(folder):
    for flags in ({"batch_size": 10**9}, {"input_patch_size": 10**6}):
        with pytest.raises(ValueError, match=r"--batch_size=.* GiB of memory. Available: "):
            paired_images.create_data(with_folders(folder, **flags))


def test_sample_photos_are_the_default():
    batches = take(make_flags(scales=[2, 4, 8], input_patch_size=48, batch_size=2), 3)
    assert all(batch["low"].shape == (2, 48, 48, 3) for batch in batches)
    elements = list(
        paired_images.create_data(make_flags(scales=[8])).evaluation_batches("validation")
    )
    assert [element["low"].shape for element in elements] == [(1, 37, 56, 3), (1, 50, 75, 3)]


def test_epochs_are_not_counted(folder):
    with pytest.raises(ValueError, match=r"does not count .*: give --max_steps"):
        paired_images.create_data(with_folders(folder)).count_images()


def test_unknown_split():
    with pytest.raises(ValueError, match="holiday"):
        paired_images.create_data(make_flags()).evaluation_batches("holiday")
