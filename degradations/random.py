"""Stateless random draws, one independent stream per image; the only backend-specific file.

A seed is an int32 tensor of shape [2]. Every draw depends on the seed, on the image's index in the
batch and on the image's own shape, never on the batch size or on how often something was called:
the same seed gives the same draw eagerly, in a parallel `Dataset.map` and in a compiled step. A
part of a batch draws what its images would draw in the whole one, by a seed of `at_places`. The
generator is always Philox (TensorFlow) or Threefry (JAX). Floating-point numbers are made here from
its integers, because XLA's own conversion differs from TensorFlow's.
"""

import dataclasses
import math

import keras
import numpy as np
from keras import ops

_BACKEND = keras.backend.backend()


@dataclasses.dataclass(frozen=True)
class _Placed:
    """A seed of shape [2], and the places int32 [B] in a larger batch of the images it serves."""

    seed: object
    places: object


if _BACKEND == "tensorflow":
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util, random_ops_util

    # Up to so many numbers per image, drawing them for all images and picking costs less.
    _FEW = 64

    def _fold_in(seed, data):
        data = tf.convert_to_tensor(data)
        # Its dozens of small operations take milliseconds one by one.
        fold = _compiled_fold_in if tf.executing_eagerly() else _fold_in_philox
        return fold(seed, data)

    def _fold_in_philox(seed, data):
        return tf.random.fold_in(seed, data, alg="philox")

    _compiled_fold_in = tf.function(_fold_in_philox, autograph=False)

    def _bits(shape, seed):
        # The stream is a counter, so that the first images of a larger batch draw the same.
        return tf.random.stateless_uniform(
            shape, seed, minval=None, maxval=None, dtype=tf.int32, alg="philox"
        )

    def _bits_at(shape, seed, places):
        size = math.prod(shape[1:])
        if isinstance(size, int) and size <= _FEW and not is_static():
            everyone = _bits([tf.reduce_max(places) + 1, *shape[1:]], seed)
            return tf.gather(everyone, places)
        key, counter, algorithm = random_ops_util.get_key_counter_alg(seed, "philox")

        def draw(place):
            # The counter's lower half starts at 0 and counts groups of four numbers.
            first = tf.cast(place, tf.int64) * tf.cast(size, tf.int64)
            start = tf.stack([counter[0] + tf.cast(first // 4, tf.uint64), counter[1]])
            bits = tf.raw_ops.StatelessRandomUniformFullIntV2(
                shape=[size + 3], key=key, counter=start, alg=algorithm, dtype=tf.int32
            )
            return tf.slice(bits, [tf.cast(first % 4, tf.int32)], [size])

        if places.shape[0] == 1:
            return tf.reshape(draw(places[0]), shape)
        return tf.reshape(tf.map_fn(draw, places, fn_output_signature=tf.int32), shape)

    def is_tracing():
        """Returns whether a function is being traced."""
        return not tf.executing_eagerly()

    def is_static():
        """Returns whether XLA compiles what is being traced, which needs all shapes."""
        return is_tracing() and control_flow_util.GraphOrParentsInXlaContext(
            tf.compat.v1.get_default_graph()
        )

    def look_up(values, indices):
        """Returns values[indices] along the first axis, for int32 indices within it."""
        # Half the time of ops.take, which looks for negative indices and copies slice by slice.
        return tf.gather_nd(values, tf.expand_dims(indices, -1))

    def concrete(values):
        """Returns `values` as a NumPy array, or None while a graph is being traced."""
        if not tf.is_tensor(values):
            return np.asarray(values)
        return (
            values.numpy()
            if hasattr(values, "numpy") and not tf.is_symbolic_tensor(values)
            else None
        )

elif _BACKEND == "jax":
    import jax
    import jax.numpy as jnp

    def _fold_in(seed, data):
        key = jax.random.wrap_key_data(seed.astype(jnp.uint32), impl="threefry2x32")
        return jax.random.key_data(jax.random.fold_in(key, data)).astype(jnp.int32)

    def _bits(shape, seed):
        return _bits_at(shape, seed, jnp.arange(shape[0]))

    def _bits_at(shape, seed, places):
        key = jax.random.wrap_key_data(seed.astype(jnp.uint32), impl="threefry2x32")
        keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(places)
        bits = jax.vmap(lambda one: jax.random.bits(one, tuple(shape[1:]), jnp.uint32))(keys)
        return jax.lax.bitcast_convert_type(bits, jnp.int32)

    def is_tracing():
        """Returns whether a function is being traced."""
        return isinstance(jnp.zeros(()), jax.core.Tracer)

    is_static = is_tracing

    def look_up(values, indices):
        """Returns values[indices] along the first axis, for int32 indices within it."""
        return jnp.take(values, indices, axis=0)

    def concrete(values):
        """Returns `values` as a NumPy array, or None while a graph is being traced."""
        return None if isinstance(values, jax.core.Tracer) else np.asarray(values)

else:
    raise ImportError(
        "degradations needs the Keras backend tensorflow or jax (KERAS_BACKEND). "
        f"Received: {_BACKEND}"
    )


def make_seed(seed):
    """Returns the seed as an int32 tensor of shape [2].

    Args:
        seed: an integer or integer tensor of shape [] (its low 64 bits are used), or an integer
            array or tensor of shape [2]. A seed of `at_places` is returned as it is.

    Raises:
        ValueError: if the seed is missing, not an integer, or of another shape.
    """
    if isinstance(seed, _Placed):
        return seed
    allowed = "seed must be an integer, or an integer tensor of shape [] or [2]"
    if isinstance(seed, int) and not isinstance(seed, bool):
        pair = [seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF]
        return ops.convert_to_tensor(np.array(pair, np.uint32).view(np.int32))
    if seed is None or isinstance(seed, bool | float | str):
        raise ValueError(f"{allowed}. Received: {seed!r}")
    if not ops.is_tensor(seed):
        seed = np.asarray(seed)
    kind, shape = keras.backend.standardize_dtype(seed.dtype), tuple(seed.shape)
    if "int" not in kind or shape not in ((), (2,)):
        raise ValueError(f"{allowed}. Received: {kind} of shape {shape}")
    if shape == (2,):
        return ops.cast(seed, "int32")
    value = concrete(seed)
    if value is not None:
        return make_seed(int(value))
    if kind.endswith("64"):
        high = ops.right_shift(ops.cast(seed, "int64"), 32)
    else:
        high = ops.zeros_like(seed) if kind[0] == "u" else ops.where(seed < 0, -1, 0)
    return ops.stack([ops.cast(high, "int32"), ops.cast(seed, "int32")])


def fold_in(seed, data):
    """Returns a new seed from a seed (of shape [2], or of `at_places`) and an integer."""
    if isinstance(seed, _Placed):
        return _Placed(_fold_in(seed.seed, data), seed.places)
    return _fold_in(make_seed(seed), data)


def at_places(seed, places):
    """Returns a seed with which image i of a batch draws as image `places[i]` does with `seed`.

    Args:
        seed: int32 tensor of shape [2], or a seed of this function.
        places: int32 [B].
    """
    if isinstance(seed, _Placed):
        return _Placed(seed.seed, look_up(seed.places, places))
    return _Placed(make_seed(seed), places)


def uniform(shape, seed, low=0.0, high=1.0):
    """Returns float32 draws from [low, high).

    Args:
        shape: shape of the result; the first axis counts images.
        seed: int32 tensor of shape [2], or a seed of `at_places`.
        low: smallest value; a number or a tensor that broadcasts to `shape`.
        high: end of the range, not reached; a number or a tensor that broadcasts to `shape`.
    """
    # 24 bits fill the mantissa of a float32 exactly, so that 1.0 is never reached by rounding.
    if isinstance(seed, _Placed):
        bits = _bits_at(shape, seed.seed, seed.places)
    else:
        bits = _bits(shape, seed)
    draws = ops.cast(ops.bitwise_and(bits, 0xFFFFFF), "float32")
    if isinstance(low, int | float) and isinstance(high, int | float):
        draws = draws * ((high - low) / 2**24)
        return draws + low if low else draws
    return low + (high - low) * (draws * 2.0**-24)


def integers(shape, seed, low, high):
    """Returns int32 draws from low, low + 1, ..., high - 1; the first axis counts images."""
    return ops.cast(ops.floor(uniform(shape, seed, float(low), float(high))), "int32")


def normal(shape, seed):
    """Returns float32 draws from the standard normal distribution; the first axis counts images.

    Uses the transform of Box and Muller, "A Note on the Generation of Random Normal Deviates"
    (Annals of Mathematical Statistics, 1958), on the integers of the stream.
    """
    count = math.prod(shape[1:])
    half = (count + 1) // 2
    draws = uniform([shape[0], 2, half], seed)
    radius = ops.sqrt(-2.0 * ops.log(1.0 - draws[:, 0]))
    angle = (2.0 * math.pi) * draws[:, 1]
    pair = ops.concatenate([radius * ops.cos(angle), radius * ops.sin(angle)], axis=1)
    return ops.reshape(pair[:, :count], shape)
