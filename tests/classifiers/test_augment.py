import numpy as np
import pytest
import tensorflow as tf

from classifiers import augment, levels, training_copies
from classifiers.training_copies import TrainingCopies

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 9, 11, 3)).astype(np.float32)
LABELS = np.arange(12).astype(np.int32)


def test_flip_mirrors_about_half():
    flipped = np.asarray(augment.flip(IMAGES, 3))
    mirrored = [(f == i[:, ::-1]).all() for f, i in zip(flipped, IMAGES, strict=True)]
    same = [(f == i).all() for f, i in zip(flipped, IMAGES, strict=True)]
    assert np.array_equal(mirrored, np.logical_not(same))
    assert 2 <= sum(mirrored) <= 10
    np.testing.assert_array_equal(augment.flip(IMAGES[:5], 3), flipped[:5])


def test_crop_is_a_window_of_the_padded_image_and_the_same_for_all_copies():
    first, second = (np.asarray(c) for c in augment.crop_pair([IMAGES, 255 - IMAGES], 4, 5))
    padded = np.pad(IMAGES, [(0, 0), (4, 4), (4, 4), (0, 0)])
    corners = []
    for index in range(len(IMAGES)):
        windows = {(y, x): padded[index, y : y + 9, x : x + 11] for y in range(9) for x in range(9)}
        found = [place for place, window in windows.items() if (window == first[index]).all()]
        assert len(found) == 1
        y, x = found[0]
        other = np.pad(255 - IMAGES[index], [(4, 4), (4, 4), (0, 0)])
        np.testing.assert_array_equal(second[index], other[y : y + 9, x : x + 11])
        corners.append(found[0])
    assert len(set(corners)) > 6
    assert augment.crop_pair([IMAGES], 0, 5)[0] is IMAGES


def test_cutout_covers_one_square_that_may_leave_the_image():
    images = np.full((400, 20, 24, 3), 7, np.float32)
    covered, again = (np.asarray(c) for c in augment.cutout([images, images], 6, (1, 2, 3), 1))
    np.testing.assert_array_equal(covered, again)
    mask = covered[..., 0] == 1
    assert (covered[mask] == [1, 2, 3]).all()
    assert (covered[~mask] == 7).all()
    heights, widths = mask.any(2).sum(1), mask.any(1).sum(1)
    assert heights.max() == widths.max() == 6
    assert heights.min() == 3
    np.testing.assert_array_equal(mask.sum((1, 2)), heights * widths)
    # Every pixel of the middle is as likely to be covered as any other.
    share = mask[:, 6:-6, 6:-6].mean(0)
    assert abs(share.mean() - 36 / (20 * 24)) < 0.02


def test_copies_share_draws_and_keep_the_order_of_blocks():
    layers = levels.training_layers(["noise:0", "saltpepper:0", "blur:1,step=0.1"], 32)
    copies = TrainingCopies(tuple(layers), cutout=4, padding=2, fill=(9, 9, 9))
    made = {k: np.asarray(v) for k, v in copies(IMAGES, LABELS, tf.constant([0, 4])).items()}
    assert made["image"].shape == (36, 9, 11, 3)
    np.testing.assert_array_equal(made["label"], np.tile(LABELS, 3))
    # Degradations of level 0 change nothing: flip, crop and Cutout must be the same.
    np.testing.assert_array_equal(made["image"][:24], made["degraded"][:24])
    assert (made["image"][24:] != made["degraded"][24:]).any((1, 2, 3)).all()
    assert (made["image"][:12] != made["image"][12:24]).any()


def test_cutout_of_the_degraded_copy_alone():
    layers = tuple(levels.training_layers(["noise:0"], 32))
    plain = TrainingCopies(layers, flip=False, padding=0)
    cut = TrainingCopies(layers, flip=False, padding=0, cutout=4, cutout_on="degraded")
    made = cut(IMAGES, LABELS, tf.constant([0, 4]))
    np.testing.assert_array_equal(made["image"], IMAGES)
    assert (np.asarray(made["degraded"]) != IMAGES).any((1, 2, 3)).all()
    assert plain.draws_nothing
    assert cut.draws_nothing
    assert not TrainingCopies(layers).draws_nothing


def test_independent_images_are_shared_out():
    layers = tuple(levels.training_layers(["noise:0", "saltpepper:1"], 32))
    copies = TrainingCopies(layers, "independent", flip=False, padding=0)
    made = copies(IMAGES, LABELS, tf.constant([0, 4]))
    np.testing.assert_array_equal(made["label"], LABELS)
    np.testing.assert_array_equal(made["degraded"][:6], IMAGES[:6])
    assert (np.asarray(made["degraded"])[6:] % 255 == 0).mean() > 0.7
    with pytest.raises(ValueError, match="multiple of the 2 degradations"):
        copies(IMAGES[:11], LABELS[:11], tf.constant([0, 4]))


