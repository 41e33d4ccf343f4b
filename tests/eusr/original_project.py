"""Graphs and checkpoints as tf-perceptual-eusr, the original project, wrote with TensorFlow 1.

Built here from the papers and from what is known of its files: how nodes and variables are called,
and how a scale is chosen.
"""

import contextlib
import dataclasses
import pathlib

import numpy as np
import tensorflow.compat.v1 as tf

from eusr import network

FEATURES = 3
SHARED_BLOCKS = 2
PATHS = (2, 4, 8)
RATE = 1e-3
IMAGES = np.random.default_rng(0).uniform(0, 255, (1, 9, 11, 3)).astype(np.float32)
CROPS = np.random.default_rng(1).uniform(0, 255, (2, 64, 32, 3)).astype(np.float32)
INPUT, SCALE, OUTPUT = "sr_input", "sr_input_scale", "sr_output"


@dataclasses.dataclass
class Original:
    """Where the files of a network are, what it makes of `IMAGES` and `CROPS`, and what comes next.

    Attributes:
        folder: the files' folder.
        outputs: {scale: output for `IMAGES`}.
        logits: what the discriminator, if there is one, makes of `CROPS`.
        updated: {name of a variable: its value after a second update}.
    """

    folder: pathlib.Path
    outputs: dict
    logits: np.ndarray
    updated: dict


@contextlib.contextmanager
def graph():
    """Collects what is built in a graph, whose branches are Switch and Merge nodes."""
    enabled = tf.control_flow_v2_enabled()
    tf.disable_control_flow_v2()
    try:
        with tf.Graph().as_default() as made:
            tf.set_random_seed(1)
            yield made
    finally:
        if enabled:
            tf.enable_control_flow_v2()


def convolution(x, features, size=3, stride=1):
    """Applies a convolution whose variables are called as those of tf.layers: conv2d_1/kernel."""
    with tf.variable_scope(None, default_name="conv2d"):
        kernel = _variable("kernel", (size, size, int(x.shape[-1]), features))
        bias = _variable("bias", (features,))
    return tf.nn.conv2d(x, kernel, strides=stride, padding="SAME") + bias


def dense(x, features):
    """Applies a dense layer whose variables are called dense/kernel and dense/bias."""
    with tf.variable_scope(None, default_name="dense"):
        kernel = _variable("kernel", (int(x.shape[-1]), features))
        return tf.matmul(x, kernel) + _variable("bias", (features,))


def _variable(name, shape):
    # Large enough for every layer to change the output.
    initializer = tf.random_normal_initializer(stddev=0.25)
    return tf.get_variable(name, shape, tf.float32, initializer, use_resource=False)


def generator(images, scale, scales):
    """Returns images upscaled by `scale`, a number or a scalar tensor among `scales`."""

    def choose(function, x):
        return _case(scale, {s: lambda s=s: function(x, s) for s in scales})

    with tf.variable_scope("generator", reuse=tf.AUTO_REUSE):
        with tf.variable_scope("first_conv"):
            x = convolution(images - list(network.RGB_MEAN), FEATURES)
        with tf.variable_scope("initial_blocks"):
            x = choose(_scale_blocks, x)
        with tf.variable_scope("shared"):
            x = _residual_module(x, SHARED_BLOCKS)
        with tf.variable_scope("upscaling"):
            x = choose(_upscaling, x)
        return x + list(network.RGB_MEAN)


def _case(scale, branches):
    chosen = tf.cast(scale, tf.float32)
    pairs = [(tf.equal(chosen, float(s)), branch) for s, branch in branches.items()]
    return tf.case(pairs, exclusive=True)


def _scale_blocks(x, scale):
    with tf.variable_scope(f"x{scale}"):
        return _residual_block(_residual_block(x, 5), 5)


