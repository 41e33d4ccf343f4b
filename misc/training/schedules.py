"""Learning rates over the steps of a run."""

import keras
from keras import ops

SCHEDULES = ("step", "cosine", "cosine_staircase", "milestones", "plateau", "constant")
# Those whose every step depends on the length of the run.
SHAPED_BY_LENGTH = ("cosine", "cosine_staircase")


@keras.saving.register_keras_serializable(package="misc")
class CosineStaircase(keras.optimizers.schedules.LearningRateSchedule):
    """Half a cosine from the first rate to 0 after `steps` steps, kept for `hold` steps each."""

    def __init__(self, learning_rate, steps, hold):
        self.learning_rate, self.steps, self.hold = learning_rate, steps, hold
        self._curve = keras.optimizers.schedules.CosineDecay(learning_rate, steps)

    def __call__(self, step):
        """Returns the rate of a step."""
        return self._curve(ops.cast(step, "int64") // self.hold * self.hold)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"learning_rate": self.learning_rate, "steps": self.steps, "hold": self.hold}


def create(name, learning_rate, decay, decay_steps, max_steps, milestones=None):
    """Returns what a Keras optimizer takes as its learning rate, from that of the first step on.

    "step": multiplied by `decay` after every `decay_steps` steps; "cosine": falls to 0 at
    `max_steps` along half a cosine (Loshchilov and Hutter, ICLR 2017, without restarts);
    "cosine_staircase": the same curve, followed once every `decay_steps` steps alone, as PyTorch's
    CosineAnnealingLR that is stepped once an epoch;
    "milestones": multiplied by `decay` after each of `milestones`; "plateau": constant until
    `Method.after_validation` reduces it; "constant".

    Raises:
        ValueError: for an unknown name, or "milestones" without ascending steps.
    """
    if name == "step":
        return keras.optimizers.schedules.ExponentialDecay(
            learning_rate, decay_steps, decay, staircase=True
        )
    if name == "cosine":
        return keras.optimizers.schedules.CosineDecay(learning_rate, max_steps)
    if name == "cosine_staircase":
        return CosineStaircase(learning_rate, max_steps, decay_steps)
    if name == "milestones":
        if not milestones or sorted(set(milestones)) != list(milestones):
            raise ValueError(
                "--schedule=milestones needs --milestones, ascending steps such as 100,200. "
                f"Received: {milestones}"
            )
        rates = [learning_rate * decay**count for count in range(len(milestones) + 1)]
        # Keras keeps the old rate on the boundary itself.
        return keras.optimizers.schedules.PiecewiseConstantDecay(
            [milestone - 1 for milestone in milestones], rates
        )
    if name in SCHEDULES:
        return learning_rate
    raise ValueError(f"--schedule={name} is unknown. Known: {', '.join(SCHEDULES)}")
