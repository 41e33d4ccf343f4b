"""Seeds of random draws: what step n of a run draws does not depend on where the run started."""

import tensorflow as tf


def of_step(seed, step, host=0):
    """Returns the seed of a step, int32 `[2]`.

    Args:
        seed: seed of the run.
        step: number of the step, from 1 on; a number or an integer tensor.
        host: number of the host that draws by itself for its part of the batch.
    """
    start = tf.constant([host, seed], tf.int32)
    # The algorithm is named: the default one depends on the device.
    return tf.random.fold_in(start, tf.cast(step, tf.int32), alg="philox")


def of_replica(seed):
    """Returns this replica's own seed of a step; call it inside `strategy.run`."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return seed
    return tf.random.fold_in(seed, context.replica_id_in_sync_group, alg="philox")
