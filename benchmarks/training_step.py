"""How long is a training step: with real input, with damage, in bfloat16, and beside PyTorch?

    python -m benchmarks.training_step            # all questions
    python -m benchmarks.training_step input      # one of: input, damage, precision, pytorch

Each line ends with a ratio of two times that were measured in turn, in one run.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import functools
import subprocess
import sys
import time

import keras
import numpy as np
import tensorflow as tf

import degradations
from eusr import network, pairs, patches
from eusr.models.eusr import EUSR
from misc.images import sample_data

REPEATS = 8


def create_method(scales, features, shared_blocks, precision="float32", damage=None):
    keras.config.set_dtype_policy(precision)
    generator = network.Generator(scales, features, shared_blocks)
    optimizer = keras.optimizers.Adam(1e-4, epsilon=1e-8)
    keras.config.set_dtype_policy("float32")
    return EUSR(generator, optimizers={"generator": optimizer}, damage=damage)


def random_batch(batch_size, patch_size, scale):
    random = np.random.default_rng(0)
    shapes = {"low": patch_size, "high": patch_size * scale}
    return {
        name: tf.constant(random.uniform(0, 255, (batch_size, side, side, 3)), tf.float32)
        for name, side in shapes.items()
    }


def seconds(function, clock=time.perf_counter):
    start = clock()
    function()
    return clock() - start


def compile_step(method):
    step = tf.function(method.train_step)
    seed = tf.constant([0, 1])
    return lambda batch: step(batch, seed)["loss"].numpy()


def measure_input():
    """A step that takes its batch from the loader, against one on a batch that is there."""
    method = create_method((2,), 64, 8)
    step = compile_step(method)
    photos = pairs.pairs_from_arrays(sample_data.sample_photos("train"), [2])
    store = pairs.build_store(photos, [2], "mirror", cached=True, cache_path=None)
    batches = iter(patches.PatchSampler(store, [2], 48, 16, seed=0).local_batches())
    fixed = next(batches)
    step(fixed)
    step(next(batches))
    loaded, alone = [], []
    for _ in range(REPEATS):
        alone.append(seconds(lambda: step(fixed)))
        loaded.append(seconds(lambda: step(next(batches))))
    ratio = np.median(np.divide(loaded, alone))
    print(
        f"EUSR x2, 64 features, 8 blocks, batch 16 of 48x48: fixed batch {min(alone):.3f} s, "
        f"with input {min(loaded):.3f} s, ratio {ratio:.3f} (goal: at most 1.05)"
    )


def measure_damage():
    """A step of the size of `eusr_photo` with --degradations on the device, against one without.

    Processor time, which other load on the machine disturbs less than time on the wall.
    """
    for text in ("jpeg:30-95/noise:0-25", "blur:0-2,p=0.5|noise:0-25,p=0.5|jpeg:30-95,p=0.7"):
        for scale in (1, 2, 4):
            batch = random_batch(16, 48, scale)
            layers = None, degradations.parse(text)
            steps = [compile_step(create_method((scale,), 32, 8, damage=one)) for one in layers]
            for step in steps:
                step(batch)
            times = [
                [seconds(functools.partial(step, batch), time.process_time) for step in steps]
                for _ in range(REPEATS)
            ]
            plain, damaged = np.min(times, axis=0)
            print(
                f"EUSR x{scale}, 32 features, 8 blocks, batch 16 of 48x48, {text}: "
                f"{damaged:.3f} s, without {plain:.3f} s, ratio {damaged / plain:.3f} "
                "(goal: at most 1.15)",
                flush=True,
            )


def measure_precision():
    """mixed_bfloat16 against float32; only CPUs with AMX-BF16 gain, and only with many features."""
    for features, blocks, patch in ((64, 32, 48), (32, 8, 24), (16, 4, 24)):
        batch = random_batch(4, patch, 2)
        steps = {
            precision: compile_step(create_method((2,), features, blocks, precision))
            for precision in ("float32", "mixed_bfloat16")
        }
        times = {precision: [] for precision in steps}
        for step in steps.values():
            step(batch)
        for _ in range(3):
            for precision, step in steps.items():
                times[precision].append(seconds(functools.partial(step, batch)))
        full, mixed = (min(times[precision]) for precision in steps)
        print(
            f"EUSR x2, {features} features, {blocks} blocks, batch 4 of {patch}x{patch}: float32 "
            f"{full:.3f} s, mixed_bfloat16 {mixed:.3f} s, {full / mixed:.2f} times as fast"
        )


def measure_pytorch():
    """The published network's x2 step against PyTorch eager, one thread each, in turn.

    Processor time, which other load on the machine disturbs less than time on the wall.
    """
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-m", "benchmarks.training_step", f"{name}-worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("tensorflow", "pytorch")
    }

    def ask(process):
        process.stdin.write("step\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    times = {name: [] for name in processes}
    for process in processes.values():
        ask(process)
    for _ in range(4):
        for name, process in processes.items():
            times[name].append(ask(process))
    for process in processes.values():
        process.stdin.close()
        process.wait()
    ours, theirs = min(times["tensorflow"]), min(times["pytorch"])
    print(
        f"EUSR x2, 64 features, 32 blocks, batch 4 of 48x48, one thread: ours {ours:.2f} s, "
        f"PyTorch eager channels_last {theirs:.2f} s, ratio {ours / theirs:.2f} (goal: at most 1)"
    )


def serve(step):
    """Answers each line on standard input with the processor time of one step."""
    for _ in sys.stdin:
        print(seconds(step, time.process_time), flush=True)


def tensorflow_worker():
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    step = compile_step(create_method((2,), 64, 32))
    batch = random_batch(4, 48, 2)
    serve(lambda: step(batch))


def pytorch_worker():
    import torch

    torch.set_num_threads(1)
    model = create_pytorch_network(torch, features=64, blocks=32)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    low, high = (
        torch.from_numpy(value.numpy().transpose(0, 3, 1, 2)).contiguous(
            memory_format=torch.channels_last
        )
        for value in random_batch(4, 48, 2).values()
    )

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = (model(low) - high).abs().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    serve(step)


def create_pytorch_network(torch, features, blocks):
    """The x2 network with the same layers."""
    nn = torch.nn

    class Residual(nn.Module):
        def __init__(self, *layers):
            super().__init__()
            self.layers = nn.Sequential(*layers)

        def forward(self, x):
            return x + self.layers(x)

    def convolution(kernel_size, outputs=features, inputs=features):
        return nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2)

    def block(kernel_size):
        return Residual(convolution(kernel_size), nn.ReLU(), convolution(kernel_size))

    def module(count):
        return Residual(*[block(3) for _ in range(count)], convolution(3))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            mean = torch.tensor(network.RGB_MEAN).reshape(1, 3, 1, 1)
            self.register_buffer("mean", mean)
            self.first = nn.Sequential(convolution(3, inputs=3), block(5), block(5), module(blocks))
            self.modules_ = nn.ModuleList([module(1) for _ in range(4)])
            self.last = convolution(3, outputs=3)

        def forward(self, x):
            x = self.first(x - self.mean)
            positions = []
            for item in self.modules_:
                x = item(x)
                positions.append(x)
            # pixel_shuffle wants the sub-pixel position as the fastest channel index.
            x = torch.stack(positions, 2).flatten(1, 2)
            return self.last(nn.functional.pixel_shuffle(x, 2)) + self.mean

    model = Network()
    count = sum(p.numel() for p in model.parameters())
    assert count == 3_256_835, count
    return model


QUESTIONS = {
    "input": measure_input,
    "damage": measure_damage,
    "precision": measure_precision,
    "pytorch": measure_pytorch,
    "tensorflow-worker": tensorflow_worker,
    "pytorch-worker": pytorch_worker,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or ["input", "damage", "precision", "pytorch"]:
        QUESTIONS[name]()
