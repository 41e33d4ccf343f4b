"""The part of `tests.references.make` that runs with KERAS_BACKEND=jax."""

import json

import jax
import keras
import numpy as np

from classifiers import losses, networks
from classifiers.networks import pytorch_weights
from tests import references
from tests.classifiers.networks import examples


def step():
    """Returns a sample of the loss, every gradient and all statistics of a training step."""
    stored = json.loads(references.load("training")["state"].tobytes())
    network = networks.build("cifar_resnet20", 10)
    pytorch_weights.assign(network, examples.create_state(**stored), "example")

    def compute_loss(trained, others):
        images = examples.training_images()
        logits, others = network.stateless_call(trained, others, images, training=True)
        return losses.cross_entropy(examples.LABELS, logits), others

    variables = network.trainable_variables, network.non_trainable_variables
    values = [[variable.value for variable in part] for part in variables]
    (loss, others), gradients = jax.value_and_grad(compute_loss, has_aux=True)(*values)
    names = {v.path: (n, axes) for n, (v, axes) in pytorch_weights.tensor_names(network).items()}
    found = {"loss": references.sample(loss)}
    for part, results in zip(variables, (gradients, others), strict=True):
        for variable, value in zip(part, results, strict=True):
            name, axes = names[variable.path]
            found[name] = references.sample(np.transpose(value, np.argsort(axes)))
    return found


def main():
    assert keras.backend.backend() == "jax"
    from tests.degradations import test_stored_references
    from tests.eusr import test_stored_jax

    stored = {f"step/{name}": value for name, value in step().items()}
    stored |= {f"eusr/{name}": value for name, value in test_stored_jax.results().items()}
    stored |= test_stored_references.results()
    references.save("jax", stored)


if __name__ == "__main__":
    main()
