"""Stateless random draws, one independent stream per image; the only backend-specific file.

A seed is an int32 tensor of shape [2]. Every draw depends on the seed, on the image's index in the
batch and on the image's own shape, never on the batch size or on how often something was called:
the same seed gives the same draw eagerly, in a parallel `Dataset.map` and in a compiled step. The
generator is always Philox (TensorFlow) or Threefry (JAX). Floating-point numbers are made here from
its integers, because XLA's own conversion differs from TensorFlow's.
"""

import math

import keras
import numpy as np
from keras import ops

_BACKEND = keras.backend.backend()

if _BACKEND == "tensorflow":
    import tensorflow as tf

    def _fold_in(seed, data):
        return tf.random.fold_in(seed, data, alg="philox")

    def _bits(shape, seed):
        # The stream is a counter, so that the first images of a larger batch draw the same.
        return tf.random.stateless_uniform(
            shape, seed, minval=None, maxval=None, dtype=tf.int32, alg="philox"
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
        key = jax.random.wrap_key_data(seed.astype(jnp.uint32), impl="threefry2x32")
        keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(jnp.arange(shape[0]))
        bits = jax.vmap(lambda one: jax.random.bits(one, tuple(shape[1:]), jnp.uint32))(keys)
        return jax.lax.bitcast_convert_type(bits, jnp.int32)

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
        seed: an integer (its low 64 bits are used), or an integer array or tensor of shape [2].

    Raises:
        ValueError: if the seed is missing, not an integer, or of another shape.
    """
    if isinstance(seed, int | np.integer) and not isinstance(seed, bool):
        pair = [int(seed) >> 32 & 0xFFFFFFFF, int(seed) & 0xFFFFFFFF]
        return ops.convert_to_tensor(np.array(pair, np.uint32).view(np.int32))
    if seed is None or isinstance(seed, bool | float | str):
        raise ValueError(
            f"seed must be an integer or an integer tensor of shape [2]. Received: {seed!r}"
        )
    if not ops.is_tensor(seed):
        seed = np.asarray(seed)
    kind = keras.backend.standardize_dtype(seed.dtype)
    if "int" not in kind or tuple(seed.shape) != (2,):
        raise ValueError(
            "seed must be an integer or an integer tensor of shape [2]. "
            f"Received: {kind} of shape {tuple(seed.shape)}"
        )
    return ops.cast(seed, "int32")


def fold_in(seed, data):
    """Returns a new seed of shape [2] from a seed of shape [2] and an integer."""
    return _fold_in(make_seed(seed), data)


def uniform(shape, seed, low=0.0, high=1.0):
    """Returns float32 draws from [low, high).

    Args:
        shape: shape of the result; the first axis counts images.
        seed: int32 tensor of shape [2].
        low: smallest value; a number or a tensor that broadcasts to `shape`.
        high: end of the range, not reached; a number or a tensor that broadcasts to `shape`.
    """
    # 24 bits fill the mantissa of a float32 exactly, so that 1.0 is never reached by rounding.
    draws = ops.cast(ops.bitwise_and(_bits(shape, seed), 0xFFFFFF), "float32")
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
