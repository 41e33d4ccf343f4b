"""A vote of several trained classifiers: the Ensemble baseline of FusionDistill; evaluation only.

Each classifier has one vote; a tie is decided by the largest sum of the logits over all classes
(Daultani & Larochelle, WACV-W 2024).

    python validate.py --model=ensemble --dataloader=cifar10 --data_path=FOLDER \\
        --ensemble_weights=runs/jpeg/best,runs/blur/best,runs/saltpepper/best,runs/noise/best \\
        --degradations={jpeg,blur,saltpepper,noise} --levels=all
"""

import tensorflow as tf
from absl import flags

from classifiers import evaluation as evaluations
from classifiers import flags as classifier_flags
from classifiers import voting
from classifiers.models import classifier
from classifiers.models.classifier import Classifier
from misc.training import common_flags, run_folder

DATALOADER = "digits"
# It has no training: the flag that names the trained models it is made of.
EVALUATION_ONLY = True
WEIGHTS_FLAG = "ensemble_weights"
TINY = {
    "network": "cifar_resnet20",
    "num_classes": 10,
    "evaluation_batch_size": 60,
    "ensemble_size": 3,
}


def define_flags():
    """Defines the flags of the ensemble."""
    classifier_flags.define_network_flags()
    classifier_flags.define_evaluation_flags()
    classifier_flags.define_copies_flags()
    common_flags.define_names(
        "ensemble_weights",
        None,
        "The classifiers: folders or checkpoints of runs, or files of weights.",
        repeats=True,  # one may have several votes
    )
    flags.DEFINE_integer(
        "ensemble_size",
        4,
        "Number of classifiers, where their weights come from one checkpoint of them all.",
        lower_bound=1,
    )


def create_model(flags, training=False):
    """Returns the `Ensemble` of the classifiers that the flags name, which cannot be trained."""
    if training:
        raise ValueError(
            "--model=ensemble cannot be trained: train classifiers, and give --ensemble_weights."
        )
    if flags.ensemble_weights:
        members = [
            classifier.create_trained_network(flags, path, "ensemble_weights")
            for path in flags.ensemble_weights
        ]
    else:
        members = [classifier.create_starting_network(flags) for _ in range(flags.ensemble_size)]
    ensemble = Ensemble(members, evaluations.create(flags, members[0].output_shape[-1]))
    ensemble.metadata = _common_metadata(flags.ensemble_weights or ())
    return ensemble


def _common_metadata(paths):
    """Returns what the first member's run kept of its data, that kept anything."""
    first, metadata = None, {}
    for path in paths:
        found = run_folder.read_metadata(path)
        if not metadata:
            first, metadata = path, found
        elif found and found.get("class_names") != metadata.get("class_names"):
            # Their votes would not add up.
            raise ValueError(f"--ensemble_weights: {path} has other classes than {first}.")
    return metadata


class Ensemble(Classifier):
    """Networks that vote: a list of those of `networks.build`, with the same classes."""

    def __init__(self, members, evaluation=None):
        super().__init__(members[0], evaluation)
        self.members = members
        self.networks = {f"member{number}": member for number, member in enumerate(members)}
        self.export_names = self.export_names | {
            "outputs": {"votes": "output_votes", "logits": "output_logits"}
        }

    def train_step(self, batch, seed):
        """Raises ValueError: there is nothing to train."""
        raise ValueError("An ensemble cannot be trained.")

    def predict(self, images, scale=None):
        """Returns {"votes": `[B, K]` counts, "logits": `[B, K]` sums of the logits}."""
        del scale
        images = self._check_size(images)
        logits = [member(images, training=False) for member in self.members]
        classes = logits[0].shape[-1]
        votes = tf.add_n([tf.one_hot(tf.argmax(one, axis=-1), classes) for one in logits])
        return {"votes": votes, "logits": tf.add_n(logits)}

    def classify(self, images):
        """Returns values `[B, K]` whose largest is the decision; see `voting.rank`."""
        results = self.predict(images)
        return voting.rank(results["votes"], results["logits"])
