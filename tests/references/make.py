"""Stores what PyTorch, JAX and imagecorruptions compute, for tests that have none of them.

    python -m tests.references.make [networks] [training] [files] [corruptions] [jax]

Needs torch, torchvision, efficientnet_pytorch, jax and imagecorruptions beside the packages of the
lock file.
"""

import argparse
import json
import os
import subprocess
import sys

import numpy as np
from PIL import Image

from tests import references
from tests.classifiers.networks import examples


def make_networks():
    """Logits of all networks, and from what their weights follow."""
    from tests.classifiers.networks import torch_references

    stored = {}
    for name in examples.SIZES:
        description, logits = torch_references.describe(name)
        stored |= {name: logits, f"{name}/state": encode(description)}
        spread = np.ptp(logits, axis=0).max() / np.abs(logits).max()
        assert spread > 0.1, f"{name}: the comparison would not see the images"
    references.save("networks", stored)


def encode(description):
    return np.frombuffer(json.dumps(description).encode(), np.uint8)


def make_training():
    """Stages, a training step and a few steps more of CIFAR ResNet20; optimizers and losses."""
    from tests.classifiers.networks import torch_references

    stored = {"state": encode(torch_references.example_resnet()[1])}
    for kind in ("stages", "step"):
        results = getattr(torch_references, kind)()
        stored |= {f"{kind}/{name}": references.sample(v) for name, v in results.items()}
    stored |= {f"course/{name}": torch_references.course(name) for name in examples.RATES}
    stored |= torch_references.descents() | torch_references.losses()
    references.save("training", stored)


def make_files():
    """Files of PyTorch, and what is in them."""
    from tests.classifiers.networks import torch_files

    stored = {f"file/{name}": np.frombuffer(c, np.uint8) for name, c in torch_files.files().items()}
    stored |= {f"tensor/{name}": v for name, v in torch_files.expected_tensors().items()}
    references.save("pytorch_files", stored)


def make_corruptions():
    """Deterministic corruptions of a photo, and statistics of those that draw."""
    from benchmarks import imagecorruptions_peer
    from tests.degradations import test_stored_references as tests

    peer = imagecorruptions_peer.load()
    stored = {}
    photo = Image.fromarray(tests.photo())
    for name in tests.DETERMINISTIC:
        results = [np.uint8(getattr(peer, name)(photo, level)) for level in range(1, 6)]
        stored[name] = np.stack(results)
    photo = Image.fromarray(tests.photo(tests.RANDOM_SIDE))
    for text in tests.RANDOM:
        name, level = text.split("@")
        np.random.seed(1)  # noqa: NPY002 - the peer draws from the global generator
        draws = [np.uint8(getattr(peer, name)(photo, int(level))) for _ in range(tests.DRAWS)]
        stored[text] = tests.statistics(draws)
    references.save("corruptions", stored)


def make_jax():
    """The same on JAX: degradations, 4PP-EUSR's networks, a training step of ResNet20."""
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.references.make_jax"]
    subprocess.run(command, env=environment, check=True)


PARTS = {
    name.removeprefix("make_"): part for name, part in globals().items() if name[:5] == "make_"
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=list(PARTS))
    for part in parser.parse_args().parts:
        PARTS[part]()
        print(f"{part}: done", flush=True)
