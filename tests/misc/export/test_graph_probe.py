"""Graphs that say nothing of themselves: what is found out by running them."""

import dataclasses

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from eusr.original_graph import GRAPH
from misc.export import frozen


def write_graph(path, function, with_scale=True):
    """Writes a graph whose output is a function of images and scale."""
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [None, None, None, 3], "sr_input")
        scale = tf.placeholder(tf.float32, [], "sr_input_scale") if with_scale else None
        tf.identity(function(images, scale), "sr_output")
    path.write_bytes(graph.as_graph_def().SerializeToString())


def enlarge(images, factor, size=5):
    """Applies a convolution whose weights nearly cancel, and a mean that is taken and given."""
    mean = tf.constant([110.0, 111.0, 112.0])
    random = np.random.default_rng(0)
    kernel = 1e-9 * random.normal(size=(size, size, 3, 3 * factor**2)).astype(np.float32)
    x = tf.nn.conv2d(images - mean, kernel, strides=1, padding="SAME")
    x = tf.nn.relu(x - np.full(3 * factor**2, 200, np.float32))
    return tf.depth_to_space(x, factor) + mean


def test_the_output_may_be_as_large_at_every_scale(tmp_path):
    write_graph(tmp_path / "a.pb", lambda images, scale: enlarge(images, 4) * scale)
    model = frozen.load(tmp_path / "a.pb")
    assert model.scales == (2, 4, 8)
    assert [model.factor(scale) for scale in model.scales] == [4, 4, 4]
    assert [model.receptive_radius(scale) for scale in model.scales] == [2, 2, 2]


def test_without_an_input_for_it_the_scale_is_that_of_the_output(tmp_path):
    write_graph(tmp_path / "a.pb", lambda images, scale: enlarge(images, 3, 9), with_scale=False)
    model = frozen.load(tmp_path / "a.pb")
    assert model.scales == (3,)
    assert (model.factor(), model.receptive_radius(3)) == (3, 4)
    images = np.zeros((1, 5, 6, 3), np.float32)
    assert model.predict(images)["output"].shape == (1, 15, 18, 3)


def test_what_sees_the_whole_image_has_no_known_reach(tmp_path):
    def function(images, scale):
        return enlarge(images, 2) + tf.reduce_mean(images, axis=[1, 2], keepdims=True)

    write_graph(tmp_path / "a.pb", function, with_scale=False)
    assert frozen.load(tmp_path / "a.pb").receptive_radius() is None


def test_a_graph_that_enlarges_nothing_is_explained(tmp_path):
    write_graph(tmp_path / "a.pb", lambda images, scale: tf.reduce_mean(images, axis=[1, 2]))
    with pytest.raises(ValueError, match=r"a\.pb makes an output of the shape \[1, 3\] of"):
        frozen.load(tmp_path / "a.pb")


def test_a_graph_that_runs_at_no_scale_is_explained(tmp_path):
    def function(images, scale):
        with tf.control_dependencies([tf.debugging.assert_equal(scale, 3.0)]):
            return enlarge(images, 3)

    write_graph(tmp_path / "a.pb", function)
    with pytest.raises(ValueError, match=r"a\.pb runs at none of the scales \[2, 4, 8\]"):
        frozen.load(tmp_path / "a.pb")


def test_descriptions_of_originals_are_complete(tmp_path):
    write_graph(tmp_path / "a.pb", lambda images, scale: enlarge(images, 2))
    description = frozen.load(tmp_path / "a.pb").description
    expected = frozen.Description(**GRAPH)
    measured = {"radius": (2, 2, 2), "factor": (2, 2, 2)}
    assert description == dataclasses.replace(expected, **measured)
