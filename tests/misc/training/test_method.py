import keras
import numpy as np
import pytest
import tensorflow as tf

from eusr.models.eusr import EUSR
from eusr.network import Generator
from misc.training.method import Decision, Method


def create(scales=(2,), features=3, **kwargs):
    generator = Generator(scales, features, shared_blocks=1, residual_factor=0.1)
    return EUSR(generator, optimizers={"generator": keras.optimizers.Adam(1e-2)}, **kwargs)


@pytest.fixture
def batch():
    random = np.random.default_rng(0)
    return {
        "low": tf.constant(random.uniform(0, 255, (2, 6, 6, 3)), tf.float32),
        "high": tf.constant(random.uniform(0, 255, (2, 12, 12, 3)), tf.float32),
    }


def test_restoring_brings_back_every_variable(batch, tmp_path):
    method = create(average_decay=0.9)
    method.train_step(batch, None)
    method.update_averages()
    method.set_step(17)
    path = method.checkpoint().write(str(tmp_path / "model.ckpt-17"))
    again = create(average_decay=0.9)
    again.restore(path)
    for group, variables in method.state().items():
        for name, variable in variables.items():
            np.testing.assert_array_equal(variable, again.state()[group][name], err_msg=name)
    assert int(again.step.numpy()) == again.restored_step == 17
    assert int(again.optimizers["generator"].iterations.numpy()) == 17


def test_names_with_dots_and_slashes_survive_the_checkpoint(tmp_path):
    class Named:
        path = "a/b.c/kernel"

    variable = tf.Variable([1.0, 2.0])
    tf.train.Checkpoint(networks_x={Named.path: variable}).write(str(tmp_path / "c"))
    from misc.training.method import checkpoint_key

    reader = tf.train.load_checkpoint(str(tmp_path / "c"))
    key = checkpoint_key("networks/x", Named.path)
    np.testing.assert_array_equal(reader.get_tensor(key), [1, 2])


def test_averages_follow_their_formula_and_serve_use(batch, tmp_path):
    method = create(average_decay=0.75)
    variable = method.generator.variables[0]
    start = variable.numpy()
    expected = start
    for _ in range(3):
        method.train_step(batch, None)
        method.update_averages()
        expected = 0.75 * expected + 0.25 * variable.numpy()
    last = variable.numpy()
    with method.averaged_weights():
        np.testing.assert_allclose(variable, expected, rtol=1e-5)
        outputs = method.generator(batch["low"])
    np.testing.assert_array_equal(variable, last)
    # The average is a network that can be called.
    np.testing.assert_array_equal(method.averages["generator"](batch["low"]), outputs)

    path = method.checkpoint().write(str(tmp_path / "model.ckpt-3"))
    used = create()
    used.restore(path, ["generator"], use_averages=True)
    np.testing.assert_allclose(used.generator.variables[0], expected, rtol=1e-5)
    used.restore(path, ["generator"], use_averages=False)
    np.testing.assert_array_equal(used.generator.variables[0], last)


def test_averaging_can_begin_at_a_checkpoint_without_averages(batch, tmp_path):
    method = create()
    method.train_step(batch, None)
    path = method.checkpoint().write(str(tmp_path / "model.ckpt-1"))
    again = create(average_decay=0.9)
    again.restore(path)
    variable = again.generator.variables[0]
    np.testing.assert_array_equal(again.averages["generator"].variables[0], variable)


def test_branches_not_taken_are_moved_by_momentum_alone(batch):
    method = create(scales=(2, 4))
    other = {"low": batch["low"], "high": tf.repeat(tf.repeat(batch["high"], 2, 1), 2, 2)}
    chosen = [v for v in method.generator.variables if "upscaling_x4" in v.path]
    start = [v.numpy() for v in chosen]
    method.train_step(batch, None)
    for before, variable in zip(start, chosen, strict=True):
        np.testing.assert_array_equal(before, variable)
    method.train_step(other, None)
    moved = [v.numpy() for v in chosen]
    method.train_step(batch, None)
    assert all((a != v.numpy()).any() for a, v in zip(moved, chosen, strict=True))


def test_clipping_bounds_the_norm_of_all_gradients_together(batch):
    free, clipped = create(), create(gradient_clip_norm=1e-3)
    clipped.generator.set_weights(free.generator.get_weights())
    for method in (free, clipped):
        method.optimizers["generator"] = keras.optimizers.SGD(1.0)
        method.optimizers["generator"].build(method.generator.trainable_variables)
        method.before = [v.numpy() for v in method.generator.variables]
        method.train_step(batch, None)
        steps = [
            b - v.numpy() for b, v in zip(method.before, method.generator.variables, strict=True)
        ]
        method.gradient = np.concatenate([step.ravel() for step in steps])
    assert np.linalg.norm(free.gradient) > 1
    assert np.linalg.norm(clipped.gradient) == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.slow
def test_half_precision_scales_the_loss_and_skips_overflows(batch):
    kept = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        method = create(gradient_clip_norm=100.0)
    finally:
        keras.config.set_dtype_policy(kept)
    optimizer = method.optimizers["generator"]
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    step = tf.function(lambda batch: method.train_step(batch, None))
    losses = [float(step(batch)["loss"]) for _ in range(12)]
    assert losses[-1] < losses[0]
    scale = float(optimizer.dynamic_scale.numpy())
    weights = [v.numpy() for v in method.generator.variables]
    step({"low": batch["low"] * np.float32(np.inf), "high": batch["high"]})
    assert float(optimizer.dynamic_scale.numpy()) == scale / 2
    for before, variable in zip(weights, method.generator.variables, strict=True):
        np.testing.assert_array_equal(before, variable)


