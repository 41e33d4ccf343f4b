"""The contract between a training method and the entry points, with what all methods share."""

import abc
import contextlib
import re
import typing

import keras
import tensorflow as tf

from misc.training import weight_files

_GENERATOR = r"seed_generator(?:_([0-9]+))?/seed_generator_state"


class Method(abc.ABC):
    """Networks and optimizers of one training method, and how they are trained and used.

    A subclass sets the attributes below and implements `train_step`, `predict` and `evaluate`.

    Attributes:
        networks: {name: keras.Model}.
        optimizers: {name: optimizer}, each for the network of the same name; empty when the method
            was made for use only.
        step: number of steps that the state has seen, a `tf.Variable`.
        restored_step: step of the checkpoint that weights were restored from.
        objective: name of the validation result that decides which weights are the best.
        higher_is_better: whether larger values of `objective` are better.
        scales: upscaling factors that `predict` takes, `()` if it takes none.
        export_names: names of inputs and outputs in frozen graphs.
        export_normalization: (offset, divisor): frozen graphs take `(images - offset) / divisor`.
        export_check_sizes: (batch, height, width) of the images that frozen files are checked with.
        metadata: {name: JSON value}: what frozen files tell of themselves beyond this.
        settings: {flag: value} that were worked out from other flags and the data; a run keeps
            them with its flags, so that a restored model does not have to work them out again.
    """

    objective = "loss"
    higher_is_better = False
    scales = ()
    export_names: dict  # {"images": ..., "scale": ... or None, "outputs": {key: ...}}
    export_normalization = (0.0, 1.0)
    export_check_sizes = ((2, 19, 26), (1, 32, 21))
    metadata: typing.ClassVar[dict] = {}
    settings: typing.ClassVar[dict] = {}

    def __init__(self, networks, optimizers=None, average_decay=0.0, gradient_clip_norm=0.0):
        """Collects the state; call it after building the networks, inside the strategy's scope.

        Args:
            networks: {name: built keras.Model}.
            optimizers: {name: keras optimizer}; built here for the network of that name.
            average_decay: 0, or the decay per step of averaged weights in (0, 1) that validation
                and deployment use instead of the last ones (Polyak and Juditsky, 1992).
            gradient_clip_norm: 0, or the largest norm of all gradients of a network together.
        """
        self.networks = networks
        self.optimizers = dict(optimizers or {})
        if keras.config.dtype_policy().name == "mixed_float16":
            # Small gradients would vanish; each optimizer needs its own scale.
            self.optimizers = {
                name: keras.optimizers.LossScaleOptimizer(optimizer)
                for name, optimizer in self.optimizers.items()
            }
        self.average_decay = average_decay
        self.gradient_clip_norm = gradient_clip_norm
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        # Best validation value so far and validations since then; saved for an exact resume.
        worst = float("-inf") if self.higher_is_better else float("inf")
        self.best_value = tf.Variable(worst, dtype=tf.float64, trainable=False)
        self.validations_since_best = tf.Variable(0, dtype=tf.int64, trainable=False)
        for name, optimizer in self.optimizers.items():
            optimizer.build(networks[name].trainable_variables)
        self.restored_step = 0
        self.averages = {}
        if average_decay:
            for name, network in networks.items():
                self.averages[name] = {
                    variable.path: tf.Variable(variable.value, trainable=False)
                    for variable in _averaged(network)
                }

    @abc.abstractmethod
    def train_step(self, batch, seed):
        """Runs one update on a batch of one replica.

        Args:
            batch: dict of tensors, as the dataloader gives.
            seed: int32 tensor of shape [2] for this step's random draws.

        Returns:
            {name: scalar}; the one called "loss" is watched for non-finite values.
        """

    @abc.abstractmethod
    def predict(self, images, scale=None):
        """Applies the networks to float32 RGB images `[batch, height, width, 3]` in 0-255.

        Returns:
            {name: tensor}: what is evaluated and frozen.
        """

    @abc.abstractmethod
    def evaluate(self, batches, report=None):
        """Measures the method on batches of a dataloader.

        Args:
            batches: iterable of dicts, one pass.
            report: `None`, or an object whose `add_row(dict)` gets the figures of each image, whose
                `add_picture(name, image)` gets uint8 results `[height, width, 3]`, whose
                `add_table(name, rows)` gets lists of dicts and whose `add_note(name, text)` gets
                what has to be known to read the figures.

        Returns:
            {name: float}, with `objective` among the names.
        """

    def summarize(self, results):
        """Returns what of the results of `evaluate` is shown in a line during training."""
        return f"{self.objective} {results[self.objective]:.3f}"

    def load_pretrained(self):
        """Loads what training starts from, if nothing is restored; returns whether there is any."""
        return False

    def tag(self, batch):
        """Returns the group under which TensorBoard shows this batch, such as "x2"."""
        return "train"

    def pictures(self, batch):
        """Returns {name: images in 0-255} that show what happens to a training batch."""
        return {}

    @abc.abstractmethod
    def receptive_radius(self, scale=None):
        """Returns how many input pixels away an input can change an output, for tiling."""

    def factor(self, scale=None):
        """Returns the output's size divided by the input's."""
        return 1 if scale is None else scale

    def update_weights(self, name, loss, tape):
        """Computes gradients of the loss for one network and applies them with its optimizer.

        Gradients are averaged over replicas; variables that the loss does not reach get zeros, as
        in the original's conditional graph, so that momentum still moves them.

        Args:
            name: name of network and optimizer.
            loss: scalar, averaged over this replica's part of the batch.
            tape: gradient tape that watched the loss.
        """
        optimizer = self.optimizers[name]
        variables = self.networks[name].trainable_variables
        loss_scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        if loss_scaled:
            with tape:
                loss = optimizer.scale_loss(loss)
        values = [variable.value for variable in variables]
        gradients = [
            tf.zeros_like(value) if gradient is None else gradient
            for value, gradient in zip(values, tape.gradient(loss, values), strict=True)
        ]
        context = tf.distribute.get_replica_context()
        replicas = context.num_replicas_in_sync
        if replicas > 1 and (self.gradient_clip_norm or loss_scaled):
            # Clipping and the test for overflow must see the same gradients on every replica.
            gradients = context.all_reduce(tf.distribute.ReduceOp.MEAN, gradients)
        if self.gradient_clip_norm:
            limit = self.gradient_clip_norm
            if loss_scaled:
                limit = limit * tf.cast(optimizer.dynamic_scale.value, tf.float32)
            gradients, _ = tf.clip_by_global_norm(gradients, limit)
        if replicas > 1:  # the optimizer sums over replicas
            gradients = [gradient / replicas for gradient in gradients]
        optimizer.apply(gradients, variables)

    def synchronize_statistics(self, name):
        """Averages a network's batch statistics over replicas, which each saw a part of the batch.

        Call it in `train_step` after a forward pass in training mode.
        """
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync == 1:
            return
        variables = [
            weight
            for layer in self.networks[name]._flatten_layers()
            if isinstance(layer, keras.layers.BatchNormalization)
            for weight in layer.non_trainable_weights
        ]
        values = [variable.value + 0.0 for variable in variables]
        averages = context.all_reduce(tf.distribute.ReduceOp.MEAN, values) if values else []
        for variable, average in zip(variables, averages, strict=True):
            variable.assign(average)

    def update_averages(self):
        """Moves the averaged weights one step; runs outside replicas."""
        for name, averages in self.averages.items():
            for variable in _averaged(self.networks[name]):
                average = averages[variable.path]
                average.assign(
                    self.average_decay * average + (1 - self.average_decay) * variable.value
                )

    @contextlib.contextmanager
    def averaged_weights(self):
        """Uses the averaged weights inside the block, where the method keeps them."""
        kept = {}
        for name, averages in self.averages.items():
            for variable in _averaged(self.networks[name]):
                kept[name, variable.path] = variable.numpy()
                variable.assign(averages[variable.path])
        try:
            yield
        finally:
            for name in self.averages:
                for variable in _averaged(self.networks[name]):
                    variable.assign(kept[name, variable.path])

    def scaled_optimizer(self, name):
        """Returns the optimizer that holds the rate, inside a loss-scaling one."""
        return getattr(self.optimizers[name], "inner_optimizer", self.optimizers[name])

    def learning_rates(self):
        """Returns {name: current learning rate}."""
        return {
            name: float(keras.ops.convert_to_numpy(self.scaled_optimizer(name).learning_rate))
            for name in self.optimizers
        }

    def set_step(self, step):
        """Sets the step, and with it the optimizers' position in their schedules."""
        self.step.assign(step)
        for name in self.optimizers:
            self.scaled_optimizer(name).iterations.assign(step)

    def state(self):
        """Returns {group: {name: tf.Variable}} of all that a checkpoint holds."""
        state = {
            f"networks/{name}": _named(network.variables) for name, network in self.networks.items()
        }
        for name, optimizer in self.optimizers.items():
            state[f"optimizers/{name}"] = {
                _unnumbered(v.path): v.value for v in optimizer.variables
            }
        for name, averages in self.averages.items():
            state[f"averages/{name}"] = dict(averages)
        state["progress"] = {
            "step": self.step,
            "best_value": self.best_value,
            "validations_since_best": self.validations_since_best,
        }
        return state

    def checkpoint(self):
        """Returns a `tf.train.Checkpoint` of the state; variables are stored by their names."""
        return tf.train.Checkpoint(
            **{group.replace("/", "_"): variables for group, variables in self.state().items()}
        )

    def restore(self, path, target=None, use_averages=False):
        """Loads a checkpoint, or a weight file, which holds networks alone.

        Args:
            path: path of the checkpoint, without .index; or of a weight file.
            target: `None` for the whole state, or a list of networks to load, without optimizers
                and step.
            use_averages: load the networks from the averaged weights where the checkpoint has any.

        Raises:
            ValueError: if variables are missing in the file or have other shapes; lists them.
        """
        unknown = sorted(set(target or ()) - set(self.networks))
        if unknown:
            raise ValueError(
                f"--restore_target={','.join(unknown)} is unknown. "
                f"This method's networks: {', '.join(self.networks)}"
            )
        if weight_files.is_weight_file(path):
            target = list(self.networks) if target is None else target
            networks = {name: self.networks[name] for name in target}
            self.restored_step = weight_files.restore(path, networks)
            self._restart_averages(target)
            return
        reader = tf.train.load_checkpoint(path)
        shapes = reader.get_variable_to_shape_map()
        groups = self.state()
        if target is not None:
            groups = {f"networks/{name}": groups[f"networks/{name}"] for name in target}
        problems, assignments = [], []
        for group, variables in groups.items():
            for name, variable in variables.items():
                key = _key(group, name)
                if use_averages and group.startswith("networks/"):
                    averaged = _key(group.replace("networks", "averages", 1), name)
                    key = averaged if averaged in shapes else key
                if group.startswith("averages/") and key not in shapes:
                    # Averaging that begins here starts at the weights of the checkpoint.
                    key = _key(group.replace("averages", "networks", 1), name)
                if key not in shapes:
                    problems.append(f"{group}/{name} is missing")
                elif list(shapes[key]) != list(variable.shape):
                    problems.append(
                        f"{group}/{name} has shape {list(shapes[key])}, "
                        f"the model's is {list(variable.shape)}"
                    )
                else:
                    assignments.append((variable, key))
        if problems:
            more = f"\n  and {len(problems) - 8} more" if len(problems) > 8 else ""
            raise ValueError(
                f"The checkpoint {path} does not fit this model:\n  "
                + "\n  ".join(problems[:8])
                + more
                + "\nCheck the model's flags (network, sizes, scales), or load single networks "
                "with --restore_target."
            )
        for variable, key in assignments:
            variable.assign(reader.get_tensor(key))
        self.restored_step = int(reader.get_tensor(_key("progress", "step")))
        for network in self.networks.values():
            weight_files.finalize(network)
        self._restart_averages(target or ())

    def _restart_averages(self, names):
        """Lets the averaged weights of networks begin at their present ones."""
        for name in names:
            for variable in _averaged(self.networks[name]):
                if name in self.averages:
                    self.averages[name][variable.path].assign(variable.value)


