"""What `benchmarks.device` needs of TensorFlow or JAX: compilation, devices, memory."""

import contextlib
import resource

import keras

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    def version():
        return tf.__version__

    def accelerator():
        """Returns the name of the first accelerator, `None` without one."""
        found = tf.config.list_physical_devices("GPU")
        details = tf.config.experimental.get_device_details(found[0]) if found else {}
        return details.get("device_name", found[0].name) if found else None

    def compiles():
        """Returns whether XLA compiles; on CPUs it is slower for convolutions."""
        return accelerator() is not None

    def compile(function):
        return tf.function(function, jit_compile=compiles(), autograph=False)

    def gradient(function):
        """Returns the gradient of a function by its first argument."""

        def compute(x, *others):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = function(x, *others)
            return tape.gradient(value, x)

        return compute

    def wait(result):
        # Copies one number: the device has to be done by then.
        if tf.is_tensor(result):
            tf.reshape(result, [-1])[0].numpy()

    def on_cpu():
        return tf.device("CPU:0")

    def _memory():
        return tf.config.experimental.get_memory_info("GPU:0")["peak"]

elif keras.backend.backend() == "jax":
    import jax

    def version():
        return jax.__version__

    def accelerator():
        """Returns the name of the first accelerator, `None` without one."""
        device = jax.devices()[0]
        return None if device.platform == "cpu" else device.device_kind

    def compiles():
        """Returns whether XLA compiles."""
        return True

    compile = jax.jit

    def gradient(function):
        """Returns the gradient of a function by its first argument."""
        return jax.grad(function)

    def wait(result):
        jax.block_until_ready(result)

    @contextlib.contextmanager
    def on_cpu():
        with jax.default_device(jax.devices("cpu")[0]):
            yield

    def _memory():
        return jax.devices()[0].memory_stats()["peak_bytes_in_use"]

else:
    raise ImportError(f"KERAS_BACKEND is tensorflow or jax. Received: {keras.backend.backend()}")


def peak_memory():
    """Returns the largest memory so far in MB: the accelerator's, else this process's."""
    if accelerator() is not None:
        return _memory() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
