"""Command: runs a dispatcher or a worker of a tf.data service, which does a trainer's input work.

    python -m misc.data_service --dispatcher --port=5050
    python -m misc.data_service --worker --dispatcher_address=HOST:5050 --address=THIS_HOST
    python train.py --data_service=grpc://HOST:5050 --data_cache_path=/shared/folder ...

Start any number of workers, on hosts that see the trainer's --data_cache_path under the same
path. Each command runs until it is interrupted.
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import signal

import tensorflow as tf
from absl import flags


def define_flags():
    """Defines the flags of this command."""
    flags.DEFINE_bool("dispatcher", False, "Be the dispatcher, which hands out the work.")
    flags.DEFINE_bool("worker", False, "Be a worker, which makes batches.")
    flags.DEFINE_integer(
        "port", 0, "Port to listen on; 0 takes a free one.", lower_bound=0, upper_bound=65535
    )
    flags.DEFINE_string("dispatcher_address", None, "HOST:PORT of the dispatcher, for a worker.")
    flags.DEFINE_string(
        "address", "localhost", "Name or address under which trainers reach this worker."
    )
    flags.mark_bool_flags_as_mutual_exclusive(["dispatcher", "worker"], required=True)


def start_dispatcher(port=0):
    """Starts and returns a dispatcher, whose `target` is what trainers are given."""
    return tf.data.experimental.service.DispatchServer(
        tf.data.experimental.service.DispatcherConfig(port=port, protocol="grpc")
    )


def start_worker(dispatcher_address, address="localhost", port=0):
    """Starts and returns a worker, which trainers reach under `address`; port 0 is a free one.

    The dispatcher's address is `HOST:PORT`, with or without `grpc://`; none is a ValueError.
    """
    if not dispatcher_address:
        raise ValueError("A worker needs the dispatcher: give --dispatcher_address=HOST:PORT")
    # TensorFlow replaces %port% by the port that was really taken.
    config = tf.data.experimental.service.WorkerConfig(
        dispatcher_address=dispatcher_address.removeprefix("grpc://"),
        worker_address=f"{address}:{port or '%port%'}",
        port=port,
        protocol="grpc",
    )
    return tf.data.experimental.service.WorkerServer(config)


def main(settings):
    """Runs the command."""
    if settings.dispatcher:
        server = start_dispatcher(settings.port)
        print(f"Dispatcher: {server.target}", flush=True)
    else:
        server = start_worker(settings.dispatcher_address, settings.address, settings.port)
        print(f"Worker of {settings.dispatcher_address}", flush=True)
    # A server keeps nothing that an interrupt could damage. Python's own handling of it would wait
    # for join() to return, and an orderly stop waits for the other side, which may be gone.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    server.join()


if __name__ == "__main__":
    define_flags()
    entry_point.run(main, with_model=False)