def _averaged(network):
    """Returns the variables that have averages: all but the states of random generators."""
    return [
        variable
        for variable in network.variables
        if keras.backend.is_float_dtype(keras.backend.standardize_dtype(variable.dtype))
    ]


def _named(variables):
    """Returns {name in checkpoints: tf.Variable} of a network's variables.

    Keras numbers the random generators of a process; here they are numbered within the network, or
    a network with dropout could be restored only where it is the first one.
    """
    names = {variable.path: variable.value for variable in variables}
    found = [(re.fullmatch(_GENERATOR, path), path) for path in names]
    numbered = sorted((int(match.group(1) or 0), path) for match, path in found if match)
    renamed = {
        path: f"seed_generator{f'_{place}' if place else ''}/seed_generator_state"
        for place, (_, path) in enumerate(numbered)
    }
    return {renamed.get(path, path): value for path, value in names.items()}


def _unnumbered(path):
    # Keras numbers the optimizers of a process: adam, adam_1, ...
    optimizer, _, variable = path.partition("/")
    return f"{re.sub(r'_[0-9]+$', '', optimizer)}/{variable}"


def _key(group, name):
    # tf.train.Checkpoint writes "/" inside a name as ".S", and "." as "..".
    escaped = name.replace(".", "..").replace("/", ".S")
    return f"{group.replace('/', '_')}/{escaped}/.ATTRIBUTES/VARIABLE_VALUE"
