"""What a training step reads: its order, shard and draws depend on the seed and the step alone."""

import dataclasses

import tensorflow as tf

# As many as the orders of five images need until 400,000 of them cannot be told from random ones;
# of many images, where six would do.
_ROUNDS, _ROUNDS_OF_MANY, _MANY = 24, 10, 4096
# SplitMix64 (Steele, Lea & Flood, OOPSLA 2014): the increment, and shifts and factors of its mixer.
_INCREMENT = 0x9E3779B97F4A7C15
_MIXER = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Numbers of the images of each step, and random numbers for them.

    The images come in passes over all of them, each in an order of its own; a batch may hold the
    end of one pass and the beginning of the next.

    Attributes:
        batch_size: images per step over all shards.
        seed: integer seed of all draws.
        shard: `(index, count)` of this process among those that share a batch: it reads rows
            `index * batch_size / count` and following.

    Raises:
        ValueError: if the batch cannot be divided among the shards.
    """

    batch_size: int
    seed: int
    shard: tuple = (0, 1)

    def __post_init__(self):
        index, count = self.shard
        if self.batch_size < 1 or self.batch_size % count or not 0 <= index < count:
            raise ValueError(
                "--batch_size must be a positive multiple of the number of hosts. "
                f"Received: {self.batch_size} images for host {index} of {count}"
            )

    @property
    def rows(self):
        """Number of images per step of this shard."""
        return self.batch_size // self.shard[1]

    def order(self, step, count):
        """Returns the numbers of this shard's images, int64 `[rows]` in `[0, count)`.

        Args:
            step: int64 scalar tensor, from 0.
            count: number of images, also as a tensor.
        """
        first = step * self.batch_size + self.shard[0] * self.rows
        counter = first + tf.range(self.rows, dtype=tf.int64)
        order = shuffled(counter, tf.cast(count, tf.int64), self._seed())
        return tf.ensure_shape(order, [self.rows])

    def draw(self, step, columns):
        """Returns float64 in [0, 1): `[columns]` for the step, `[rows, columns]` for its images.

        Args:
            step: int64 scalar tensor, from 0.
            columns: how many each of them gets.
        """
        # The algorithm is named: the default one depends on the device and on compilation.
        uniform = tf.random.stateless_uniform(
            [self.batch_size + 1, columns],
            tf.stack([self._seed(), step]),
            dtype=tf.float64,
            alg="philox",
        )
        first = 1 + self.shard[0] * self.rows
        return uniform[0], uniform[first : first + self.rows]

    def stream(self, make, first_step=0):
        """Returns the endless dataset `make(first_step), make(first_step + 1), ...`, in this order.

        Args:
            make: function of a step, an int64 scalar tensor; steps are computed side by side.
            first_step: step of the first element: a resumed run starts where it stopped.
        """
        steps = tf.data.Dataset.range(first_step, tf.int64.max)
        return steps.map(make, num_parallel_calls=4, deterministic=True)

    def _seed(self):
        # Seeds beyond 64 bits are cut.
        return tf.constant((self.seed + 2**63) % 2**64 - 2**63, tf.int64)


# Traced once in a process.
@tf.function(
    input_signature=[
        tf.TensorSpec([None], tf.int64),
        tf.TensorSpec([], tf.int64),
        tf.TensorSpec([], tf.int64),
    ]
)
def shuffled(counter, count, seed):
    """Returns the images to read as numbers `counter` of an endless shuffled run over all images.

    Each pass over `count` images reads every one once, in an order of its own. That is a keyed
    permutation of the places in the pass: a generalized Feistel network with cycle walking (Black &
    Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002), which costs the same for any
    number of images.

    Args:
        counter: int64 `[N]`, images read before.
        count: int64 scalar, number of images.
        seed: int64 scalar.

    Returns:
        int64 `[N]` in `[0, count)`.
    """
    key = _mix(_mix(tf.bitcast(seed, tf.uint64)) + tf.bitcast(counter // count, tf.uint64))
    increments = [[number * _INCREMENT % 2**64] for number in range(1, _ROUNDS + 1)]
    keys = _mix(key + tf.constant(increments, tf.uint64))
    # An even number of columns: of odd ones, some sets would see half of all orders alone.
    columns = 2 * tf.maximum(tf.floor(tf.sqrt(tf.cast(count, tf.float64)) / 2), 1)
    rows = tf.cast(tf.math.ceil(tf.cast(count, tf.float64) / columns), tf.uint64)
    last = tf.where(count < _MANY, _ROUNDS, _ROUNDS_OF_MANY)
    columns, count = tf.cast(columns, tf.uint64), tf.cast(count, tf.uint64)

    def change(number, column, row):
        column = (column + _mix(keys[number] + row)) % columns
        row = (row + _mix(keys[number + 1] + column)) % rows
        return number + 2, column, row

    def permute(place):
        _, column, row = tf.while_loop(
            lambda number, column, row: number < last,
            change,
            (0, place % columns, place // columns),
        )
        return row * columns + column

    place = permute(tf.cast(counter, tf.uint64) % count)
    # Places beyond the last image are permuted until they are within.
    (place,) = tf.while_loop(
        lambda place: tf.reduce_any(place >= count),
        lambda place: (tf.where(place < count, place, permute(place)),),
        (place,),
    )
    return tf.cast(place, tf.int64)


def _mix(values):
    """Returns uint64 values that look random, one for each value."""
    for shift, factor in _MIXER:
        shifted = tf.bitwise.right_shift(values, tf.constant(shift, tf.uint64))
        values = tf.bitwise.bitwise_xor(values, shifted) * tf.constant(factor, tf.uint64)
    return values
