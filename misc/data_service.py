"""Command: runs a dispatcher or a worker of a tf.data service, which does a trainer's input work.

    python -m misc.data_service --dispatcher --host=HOST --port=5050
    python -m misc.data_service --worker --dispatcher_address=HOST:5050 --host=THIS_HOST
    python train.py --data_service=grpc://HOST:5050 --data_cache_path=/shared/folder ...

Start any number of workers, on hosts that see the trainer's --data_cache_path under the same
path. Each command runs until it is interrupted.

Without --host only this machine reaches them. The service knows no passwords and encrypts nothing,
and what trainers send it to run can read and write files: whoever reaches a port can do with this
account what it may. Give it an address in a network of which every machine is trusted.
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import signal

import tensorflow as tf
from absl import flags

from misc.training import listening

service = tf.data.experimental.service


def define_flags():
    """Defines the flags of this command."""
    flags.DEFINE_bool("dispatcher", False, "Be the dispatcher, which hands out the work.")
    flags.DEFINE_bool("worker", False, "Be a worker, which makes batches.")
    flags.DEFINE_integer("port", 0, "Port to listen on; 0 takes a free one.", 0, 65535)
    flags.DEFINE_string("dispatcher_address", None, "HOST:PORT of the dispatcher, for a worker.")
    flags.DEFINE_string(
        "host",
        None,
        "Name or IPv4 address of this machine to listen on, and on no other; "
        f"{listening.EVERYWHERE} is all of them. Whoever reaches it can run TensorFlow programs as "
        "this user. Default: --address, or else localhost.",
    )
    flags.DEFINE_string(
        "address",
        None,
        "Name or address under which trainers reach this worker, where that is not --host.",
    )
    flags.mark_bool_flags_as_mutual_exclusive(["dispatcher", "worker"], required=True)


def start_dispatcher(host="localhost", port=0):
    """Starts a dispatcher that listens on one address; port 0 is a free one.

    Returns:
        (server, target): the target is what trainers are given.

    Raises:
        ValueError: when it cannot listen there.
    """

    def create(port_of_workers, port):
        del port_of_workers  # they are told
        return service.DispatchServer(service.DispatcherConfig(port=port, protocol="grpc"))

    server, port = _start(create, host, port)
    return server, f"grpc://{host}:{port}"


def start_worker(dispatcher_address, host="localhost", port=0, address=None):
    """Starts a worker that listens on one address; port 0 is a free one.

    Args:
        dispatcher_address: `HOST:PORT`, with or without `grpc://`.
        host: name or address of this machine to listen on.
        port: port to listen on.
        address: name or address under which trainers reach it; `None`: `host`.

    Returns:
        (server, target): where trainers are told to find it.

    Raises:
        ValueError: without a dispatcher, without an address that trainers could use, or when it
            cannot listen there.
    """
    if not dispatcher_address:
        raise ValueError("A worker needs the dispatcher: give --dispatcher_address=HOST:PORT")
    if host == listening.EVERYWHERE and not address:
        raise ValueError(f"--host={host} does not say where trainers reach this worker: --address")

    def create(port_of_trainers, port):
        config = service.WorkerConfig(
            dispatcher_address=dispatcher_address.removeprefix("grpc://"),
            worker_address=f"{address or host}:{port_of_trainers}",
            port=port,
            protocol="grpc",
        )
        return service.WorkerServer(config)

    server, port = _start(create, host, port)
    return server, f"grpc://{address or host}:{port}"


def _start(create, host, port):
    """Returns what `create(the port that others see, the port to open)` makes, and its port."""
    if host == listening.EVERYWHERE:
        # TensorFlow replaces %port% by the port that was really taken.
        server = create(port or "%port%", port)
        return server, server._server.bound_port()
    # TensorFlow opens its port on all addresses: a free one, and only until it is moved.
    own = listening.open_socket(host, port)
    port = own.getsockname()[1]
    server = create(port, 0)
    listening.hand_over(own, server._server.bound_port())
    return server, port


def main(settings):
    """Runs the command."""
    host = settings.host or settings.address or "localhost"
    if settings.dispatcher:
        server, target = start_dispatcher(host, settings.port)
        print(f"Dispatcher: {target}", flush=True)
    else:
        dispatcher = settings.dispatcher_address
        server, target = start_worker(dispatcher, host, settings.port, settings.address)
        print(f"Worker of {dispatcher}: {target}", flush=True)
    while server:  # `server.join()` would keep signals waiting
        signal.pause()


if __name__ == "__main__":
    define_flags()
    entry_point.run(main, with_model=False)
