import signal

import pytest
import tensorflow as tf

from misc.training import entry_point
from tests import commands, forks


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_with_a_line_and_without_leftovers(number, tmp_path):
    program = f"""
import time
from misc.images import files
from misc.training import entry_point

def main(settings):
    with files.write_atomically({str(tmp_path / "result")!r}) as temporary:
        print("started", flush=True)
        time.sleep(60)

entry_point.run(main, with_model=False)
"""
    process = commands.start("-c", program)
    assert process.stdout.readline() == "started\n"
    assert list(tmp_path.iterdir())
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert (output, errors) == ("", f"Stopped by {number.name}.\n")
    assert process.returncode == 128 + number
    assert not list(tmp_path.iterdir())


def test_errors_inside_a_dataset_are_shown_without_tensorflows_wrapping():
    def fail(number):
        raise ValueError(f"photo{number}.jpg: broken file\nsecond line")

    dataset = tf.data.Dataset.range(3).map(lambda i: tf.numpy_function(fail, [i], tf.float32))
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        next(iter(dataset))
    message = entry_point._message_from_dataset(caught.value)
    assert message == "photo0.jpg: broken file\nsecond line"


def test_errors_of_tensorflow_itself_are_not_taken_for_ours():
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        tf.reshape(tf.zeros(3), [2])
    assert entry_point._message_from_dataset(caught.value) is None


def test_errors_inside_compiled_functions_are_shown_without_their_places():
    message = """in user code:

    File "train.py", line 1, in run_step  *
        scalars = step(batch)
    File "/x/copies.py", line 2, in __call__  *
        raise ValueError(

    ValueError: --batch_size must be even.
    Received: 3
"""
    expected = "--batch_size must be even.\nReceived: 3"
    assert entry_point._without_trace(message) == expected
    assert entry_point._without_trace("a: b") == "a: b"


def test_full_disks_and_memories_are_one_line(tmp_path):
    checkpoint = tf.train.Checkpoint(weights=tf.Variable(tf.zeros([2000])))
    with forks.full_disk(1000), pytest.raises(tf.errors.OpError) as caught:
        checkpoint.write(str(tmp_path / "model"))
    message = entry_point._message(caught.value)
    assert message.startswith(f"{tmp_path}/model_temp/part-00000-of-00001.data")
    assert message.endswith(" cannot be written: File too large")
    error = tf.errors.ResourceExhaustedError(
        None, None, "OOM when allocating tensor with shape[9,9]\nand"
    )
    message = entry_point._message(error)
    assert message.startswith("The memory does not suffice for one tensor with shape[9,9].")
    assert entry_point._message(tf.errors.OutOfRangeError(None, None, "End")) is None


def test_names_that_are_no_text_are_printed():
    program = """
import os
from misc.training import entry_point
entry_point.run(lambda settings: print(os.fsdecode(b"caf\\xe9 \\xc3\\xa9")), with_model=False)
"""
    assert commands.run("-c", program) == "caf\\udce9 é\n"
