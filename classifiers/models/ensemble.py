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
from classifiers.models import classifier
from classifiers.models.classifier import Classifier

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
    flags.DEFINE_list(
        "ensemble_weights",
        None,
        "The classifiers: folders or checkpoints of runs, or files of weights.",
    )
    flags.DEFINE_integer(
        "ensemble_size",
        4,
        "Number of classifiers, where their weights come from one checkpoint of them all.",
        lower_bound=1,
    )


def create_model(flags, training=False):
    """Returns the `Ensemble` of the classifiers that the flags name.

    Raises:
        ValueError: when it is to be trained.
    """
    if training:
        raise ValueError(
            "--model=ensemble cannot be trained: train classifiers, and give --ensemble_weights."
        )
    if flags.ensemble_weights:
        members = [
            classifier.load_network(path, flags, "ensemble_weights")
            for path in flags.ensemble_weights
        ]
    else:
        members = [classifier.create_starting_network(flags) for _ in range(flags.ensemble_size)]
    return Ensemble(members, evaluations.create(flags, members[0].output_shape[-1]))


class Ensemble(Classifier):
    """Networks that vote."""

    def __init__(self, members, evaluation=None):
        """Sets the method up.

        Args:
            members: networks of `networks.build` with the same classes.
            evaluation: see `Classifier`.
        """
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
        """Returns values `[B, K]` whose largest is the decision, and which rank the others.

        Without a tie it is the class with most votes. With one, the largest summed logit of all
        classes decides, also of a class that is not among the tied ones, as in the authors' code.
        """
        results = self.predict(images)
        votes, logits = results["votes"], results["logits"]
        most = tf.reduce_max(votes, axis=-1, keepdims=True)
        tied = tf.reduce_sum(tf.cast(votes == most, tf.float32), axis=-1, keepdims=True) > 1
        # Places by the summed logits, as numbers in [0, 1), order what has equally many votes.
        places = tf.argsort(tf.argsort(logits, direction="DESCENDING", stable=True))
        order = 1 - tf.cast(places + 1, tf.float32) / logits.shape[-1]
        return tf.where(tied, order, votes + order)