def _upscaling(x, scale):
    with tf.variable_scope(f"x{scale}"):
        for stage in range(network.stages(scale)):
            positions = []
            for position in range(4):
                with tf.variable_scope(f"m{stage}/px{position}"):
                    x = _residual_module(x, 1)
                positions.append(x)
            x = tf.depth_to_space(tf.concat(positions, 3), 2)
        return convolution(x, 3)


def _residual_module(x, blocks):
    inner = x
    for _ in range(blocks):
        inner = _residual_block(inner, 3)
    return x + convolution(inner, FEATURES)


def _residual_block(x, size):
    return x + convolution(tf.nn.relu(convolution(x, FEATURES, size)), FEATURES, size)


def discriminator(images, features=2):
    """Returns the logits of each region."""
    with tf.variable_scope("discriminator", reuse=tf.AUTO_REUSE):
        x = images
        for number in range(10):
            with tf.variable_scope(f"conv{number + 1}"):
                width = features * 2 ** (number // 2)
                x = tf.nn.leaky_relu(convolution(x, width, 3, 1 + number % 2))
        with tf.variable_scope("fc"):
            x = tf.nn.leaky_relu(dense(tf.reshape(x, [-1, 16 * features]), 32 * features))
        with tf.variable_scope("final"):
            return dense(x, 1)


def four_pass_output(images, scale):
    """Returns the output of 4PP-EUSR: four times the size, by the path that the scale names."""
    twice = generator(generator(images, 2, [2]), 2, [2])
    size = [4 * tf.shape(images)[1], 4 * tf.shape(images)[2]]
    reduced = tf.image.resize_bicubic(generator(images, 8, [8]), size)
    outputs = {2: twice, 4: generator(images, 4, [4]), 8: reduced}
    return _case(scale, {s: lambda s=s: tf.identity(outputs[s]) for s in outputs})


def write(folder, step, scales=None, with_scale=True, name="model"):
    """Writes NAME.pb and the checkpoint NAME.ckpt-STEP of a network in training.

    Args:
        folder: where.
        step: number in the checkpoint's name. The weights have seen one update.
        scales: those of EUSR; `None` for 4PP-EUSR with its discriminator.
        with_scale: whether the graph takes a scale, or serves `scales[0]` alone.
        name: what the files are called.

    Returns:
        `Original`.
    """
    with graph(), tf.Session() as session:
        images = tf.placeholder(tf.float32, [None, None, None, 3], INPUT)
        scale = tf.placeholder(tf.float32, [], SCALE) if with_scale else scales[0]
        logits = tf.zeros([])
        if scales:
            output = generator(images, scale, scales)
        else:
            output = four_pass_output(images, scale)
            logits = discriminator(tf.constant(CROPS))
        update = _adam(["generator"] if scales else ["generator", "discriminator"])
        session.run(tf.global_variables_initializer())
        session.run(update)
        tf.train.Saver().save(session, str(folder / f"{name}.ckpt"), global_step=step)
        feeds = {s: {images: IMAGES} | ({scale: s} if with_scale else {}) for s in scales or PATHS}
        outputs = {s: session.run(output, feed) for s, feed in feeds.items()}
        logits = session.run(logits)
        _freeze(folder / f"{name}.pb", output, session)
        session.run(update)
        updated = {v.op.name: session.run(v) for v in tf.trainable_variables()}
    return Original(folder, outputs, logits, updated)


def _adam(networks):
    """Returns an update by an Adam of each network, as if each weight were its own gradient."""
    updates = []
    for name in networks:
        variables = tf.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES, scope=name)
        optimizer = tf.train.AdamOptimizer(RATE)
        updates.append(optimizer.apply_gradients([(tf.identity(v), v) for v in variables]))
    return tf.group(updates)


def _freeze(path, output, session):
    tf.identity(output, OUTPUT)
    graph_def = session.graph.as_graph_def()
    frozen = tf.graph_util.convert_variables_to_constants(session, graph_def, [OUTPUT])
    path.write_bytes(frozen.SerializeToString())
