"""Where training runs: one device, all devices of a host, or several hosts."""

import os
import pathlib
import shutil
import zlib

import tensorflow as tf

STRATEGIES = ("none", "mirrored", "multi_worker")


def create_strategy(name, devices=None):
    """Returns the `tf.distribute.Strategy` of that name.

    Args:
        name: "none": the first device; "mirrored": all visible GPUs of this host (or its CPU);
            "multi_worker": the hosts of TF_CONFIG, to be created before any use of TensorFlow.
        devices: devices of "mirrored", such as ["CPU:0", "CPU:1"]; `None` for all.

    Raises:
        ValueError: for an unknown name, or "multi_worker" without TF_CONFIG.
    """
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(devices)
    if name == "multi_worker":
        if not os.environ.get("TF_CONFIG"):
            raise ValueError(
                "--distribute=multi_worker needs the environment variable TF_CONFIG, for example "
                '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
                '"task": {"type": "worker", "index": 0}}. It is not set.'
            )
        return tf.distribute.MultiWorkerMirroredStrategy()
    raise ValueError(f"--distribute={name} is unknown. Known: {', '.join(STRATEGIES)}")


def describe_devices(name):
    """Returns one line about the devices that the strategy of that name uses on this host."""
    names = [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    if names:
        used = names[:1] if name == "none" else names
        rest = len(names) - len(used)
        more = f" ({rest} more are there: --distribute=mirrored uses all)" if rest else ""
        return f"Device: {', '.join(used)}{more}"
    line = f"Device: CPU, {_count_processors()} processors"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not _has_nvidia_driver() or visible in ("", "-1"):
        return line
    among = "" if visible is None else f" among CUDA_VISIBLE_DEVICES={visible}"
    return (
        f"{line}. TensorFlow finds no GPU{among}, though NVIDIA's driver is there: "
        "pip install 'tensorflow[and-cuda]' brings the libraries that it needs"
    )


def _count_processors():
    # Those that this process may use.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _has_nvidia_driver():
    return pathlib.Path("/proc/driver/nvidia").exists() or bool(shutil.which("nvidia-smi"))


def is_chief(strategy):
    """Returns whether this process is the one that writes results."""
    resolver = strategy.cluster_resolver
    return resolver is None or resolver.task_id in (None, 0)


def describe_worker(strategy, method):
    """Returns one line with this process's number and a checksum of its weights.

    The hosts of a run hold equal weights at every step, so their checksums must be equal.
    """
    checksum = 0
    for variable in method.variables():
        checksum = zlib.crc32(variable.numpy().tobytes(), checksum)
    resolver = strategy.cluster_resolver
    workers = len(resolver.cluster_spec().as_dict()["worker"])
    return f"Worker {resolver.task_id} of {workers}: checksum of the weights {checksum:08x}"


def distribute(strategy, create_shard):
    """Returns an iterable of batches, ready for `strategy.run`.

    `create_shard(index, count)` returns the `tf.data.Dataset` of the parts of the batches that host
    `index` of `count` works on; a ValueError says that replicas cannot divide them.
    """
    if strategy.num_replicas_in_sync == 1:
        return create_shard(0, 1)

    def create_for_host(context):
        hosts = context.num_input_pipelines
        replicas = strategy.num_replicas_in_sync // hosts
        shard = create_shard(context.input_pipeline_id, hosts)
        if replicas == 1:
            return shard
        # The replicas of a host take their parts in turn from one dataset.
        return shard.flat_map(
            lambda batch: tf.data.Dataset.from_tensor_slices(
                {name: _split_rows(value, replicas) for name, value in batch.items()}
            )
        )

    return strategy.distribute_datasets_from_function(create_for_host)


def _split_rows(value, parts):
    rows = value.shape[0]
    if rows is None or rows % parts:
        raise ValueError(f"--batch_size must be divisible by the number of devices, {parts}.")
    return tf.reshape(value, tf.concat([[parts, rows // parts], tf.shape(value)[1:]], 0))
