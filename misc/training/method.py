"""The contract between a training method and the entry points, with what all methods share."""

import abc
import contextlib
import dataclasses
import re
import typing

import keras
import tensorflow as tf

from misc.training import weight_files
from misc.training.run_folder import BEST

_GENERATOR = r"seed_generator(?:_([0-9]+))?/seed_generator_state"


@dataclasses.dataclass(frozen=True)
class Decision:
    """What follows from a validation.

    Attributes:
        bests: names of the bests that the present weights are from now on.
        rate_factor: what all learning rates are multiplied by.
        restart: whether the optimizers forget their moments and steps; a schedule of rates over the
            steps then begins anew, too.
        stop: whether the run ends here.
    """

    bests: tuple = ()
    rate_factor: float = 1.0
    restart: bool = False
    stop: bool = False


class Method(abc.ABC):
    """Networks and optimizers of one training method, and how they are trained and used.

    A subclass sets the attributes below and implements `train_step`, `predict` and `evaluate`.

    Attributes:
        networks: {name: keras.Model}.
        optimizers: {name: optimizer}, each for the network of the same name; empty when the method
            was made for use only.
        averages: {name: copy of that network with averaged weights, which can be called}; empty
            without `average_decay`.
        step: number of steps that the state has seen, a `tf.Variable`.
        restored_step: step of the checkpoint that weights were restored from.
        objective: name of the validation result that decides which weights are the best.
        higher_is_better: whether larger values of `objective` are better.
        bests: {name: (validation result, whether larger is better)}: of which weights the best are
            kept; by default "best", those of `objective`.
        validates_first: whether training begins with a validation, before the first step.
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
    validates_first = False
    scales = ()
    export_names: dict  # {"images": ..., "scale": ... or None, "outputs": {key: ...}}
    export_normalization = (0.0, 1.0)
    export_check_sizes = ((2, 19, 26), (1, 32, 21))
    metadata: typing.ClassVar[dict] = {}
    settings: typing.ClassVar[dict] = {}

    def __init__(
        self,
        networks,
        optimizers=None,
        average_decay=0.0,
        gradient_clip_norm=0.0,
        plateau_patience=0,
        plateau_factor=0.5,
    ):
        """Collects the state; call it after building the networks, inside the strategy's scope.

        Args:
            networks: {name: built keras.Model}.
            optimizers: {name: keras optimizer}; built here for the network of that name.
            average_decay: 0, or the decay per step of averaged weights in (0, 1) that validation
                and deployment use instead of the last ones (Polyak and Juditsky, 1992).
            gradient_clip_norm: 0, or the largest norm of all gradients of a network together.
            plateau_patience: 0, or the validations without a new best after which rates fall.
            plateau_factor: what the learning rates are multiplied by then.
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
        self.plateau_patience = plateau_patience
        self.plateau_factor = plateau_factor
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        # Best results so far and validations since then; saved for an exact resume.
        self.best_values = {
            name: tf.Variable(_worst(higher), dtype=tf.float64, trainable=False)
            for name, (_, higher) in self.bests.items()
        }
        self.validations_since_best = tf.Variable(0, dtype=tf.int64, trainable=False)
        # Whether a validation ended the run.
        self.ended = tf.Variable(False, trainable=False)
        # Whether a signal came before a validation.
        self.validation_due = tf.Variable(False, trainable=False)
        for name, optimizer in self.optimizers.items():
            optimizer.build(networks[name].trainable_variables)
        self.restored_step = 0
        self.averages = {}
        if average_decay:
            self.averages = {name: _copy(network) for name, network in networks.items()}

    @property
    def bests(self):
        """See the class."""
        return {BEST: (self.objective, self.higher_is_better)}

    @abc.abstractmethod
    def train_step(self, batch, seed):
        """Runs one update on a dataloader's batch of one replica.

        The int32 tensor `seed` `[2]` is for this step's random draws. Of the {name: scalar} that it
        returns, "loss" is watched for non-finite values.
        """

    @abc.abstractmethod
    def predict(self, images, scale=None):
        """Returns {name: tensor}, what is evaluated and frozen.

        The images are float32 RGB `[batch, height, width, 3]` in 0-255.
        """

    @abc.abstractmethod
    def evaluate(self, batches, report=None):
        """Returns {name: float}, with `objective`, of one pass over a dataloader's batches.

        Args:
            batches: iterable of dicts.
            report: `None`, or an object whose `add_row(dict)` gets the figures of each image, whose
                `add_picture(name, image)` gets uint8 results `[height, width, 3]`, whose
                `add_table(name, rows)` gets lists of dicts, whose `add_note(name, text)` gets what
                has to be known to read the figures, and whose `add_page(title, parts)` gets a page
                of HTML that needs no other file.
        """

    def summarize(self, results):
        """Returns what of the results of `evaluate` is shown in a line during training."""
        return f"{self.objective} {results[self.objective]:.3f}"

    def after_validation(self, results):
        """Returns the `Decision` that follows from the results of `evaluate`.

        Here: what is better than ever is kept, and the rates fall on a plateau of `objective`.
        """
        improved = tuple(name for name in self.bests if self._improve(name, results))
        since = 0 if BEST in improved else int(self.validations_since_best.numpy()) + 1
        falls = bool(self.plateau_patience) and since >= self.plateau_patience
        self.validations_since_best.assign(0 if falls else since)
        return Decision(improved, self.plateau_factor if falls else 1.0)

    def _improve(self, name, results):
        """Returns whether a result is the best of that name so far, and notes it."""
        objective, higher = self.bests[name]
        value, best = results[objective], float(self.best_values[name].numpy())
        better = value > best if higher else value < best
        if better:
            self.best_values[name].assign(value)
        return better

    def forget_best(self, name):
        """Lets the next validation be the best of that name; returns whether there was one."""
        variable, worst = self.best_values[name], _worst(self.bests[name][1])
        known = float(variable.numpy()) != worst
        variable.assign(worst)
        return known

    def check_finite(self, step):
        """Raises ArithmeticError if weights, averages or optimizers are not finite after a step."""
        variables = {
            f"{group}/{name}": variable
            for group, named in self.state().items()
            for name, variable in named.items()
            if group != "progress" and variable.dtype.is_floating
        }
        finite = [tf.reduce_all(tf.math.is_finite(variable)) for variable in variables.values()]
        finite = tf.stack(finite).numpy() if finite else ()  # one transfer from the device
        bad = [name for name, is_finite in zip(variables, finite, strict=True) if not is_finite]
        if bad:
            raise ArithmeticError(
                f"After step {step}, {len(bad)} of {len(variables)} variables hold values that are "
                f"not finite, such as {bad[0]}. They were not saved. Lower the learning rate, set "
                "--gradient_clip_norm, or use another --precision."
            )

    def variables(self):
        """Returns the list of the variables of all networks."""
        return [variable for network in self.networks.values() for variable in network.variables]

    def follow(self, decision):
        """Lets the learning rates fall, the optimizers start afresh and the run end, as it says."""
        self.ended.assign(decision.stop)
        for name in self.optimizers:
            optimizer = self.scaled_optimizer(name)
            if decision.rate_factor != 1:
                optimizer.learning_rate = self.learning_rates()[name] * decision.rate_factor
            if decision.restart:
                for variable in optimizer.variables:
                    if not variable.path.endswith("/learning_rate"):
                        variable.assign(keras.ops.zeros_like(variable))

    def load_pretrained(self):
        """Loads what training starts from, if nothing is restored; returns whether there is any."""
        return False

    def prepare(self, data):
        """Sets up what the method takes from the run's `Data` before the first step."""
        del data

    def epoch_rows(self, results):
        """Returns what epochs.csv is to say of what was trained on since the last validation.

        Called once for each validation with its results, before `after_validation`; here: nothing.

        Returns:
            List of {"epoch": number, "split": name, column: number or `None`}, all with the same
            columns.
        """
        return []

    def tag(self, batch):
        """Returns the group under which TensorBoard shows this batch, such as "x2"."""
        return "train"

    def pictures(self, batch):
        """Returns {name: images in 0-255} that show what happens to a training batch."""
        return {}

    def figures(self, batch):
        """Returns {name: number, or array for a histogram} of a training batch, beside its steps'.

        Called with the summaries alone: it may take what would be too long for each step.
        """
        return {}

    def compiled(self, output, scale=None):
        """Returns a function of images that gives an output of `predict`, in one trace for all."""
        return tf.function(
            lambda images: self.predict(images, scale)[output],
            input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)],
        )

    @abc.abstractmethod
    def receptive_radius(self, scale=None):
        """Returns how many input pixels away an input can change an output, for tiling."""

    def output_bytes(self, scale=None):
        """Returns the memory in bytes that each output pixel needs, `None` if that is unknown."""
        del scale  # not known

    def factor(self, scale=None):
        """Returns the output's size divided by the input's."""
        return 1 if scale is None else scale

    def update_weights(self, name, loss, tape):
        """Computes the gradients of a loss for one network, and applies them."""
        # Clipping and the test for overflow must see the same gradients on every replica.
        average = self.gradient_clip_norm or self._is_scaled(name)
        self.apply(name, self.gradients(name, loss, tape, average))

    def gradients(self, name, loss, tape, average=True):
        """Returns the gradients of a loss for one network.

        Variables that the loss does not reach get zeros, as in the original's conditional graph, so
        that momentum still moves them. Under mixed_float16 the gradients are those of the scaled
        loss until `apply`; see `loss_scale`.

        Args:
            name: name of network and optimizer.
            loss: scalar, averaged over this replica's part of the batch.
            tape: gradient tape that watched the loss.
            average: whether to average them over the replicas, before something other than a sum is
                made of them; `apply` does it too.
        """
        if self._is_scaled(name):
            with tape:
                loss = self.optimizers[name].scale_loss(loss)
        values = [variable.value for variable in self.networks[name].trainable_variables]
        gradients = [
            tf.zeros_like(value) if gradient is None else gradient
            for value, gradient in zip(values, tape.gradient(loss, values), strict=True)
        ]
        context = tf.distribute.get_replica_context()
        if average and context.num_replicas_in_sync > 1:
            gradients = context.all_reduce(tf.distribute.ReduceOp.MEAN, gradients)
        return gradients

    def loss_scale(self, name):
        """Returns what the gradients of a network are multiplied by until they are applied."""
        if self._is_scaled(name):
            return tf.cast(self.optimizers[name].dynamic_scale.value, tf.float32)
        return 1.0

    def _is_scaled(self, name):
        return isinstance(self.optimizers[name], keras.optimizers.LossScaleOptimizer)

    def apply(self, name, gradients):
        """Updates a network with gradients of `gradients`, clipped to `gradient_clip_norm`."""
        if self.gradient_clip_norm:
            limit = self.gradient_clip_norm * self.loss_scale(name)
            gradients, _ = tf.clip_by_global_norm(gradients, limit)
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        if replicas > 1:  # the optimizer sums over replicas
            gradients = [gradient / replicas for gradient in gradients]
        self.optimizers[name].apply(gradients, self.networks[name].trainable_variables)

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
        for name in self.averages:
            for variable, average in self._averaged(name):
                average.assign(
                    self.average_decay * average.value + (1 - self.average_decay) * variable.value
                )

    @contextlib.contextmanager
    def averaged_weights(self):
        """Uses the averaged weights inside the block, where the method keeps them."""
        pairs = [pair for name in self.averages for pair in self._averaged(name)]
        kept = [variable.numpy() for variable, _ in pairs]
        try:
            for variable, average in pairs:
                variable.assign(average)
            yield
        finally:
            for (variable, _), value in zip(pairs, kept, strict=True):
                variable.assign(value)

    def _averaged(self, name):
        """Returns [(variable, its average)] of a network: all but the states of random draws."""
        pairs = zip(self.networks[name].variables, self.averages[name].variables, strict=True)
        return [pair for pair in pairs if keras.backend.is_float_dtype(pair[0].dtype)]

    def scaled_optimizer(self, name):
        """Returns the optimizer that holds the rate, inside a loss-scaling one."""
        return getattr(self.optimizers[name], "inner_optimizer", self.optimizers[name])

    def learning_rates(self):
        """Returns {name: current learning rate}."""
        # Mirrored variables are no numbers.
        return {
            name: float(self.scaled_optimizer(name).learning_rate.numpy())
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
        for name in self.averages:
            state[f"averages/{name}"] = {
                variable.path: average.value for variable, average in self._averaged(name)
            }
        state["progress"] = {
            "step": self.step,
            "validations_since_best": self.validations_since_best,
            "ended": self.ended,
            "validation_due": self.validation_due,
        }
        for name, value in self.best_values.items():
            state["progress"]["best_value" if name == BEST else f"best_value_{name}"] = value
        return state

    def checkpoint(self):
        """Returns a `tf.train.Checkpoint` of the state; variables are stored by their names."""
        return tf.train.Checkpoint(
            **{group.replace("/", "_"): variables for group, variables in self.state().items()}
        )

    def part_of(self, variable):
        """Returns the part of a network that weights which training starts from may lack.

        The variable is named as in `state`; `None`: they must have it.
        """
        del variable  # no part may be missing

    def restore(self, path, target=None, use_averages=False):
        """Loads a checkpoint, or a weight file, which holds networks alone.

        Args:
            path: path of the checkpoint, without .index; or of a weight file.
            target: `None` for the whole state, or a list of networks to load, without optimizers
                and step; if they are to be trained, they may have other parts than the file: see
                `part_of`.
            use_averages: load the networks from the averaged weights where the checkpoint has any.

        Raises:
            ValueError: lists the variables that are missing in the file or have other shapes.
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
            options = {"part_of": self.part_of} if self.optimizers else {}
            self.restored_step = weight_files.restore(path, networks, **options)
            self._restart_averages(target)
            return
        reader = self.open_checkpoint(path)
        shapes = reader.get_variable_to_shape_map()
        groups = self.state()
        if target is not None:
            groups = {f"networks/{name}": groups[f"networks/{name}"] for name in target}
        problems, assignments, lacking = [], [], []
        for group, variables in groups.items():
            for name, variable in variables.items():
                key = checkpoint_key(group, name)
                if use_averages and group.startswith("networks/"):
                    averaged = checkpoint_key(group.replace("networks", "averages", 1), name)
                    key = averaged if averaged in shapes else key
                if group.startswith("averages/") and key not in shapes:
                    # Averaging that begins here starts at the weights of the checkpoint.
                    key = checkpoint_key(group.replace("averages", "networks", 1), name)
                if key not in shapes and group == "progress":
                    continue  # of a checkpoint that is older than the variable
                if key not in shapes and target and self.optimizers and self.part_of(name):
                    lacking.append(self.part_of(name))
                    continue
                problems += weight_files.misfits(f"{group}/{name}", shapes.get(key), variable)
                assignments.append((variable, key))
        if problems:
            raise ValueError(
                f"The checkpoint {path} does not fit this model:{weight_files.listed(problems)}\n"
                "Check the model's flags (network, sizes, scales), or load single networks with "
                "--restore_target."
            )
        weight_files.describe_lacking(path, lacking)
        for variable, key in assignments:
            variable.assign(reader.get_tensor(key))
        self.restored_step = int(reader.get_tensor(checkpoint_key("progress", "step")))
        for network in self.networks.values():
            weight_files.finalize(network)
        self._restart_averages(target or ())
        for average in self.averages.values():
            weight_files.finalize(average)

    def open_checkpoint(self, path):
        """Returns a reader of a checkpoint, whose keys are those of `checkpoint_key`."""
        return tf.train.load_checkpoint(path)

    def _restart_averages(self, names):
        """Lets the averaged weights of networks begin at their present ones."""
        for name in set(names) & set(self.averages):
            for variable, average in self._averaged(name):
                average.assign(variable)
            weight_files.finalize(self.averages[name])


def _worst(higher_is_better):
    return float("-inf" if higher_is_better else "inf")


def _copy(network):
    """Returns a network of the same kind with the same weights, which nothing trains."""
    if isinstance(network, keras.Sequential) or hasattr(network, "operations"):
        copied = keras.models.clone_model(network)
    else:
        copied = type(network).from_config(network.get_config())
    copied.set_weights(network.get_weights())
    copied.trainable = False
    return copied


def _named(variables):
    """Returns {name in checkpoints: tf.Variable} of a network's variables."""
    # Keras numbers the random generators of a process; here they are numbered within the network,
    # or a network with dropout could be restored only where it is the first one.
    generators = [v.path for v in variables if re.fullmatch(_GENERATOR, v.path)]
    generators.sort(key=lambda path: int(re.fullmatch(_GENERATOR, path)[1] or 0))
    renamed = {
        path: f"seed_generator{f'_{place}' if place else ''}/seed_generator_state"
        for place, path in enumerate(generators)
    }
    return {renamed.get(variable.path, variable.path): variable.value for variable in variables}


def _unnumbered(path):
    # Keras numbers the optimizers of a process: adam, adam_1, ...
    optimizer, _, variable = path.partition("/")
    return f"{re.sub(r'_[0-9]+$', '', optimizer)}/{variable}"


def checkpoint_key(group, name):
    """Returns the key in checkpoints of a variable of `Method.state`."""
    # tf.train.Checkpoint writes "/" inside a name as ".S", and "." as "..".
    escaped = name.replace(".", "..").replace("/", ".S")
    return f"{group.replace('/', '_')}/{escaped}/.ATTRIBUTES/VARIABLE_VALUE"