def test_without_degradations_both_copies_are_one():
    made = TrainingCopies(cutout=4)(IMAGES, LABELS, tf.constant([0, 4]))
    assert made["image"] is made["degraded"]


@pytest.mark.slow
def test_eager_and_compiled_copies_are_equal():
    layers = tuple(levels.training_layers(list(levels.FUSION_DISTILL), 32))
    copies = TrainingCopies(layers, cutout=4)
    images = IMAGES[:4]
    eager = copies(images, LABELS[:4], tf.constant([0, 4]))
    graph = tf.function(copies)(tf.constant(images), tf.constant(LABELS[:4]), tf.constant([0, 4]))
    for name, value in eager.items():
        np.testing.assert_array_equal(graph[name], value)


def test_lists_of_texts():
    assert len(levels.training_layers(["jpeg:10,p=0.5", "noise"], 32)) == 2
    assert len(levels.training_layers(["imagenet_c", "fog@2"], 32)) == 16
    assert levels.training_layers([], 32) == []
    with pytest.raises(ValueError, match=r"'jpeg' and 'blur@3' and 'noise:5-10' apart"):
        levels.training_layers(["noise", "jpeg,blur@3, noise:5-10"], 32)


def test_all_levels_are_those_of_the_paper():
    tested = levels.test_degradations(list(levels.FUSION_DISTILL), "all", 32)
    assert [len(t.values) for t in tested] == [101, 51, 26, 51]
    assert sum(len(t.values) for t in tested) == 229
    assert tested[1].values[:3] == [0, 0.1, 0.2]
    assert tested[1].values[-1] == 5
    fog, fixed, chain = levels.test_degradations(["fog", "noise:7", "blur:1|jpeg:9"], "all", 32)
    assert fog.values == [1, 2, 3, 4, 5]
    assert fixed.values == [7]
    assert chain.values == [None]
    (chosen,) = levels.test_degradations(["jpeg"], "10,50", 32)
    assert chosen.values == [10, 50]
    (random,) = levels.test_degradations(["jpeg"], "random", 32)
    assert random.values == [None]
    with pytest.raises(ValueError, match=r"--levels=3: blur:1\|jpeg:9 has no single level"):
        levels.test_degradations(["blur:1|jpeg:9"], "3", 32)


def test_one_level_is_what_a_layer_of_that_level_gives():
    seed = tf.constant([3, 4])
    images = tf.constant(IMAGES)
    for name, value, text in (
        ("jpeg", 30, "jpeg:30"),
        ("blur", 1.5, "blur:1.5"),
        ("noise", 20, "noise:20"),
        ("contrast", 4, "contrast@4"),
        ("zoom_blur", 2, "zoom_blur@2"),
    ):
        (tested,) = levels.test_degradations([name], "all", 32)
        expected = levels.training_layers([text], 32)[0](images, seed=seed)
        np.testing.assert_allclose(tested.apply(images, value, seed)[0], expected, atol=1)
    (tested,) = levels.test_degradations(["jpeg"], "all", 32)
    clean, sizes = tested.apply(images, 101, seed)
    np.testing.assert_array_equal(clean, IMAGES)
    np.testing.assert_array_equal(sizes, 0)


def test_wrong_levels_are_named():
    with pytest.raises(ValueError, match="Received: 200"):
        levels.test_degradations(["jpeg"], "200", 32)
    with pytest.raises(ValueError, match="--levels must be"):
        levels.test_degradations(["jpeg"], "some", 32)
    with pytest.raises(ValueError, match="step="):
        levels.test_degradations(["noise:0-20"], "all", 32)
    with pytest.raises(ValueError, match="--levels=10,10 has a level twice"):
        levels.test_degradations(["jpeg"], "10,10", 32)
    with pytest.raises(ValueError, match="Received: nan"):
        levels.test_degradations(["jpeg"], "nan", 32)


def test_no_degradation_comes_twice():
    with pytest.raises(ValueError, match="--degradations holds the same degradation twice: fog"):
        levels.training_layers(["imagenet_c", "noise:3", " fog"], 32)
    with pytest.raises(ValueError, match="twice: noise:3"):
        levels.test_degradations(["noise:3", "noise:3"], "random", 32)


def test_host_codecs_need_the_host():
    class Flags:
        degradations = ("webp:30",)
        degradation_size = 32
        degrade_on = "device"

    with pytest.raises(ValueError, match="--degrade_on=host"):
        training_copies.create(Flags)
