"""How long is a training step of ResNet56, batch 128, beside PyTorch's?

    python -m benchmarks.classifier_step

The same network, batch and optimizer (SGD with momentum and L2 weight decay), one thread each,
eager PyTorch in channels_last. Processor time, which other load on the machine disturbs less than
time on the wall; the two take turns.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import subprocess
import sys
import time

import numpy as np

BATCH = 128
ROUNDS = 4


def random_batch():
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (BATCH, 32, 32, 3)).astype(np.float32)
    return images, random.integers(0, 10, BATCH).astype(np.int32)


def tensorflow_worker():
    import tensorflow as tf

    from classifiers import networks
    from classifiers.models.classifier import Classifier
    from classifiers.training_copies import TrainingCopies
    from misc.training import optimizers

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()  # as train.py does without a GPU
    method = Classifier(
        networks.build("cifar_resnet56", 10),
        copies=TrainingCopies(flip=False, padding=0),
        optimizers={"classifier": optimizers.SGD(0.1, 0.9, 1e-4)},
    )
    images, labels = random_batch()
    batch = {"image": tf.constant(images), "label": tf.constant(labels)}
    step = tf.function(method.train_step)
    serve(lambda: step(batch, tf.constant([0, 1]))["loss"].numpy())


def pytorch_worker():
    import torch

    torch.set_num_threads(1)
    network = create_pytorch_network(torch).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    images, labels = random_batch()
    images = torch.from_numpy(images.transpose(0, 3, 1, 2))
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(labels).long()

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(network((images - 120) / 65), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    serve(step)


def create_pytorch_network(torch):
    """The ResNet56 with the same layers."""
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, inputs, features, stride):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(inputs, features, 3, stride, 1, bias=False),
                nn.BatchNorm2d(features),
                nn.ReLU(),
                nn.Conv2d(features, features, 3, 1, 1, bias=False),
                nn.BatchNorm2d(features),
            )
            self.shortcut = nn.Identity()
            if stride > 1:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(inputs, features, 1, stride, bias=False), nn.BatchNorm2d(features)
                )

        def forward(self, x):
            return nn.functional.relu(self.body(x) + self.shortcut(x))

    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    inputs = 16
    for features in (16, 32, 64):
        for number in range(9):
            layers.append(Block(inputs, features, 2 if number == 0 and features > 16 else 1))
            inputs = features
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 10)]
    return nn.Sequential(*layers)


def serve(step):
    """Answers each line on standard input with the processor time of one step."""
    for _ in sys.stdin:
        start = time.process_time()
        step()
        print(time.process_time() - start, flush=True)


def measure():
    workers = {
        name: subprocess.Popen(
            [sys.executable, "-m", "benchmarks.classifier_step", name],
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

    times = {name: [] for name in workers}
    for number in range(ROUNDS + 1):
        for name, process in workers.items():
            seconds = ask(process)
            if number:  # the first step compiles
                times[name].append(seconds)
    for process in workers.values():
        process.stdin.close()
        process.wait()
    ours, theirs = (float(np.median(times[name])) for name in ("tensorflow", "pytorch"))
    print(
        f"ResNet56 training step, batch {BATCH} of 32x32, one thread: ours {ours:.2f} s, PyTorch "
        f"eager channels_last {theirs:.2f} s, ratio {ours / theirs:.2f} (goal: at most 1)"
    )


if __name__ == "__main__":
    roles = {"tensorflow": tensorflow_worker, "pytorch": pytorch_worker}
    roles.get(sys.argv[1] if len(sys.argv) > 1 else "", measure)()