def test_gradients_can_be_had_apart_from_applying_them(batch):
    whole, parts = create(), create()
    parts.generator.set_weights(whole.generator.get_weights())
    low, high = batch["low"], batch["high"]
    whole.train_step(batch, None)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.abs(parts.generator(low, scale=2) - high))
    parts.apply("generator", parts.gradients("generator", loss, tape))
    for one, other in zip(whole.generator.variables, parts.generator.variables, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


class Validated(EUSR):
    """Keeps two bests."""

    objective = "accuracy"
    validates_first = True

    @property
    def bests(self):
        return {"best": ("accuracy", True), "best_loss": ("loss", False)}


def test_bests_of_several_names_are_kept_apart_and_survive_a_checkpoint(tmp_path):
    def make():
        network = Generator((2,), 3, shared_blocks=1)
        return Validated(network, optimizers={"generator": keras.optimizers.Adam(1.0)})

    method = make()
    results = [(1, 5), (2, 6), (2, 4), (1, 4)]
    found = [method.after_validation({"accuracy": a, "loss": b}).bests for a, b in results]
    assert found == [("best", "best_loss"), ("best",), ("best_loss",), ()]
    path = method.checkpoint().write(str(tmp_path / "model.ckpt-1"))
    again = make()
    again.restore(path)
    assert {name: float(v.numpy()) for name, v in again.best_values.items()} == {
        "best": 2,
        "best_loss": 4,
    }
    assert again.validations_since_best.numpy() == 2


@pytest.mark.parametrize(
    ("higher", "values"), [(True, [1, 2, 1.5, 2, 1, 3]), (False, [9, 8, 8.5, 8, 9, 7])]
)
def test_rates_fall_where_validations_get_no_better(higher, values):
    method = create(plateau_patience=2, plateau_factor=0.1)
    method.higher_is_better, method.objective = higher, "result"
    method.best_values["best"].assign(-np.inf if higher else np.inf)
    found = []
    for value in values:
        decision = method.after_validation({"result": value})
        method.follow(decision)
        rate = method.learning_rates()["generator"]
        found.append((decision.bests == ("best",), round(rate / 1e-2, 6)))
    assert found == [(True, 1), (True, 1), (False, 1), (False, 0.1), (False, 0.1), (True, 0.1)]


def test_an_optimizer_that_starts_afresh_steps_like_a_new_one(batch):
    method, new = create(), create()
    for _ in range(3):
        method.train_step(batch, None)
    new.generator.set_weights(method.generator.get_weights())
    method.follow(Decision(rate_factor=0.5, restart=True))
    new.follow(Decision(rate_factor=0.5))
    for one in (method, new):
        one.train_step(batch, None)
    for one, other in zip(method.generator.variables, new.generator.variables, strict=True):
        np.testing.assert_array_equal(one, other)


def test_misfit_checkpoints_name_the_variables(tmp_path):
    path = create().checkpoint().write(str(tmp_path / "model.ckpt-0"))
    with pytest.raises(ValueError, match=r"shape \[3, 3, 3, 3\], the model's is \[3, 3, 3, 4\]"):
        create(features=4).restore(path)
    with pytest.raises(ValueError, match="before_x4_block1_convolution1/kernel is missing"):
        create(scales=(4,)).restore(path)
    with pytest.raises(ValueError, match="--restore_target=teacher is unknown"):
        create().restore(path, ["teacher"])


def test_networks_that_draw_are_restored_whatever_was_made_before_them(tmp_path):
    def create_dropout():
        inputs = keras.Input((4,))
        x = keras.layers.Dropout(0.5)(keras.layers.Dense(3, name="dense")(inputs))
        network = keras.Model(inputs, keras.layers.Dropout(0.2)(x))
        method = create(average_decay=0.5)
        method.networks = {"network": network}
        method.averages = {}
        return method

    method = create_dropout()
    method.networks["network"](np.ones([2, 4]), training=True)
    path = method.checkpoint().write(str(tmp_path / "model.ckpt-1"))
    again = create_dropout()
    again.restore(path, ["network"])
    states = [m.networks["network"].non_trainable_variables for m in (method, again)]
    assert len(states[0]) == 2
    for one, other in zip(*states, strict=True):
        np.testing.assert_array_equal(one, other)
    names = [name for name in method.state()["networks/network"] if "seed" in name]
    assert names == [
        "seed_generator/seed_generator_state",
        "seed_generator_1/seed_generator_state",
    ]


def test_averages_leave_random_generators_out():
    class Dropping(EUSR):
        """Any method with a network that draws."""

        def __init__(self, network):
            Method.__init__(self, {"network": network}, average_decay=0.5)

    inputs = keras.Input((4,))
    network = keras.Model(inputs, keras.layers.Dropout(0.5)(keras.layers.Dense(3)(inputs)))
    method = Dropping(network)
    start = network.get_weights()
    network.set_weights([2 * value for value in start])
    method.update_averages()
    with method.averaged_weights():
        np.testing.assert_allclose(network.get_weights()[0], 1.5 * start[0])
        np.testing.assert_array_equal(network.get_weights()[-1], 2 * start[-1])
