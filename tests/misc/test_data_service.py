import signal
import socket

import numpy as np
import pytest
import tensorflow as tf

from eusr.dataloaders import paired_images
from misc import data_service
from misc.images import image_files
from misc.training.settings import Settings
from tests import commands


@pytest.fixture
def flags(tmp_path):
    for number, shape in enumerate([(40, 48, 3), (56, 44, 3)]):
        pixels = np.random.default_rng(number).integers(0, 256, shape, np.uint8)
        image_files.write_image(tmp_path / f"HR/{number}.png", pixels)
    return Settings(
        {
            "data_truth_path": str(tmp_path / "HR"),
            "data_skip_broken": False,
            "data_edges": "mirror",
            "batch_size": 3,
            "input_patch_size": 5,
            "data_cached": None,
            "data_cache_path": str(tmp_path / "cache"),
            "data_service": None,
            "scales": [2, 4],
            "data_input_path": None,
            "data_validation_count": None,
            "data_validation_input_path": None,
            "data_validation_truth_path": None,
        }
    )


@pytest.fixture
def service():
    """A function that starts a dispatcher and workers and returns the dispatcher's address."""
    servers = []

    def start(workers):
        dispatcher, target = data_service.start_dispatcher()
        servers.append(dispatcher)
        servers.extend(data_service.start_worker(target)[0] for _ in range(workers))
        return target

    yield start
    # Workers first: one whose dispatcher is gone waits for it before it stops.
    while servers:
        servers.pop()


def contents(dataset, count):
    return [
        batch["low"].numpy().tobytes() + batch["high"].numpy().tobytes()
        for batch in dataset.take(count)
    ]


@pytest.mark.slow
def test_workers_make_the_batches_of_a_local_run(flags, service):
    local = contents(paired_images.create_data(flags).training_batches(7, first_step=4), 30)
    flags |= {"data_service": service(workers=2)}
    served = paired_images.create_data(flags).training_batches(7, first_step=4)
    assert served.element_spec["low"].shape == (3, 5, 5, 3)
    batches = contents(served, 12)
    assert len(set(batches)) == 12
    # Two workers may be a few steps ahead of each other.
    assert set(batches) <= set(local)


def test_one_worker_keeps_the_order(flags, service):
    local = contents(paired_images.create_data(flags).training_batches(7), 6)
    flags |= {"data_service": service(workers=1)}
    assert contents(paired_images.create_data(flags).training_batches(7), 6) == local


def test_several_training_processes_are_refused(flags, service):
    flags |= {"data_service": service(workers=0)}
    flags |= {"batch_size": 4}
    with pytest.raises(ValueError, match=r"one training process.*2 processes"):
        paired_images.create_data(flags).training_batches(0, shard=(0, 2))


def test_worker_without_dispatcher():
    with pytest.raises(ValueError, match="--dispatcher_address"):
        data_service.start_worker(None)


def reaches(address, target):
    """Returns whether a connection to the target's port at another address is accepted."""
    try:
        socket.create_connection((address, int(target.rpartition(":")[2])), timeout=10).close()
    except ConnectionRefusedError:
        return False
    return True


def test_servers_listen_on_the_address_that_they_are_told_alone():
    # All of 127.0.0.0/8 is this host, so that an address stands for another network here.
    servers = [data_service.start_dispatcher()]
    servers.append(data_service.start_dispatcher("127.0.0.2"))
    servers.append(data_service.start_worker(servers[1][1], "127.0.0.3"))
    found = [[reaches(f"127.0.0.{n}", target) for n in (1, 2, 3)] for _, target in servers]
    assert found == [[True, False, False], [False, True, False], [False, False, True]]
    dataset = tf.data.Dataset.range(9).apply(
        data_service.service.distribute("parallel_epochs", servers[1][1])
    )
    assert sorted(dataset.as_numpy_iterator()) == list(range(9))


def test_all_addresses_are_told_by_name():
    dispatcher, target = data_service.start_dispatcher("0.0.0.0")
    assert all(reaches(address, target) for address in ("127.0.0.1", "127.0.0.2"))
    worker, _ = data_service.start_worker(target, "0.0.0.0", address="127.0.0.2")
    dataset = tf.data.Dataset.range(9).apply(
        data_service.service.distribute("parallel_epochs", target)
    )
    assert sorted(dataset.as_numpy_iterator()) == list(range(9))
    del worker, dispatcher
    with pytest.raises(ValueError, match="--address"):
        data_service.start_worker(target, "0.0.0.0")


def test_addresses_that_cannot_be_had_are_named():
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    with taken, pytest.raises(ValueError, match=f"--host=127.0.0.1 --port={port}: .* in use"):
        data_service.start_dispatcher("127.0.0.1", port)
    with pytest.raises(ValueError, match="cannot listen there"):
        data_service.start_dispatcher("198.51.100.7")  # of no machine: RFC 5737


@pytest.mark.slow
def test_commands_serve_until_an_interrupt(flags):
    command = ["-m", "misc.data_service"]
    dispatcher = commands.start(*command, "--dispatcher", "--port=0")
    worker = None
    try:
        target = dispatcher.stdout.readline().split()[-1]
        worker = commands.start(
            *command, "--worker", f"--dispatcher_address={target}", "--host=127.0.0.1"
        )
        assert target.split("://")[1] in worker.stdout.readline()
        local = contents(paired_images.create_data(flags).training_batches(7), 4)
        flags |= {"data_service": target}
        assert contents(paired_images.create_data(flags).training_batches(7), 4) == local
        for process in (worker, dispatcher):
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 128 + signal.SIGINT
            assert errors == "Stopped by SIGINT.\n"
    finally:
        for process in filter(None, (worker, dispatcher)):
            process.kill()
            process.wait()
