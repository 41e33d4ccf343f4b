import keras
import pytest
import tensorflow as tf

from misc.images import pixel_store
from misc.training import memory

BATCH, SIDE, FEATURES = 3, 10, 7


@pytest.fixture
def step():
    """A training step of two convolutions with ReLU, and its batch."""
    network = keras.Sequential(
        [
            keras.layers.Conv2D(FEATURES, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(1, 3, padding="same"),
        ]
    )
    network.build([None, SIDE, SIDE, 3])

    @tf.function
    def run(batch, seed):
        del seed
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(network(batch["image"]) ** 2)
        return tape.gradient(loss, network.trainable_variables)

    return run, ({"image": tf.zeros([BATCH, SIDE, SIDE, 3])}, tf.constant([0, 1]))


def test_what_the_backward_pass_reads_is_counted(step):
    run, arguments = step
    kept = memory.count_kept_bytes(run.get_concrete_function(*arguments).graph)
    # The output of the first convolution, with its ReLU, and that of the second.
    expected = 4 * BATCH * SIDE**2 * (FEATURES + 1)
    assert expected <= kept <= 1.2 * expected


def test_a_step_beyond_the_memory_is_refused_and_others_run(step, monkeypatch):
    run, arguments = step
    checked = memory.checked(run, "--batch_size=3")
    assert len(checked(*arguments)) == 4
    assert run.experimental_get_tracing_count() == 1
    monkeypatch.setattr(pixel_store, "available_memory", lambda: 5000)
    checked(*arguments)  # looked at once
    with pytest.raises(ValueError, match=r"--batch_size=3: what gradients .* Available: "):
        memory.checked(run, "--batch_size=3")(*arguments)


def test_batches_beyond_the_memory_are_refused(monkeypatch):
    monkeypatch.setattr(pixel_store, "available_memory", lambda: 2**30)
    memory.check_batch(2**26, "--batch_size=1")
    with pytest.raises(ValueError, match=r"--batch_size=2: .* 1.5 GiB of memory. Available: 1 GiB"):
        memory.check_batch(2**27, "--batch_size=2")
    monkeypatch.setattr(pixel_store, "available_memory", lambda: None)
    memory.check_batch(2**60, "--batch_size=3")
