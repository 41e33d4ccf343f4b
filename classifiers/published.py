"""Learning rates and weights of the divergence that were published for expert training.

Marie, Desnos, Morin & Zhang, Electronic Imaging 2022, and the authors' code.
"""

from classifiers import levels

# Images of a step.
BATCH_SIZES = {"resnet50": 384, "mnasnet1_0": 320}
CLEAN = ""
# {network: {degradation: (rate of fine-tuning, rate of expert training, alpha)}}
_RESNET50 = {
    CLEAN: (1e-6, 1e-6, 1e-3),
    "jpeg:75": (5e-6, 5e-6, 5e-3),
    "jpeg:10": (1e-5, 1e-5, 1e-2),
    "jpeg:5": (5e-6, 5e-6, 1e-2),
    "jpeg2000:75": (5e-6, 5e-6, 1e-2),
    "jpeg2000:200": (5e-6, 1e-5, 1e-2),
    "jpeg2000:400": (5e-6, 1e-5, 1e-2),
    "bpg:41": (5e-6, 5e-6, 1e-2),
    "bpg:46": (5e-6, 5e-6, 1e-2),
    "bpg:51": (5e-6, 5e-6, 1e-2),
}
TABLE = {"resnet50": _RESNET50, "mnasnet1_0": dict.fromkeys(_RESNET50, (1e-5, 1e-5, 1e-2))}
KNOWN = (
    f"Known are {' and '.join(TABLE)} with clean images, "
    f"{', '.join(text for text in _RESNET50 if text)}."
)
# Settings that leave a degradation the same.
_IRRELEVANT = ("name", "p", "size", "implementation", "differentiable", "size_estimate", "program")


def find(network, texts, fine_tuning):
    """Returns the published (learning rate, alpha), `None` where there are none.

    Args:
        network: name of the network.
        texts: list of at most one degradation, as `degradations.parse` takes it.
        fine_tuning: whether the divergence is left out.
    """
    wanted = _identity(texts[0]) if texts else None
    for text, (rate, expert_rate, alpha) in TABLE.get(network, {}).items():
        if wanted == (_identity(text) if text else None):
            return (rate, 0.0) if fine_tuning else (expert_rate, alpha)
    return None


def _identity(text):
    """Returns what tells a degradation from another one, however it is written."""
    (layer,) = levels.training_layers([text], 224)
    settings = layer.get_config().items()
    return type(layer), sorted((n, repr(v)) for n, v in settings if n not in _IRRELEVANT)
