"""Optimizers that step exactly as PyTorch's do, with either kind of weight decay.

Weight decay is "l2" (added to the gradient, before momentum and scaling see it; PyTorch's default)
or "decoupled" (weights shrink by learning_rate * weight_decay on their own; Loshchilov and Hutter,
"Decoupled Weight Decay Regularization", ICLR 2019). Both act on every trainable variable.
"""

import math

import keras
from keras import ops

OPTIMIZERS = ("sgd", "radam")
WEIGHT_DECAYS = ("l2", "decoupled")


def create(name, learning_rate, weight_decay=0.0, weight_decay_kind="l2", momentum=0.9):
    """Returns the optimizer of that name; its rate is a number or a Keras schedule.

    The momentum is that of "sgd"; a decay of 0 is none. Unknown names and kinds are a ValueError.
    """
    decay = {"decay": weight_decay, "decay_kind": weight_decay_kind}
    if name == "sgd":
        return SGD(learning_rate, momentum=momentum, **decay)
    if name == "radam":
        return RAdam(learning_rate, **decay)
    raise ValueError(f"The optimizer must be one of {', '.join(OPTIMIZERS)}. Received: {name!r}")


class _Decaying(keras.optimizers.Optimizer):
    SLOTS = ()  # names of what is kept for each variable

    def __init__(self, learning_rate, decay, decay_kind, name):
        super().__init__(learning_rate=learning_rate, name=name)
        if decay_kind not in WEIGHT_DECAYS:
            raise ValueError(
                f"Weight decay must be one of {', '.join(WEIGHT_DECAYS)}. Received: {decay_kind!r}"
            )
        if decay < 0:
            raise ValueError(f"Weight decay must be at least 0. Received: {decay}")
        self.decay, self.decay_kind = decay, decay_kind

    def build(self, variables):
        """Makes the variables that the optimizer keeps."""
        if not self.built:
            super().build(variables)
            self._slots = [self.add_optimizer_variables(variables, name) for name in self.SLOTS]

    def update_step(self, gradient, variable, learning_rate):
        """Updates one variable, with weight decay."""
        learning_rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        if self.decay and self.decay_kind == "l2":
            gradient = gradient + self.decay * variable
        elif self.decay:
            self.assign(variable, variable * (1 - learning_rate * self.decay))
        index = self._get_variable_index(variable)
        kept = (slot[index] for slot in self._slots)
        self.assign_sub(variable, self._step(gradient, learning_rate, *kept))

    def get_config(self):
        """Returns the arguments of the constructor that both have."""
        config = super().get_config()
        kept = {name: config[name] for name in ("name", "learning_rate")}
        return kept | {"decay": self.decay, "decay_kind": self.decay_kind}


@keras.saving.register_keras_serializable(package="misc")
class SGD(_Decaying):
    """Gradient descent with momentum, as `torch.optim.SGD`.

    velocity = momentum * velocity + gradient; weights -= learning_rate * velocity. Keras' own SGD
    has the rate inside the velocity, which differs as soon as the rate changes.
    """

    SLOTS = ("velocity",)

    def __init__(self, learning_rate=0.1, momentum=0.9, decay=0.0, decay_kind="l2", name="sgd"):
        super().__init__(learning_rate, decay, decay_kind, name)
        self.momentum = momentum

    def _step(self, gradient, learning_rate, velocity):
        moved = self.momentum * velocity + gradient
        self.assign(velocity, moved)
        return learning_rate * moved

    def get_config(self):
        """Returns the arguments of the constructor."""
        return super().get_config() | {"momentum": self.momentum}


@keras.saving.register_keras_serializable(package="misc")
class Adam(_Decaying):
    """Adam, as `torch.optim.Adam`.

    Kingma & Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1: `epsilon` is
    added to the root of the corrected second mean, in Keras' own Adam to that of the plain one.
    """

    SLOTS = ("mean", "square")

    def __init__(
        self,
        learning_rate=1e-3,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        decay=0.0,
        decay_kind="l2",
        name="adam",
    ):
        super().__init__(learning_rate, decay, decay_kind, name)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def _step(self, gradient, learning_rate, mean, square):
        self._follow(gradient, mean, square)
        first, second = (
            ops.cast(1.0 - self._power(beta), mean.dtype) for beta in (self.beta_1, self.beta_2)
        )
        return learning_rate * (mean / first) / (ops.sqrt(square / second) + self.epsilon)

    def _follow(self, gradient, mean, square):
        self.assign(mean, self.beta_1 * mean + (1 - self.beta_1) * gradient)
        self.assign(square, self.beta_2 * square + (1 - self.beta_2) * gradient * gradient)

    def _power(self, beta):
        """Returns beta to the power of the number of the step, from 1 on."""
        # In float64: the differences that are made of it cancel nearly all digits at first.
        return ops.exp(ops.cast(self.iterations + 1, "float64") * math.log(beta))

    def get_config(self):
        """Returns the arguments of the constructor."""
        return super().get_config() | {
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable(package="misc")
class RAdam(Adam):
    """Rectified Adam, as `torch.optim.RAdam`.

    Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", ICLR 2020, algorithm 2;
    steps are adaptive where its rho exceeds 5, as in PyTorch (4 in the paper). `epsilon` is added
    to the root of the second mean before its bias is corrected.
    """

    def __init__(self, learning_rate=1e-3, *args, name="radam", **kwargs):
        super().__init__(learning_rate, *args, name=name, **kwargs)

    def _step(self, gradient, learning_rate, mean, square):
        self._follow(gradient, mean, square)
        plain, adaptive = (ops.cast(factor, mean.dtype) for factor in self._factors())
        scale = plain + adaptive / (ops.sqrt(square) + self.epsilon)
        return learning_rate * mean * scale

    def _factors(self):
        """Returns the factors of the mean in a plain and in an adaptive step; one of them is 0."""
        step = ops.cast(self.iterations + 1, "float64")
        first = 1.0 - self._power(self.beta_1)
        power = self._power(self.beta_2)
        second = 1.0 - power
        limit = 2.0 / (1.0 - self.beta_2) - 1.0
        rho = limit - 2.0 * step * power / second
        rectified = rho > 5.0
        # Kept above 4 where it isn't used: the root of a negative number is undefined.
        safe = ops.maximum(rho, 5.0)
        rectification = ops.sqrt(
            (safe - 4.0) * (safe - 2.0) * limit / ((limit - 4.0) * (limit - 2.0) * safe)
        )
        plain = ops.where(rectified, ops.zeros_like(first), 1.0 / first)
        adaptive = ops.where(
            rectified, rectification * ops.sqrt(second) / first, ops.zeros_like(first)
        )
        return plain, adaptive
