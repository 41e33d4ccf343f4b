import keras
import numpy as np
import pytest

from eusr import losses
from eusr.models import eusr, perceptual_eusr
from eusr.models.perceptual_eusr import PerceptualEUSR, Weights
from eusr.network import Generator
from misc.export import frozen
from misc.training import registry, run_folder
from tests import flag_values
from tests.eusr.test_perceptual_eusr import create_batch, create_generator
from tests.eusr.tiny_predictor import TinyPredictor
from tests.test_registry import parse

# All losses matter about equally to the tiny networks.
WEIGHTS = Weights(0.05, 1.0, 0.5, 30.0, 0.7, 20.0)


def tiny_flags(**changes):
    return parse(perceptual_eusr, training=True) | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eusr_weight_lss": 1.0}, r"--eusr_subjective_nima_path=tid2013.pb .* There is no frozen"),
        (
            {"eusr_weight_lar": 1.0, "eusr_aesthetic_nima_path": "a.onnx"},
            "a.onnx .* pass only",
        ),
        ({"eusr_weight_lar": 1.0, "eusr_aesthetic_nima_path": ""}, "weight_las=0 and .*lar=0"),
        ({"scales": [2]}, r"trained with --scales=4. Received: \[2\]"),
        ({"eusr_model_scales": [2, 4]}, "needs weights for 2, 4 and 8"),
        ({"eusr_weight_lr": 0.0, "eusr_weight_lg": 0.0}, "are 0"),
    ],
)
def test_wrong_flags_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        perceptual_eusr.create_model(tiny_flags(**changes), training=True)


def test_a_file_that_is_no_predictor_is_named(tmp_path):
    upscaler = eusr.EUSR(Generator((2,), 2, shared_blocks=1))
    list(frozen.freeze(upscaler, tmp_path / "other", ["pb"]))
    changes = {"eusr_weight_lsr": 1.0, "eusr_subjective_nima_path": f"{tmp_path}/other.pb"}
    with pytest.raises(ValueError, match=r"should give scores and features, and gives output"):
        perceptual_eusr.create_model(tiny_flags(**changes), training=True)


@pytest.mark.slow
def test_only_predictors_with_weights_are_loaded(tmp_path):
    list(frozen.freeze(TinyPredictor(5), tmp_path / "tiny", ["pb"]))
    changes = {"eusr_weight_lsr": 1.0, "eusr_subjective_nima_path": f"{tmp_path}/tiny.pb"}
    method = perceptual_eusr.create_model(tiny_flags(**changes), training=True)
    assert list(method.predictors) == ["subjective"]
    again = perceptual_eusr.create_model(parse(perceptual_eusr, training=False))
    assert not again.predictors
    assert list(again.networks) == ["generator"]

    # Gradients pass through the frozen graph as through the network it came from.
    batch = create_batch()
    direct = PerceptualEUSR(
        create_generator(4),
        optimizers={"generator": keras.optimizers.SGD(1.0)},
        predictors={"subjective": TinyPredictor(5)},
        weights=Weights(0, 0, 0, 0, 0, 100.0),
    )
    direct.predictors["subjective"].networks["predictor"].set_weights(
        TinyPredictor(5).networks["predictor"].get_weights()
    )
    direct.generator.set_weights(method.generator.get_weights())
    start = direct.generator.get_weights()
    loaded = PerceptualEUSR(
        create_generator(4),
        optimizers={"generator": keras.optimizers.SGD(1.0)},
        predictors=method.predictors,
        weights=direct.weights,
    )
    loaded.generator.set_weights(start)
    steps = []
    for chosen in (direct, loaded):
        chosen.train_step(batch, None)
        after = chosen.generator.get_weights()
        steps.append(np.concatenate([(a - b).ravel() for a, b in zip(after, start, strict=True)]))
    assert np.abs(steps[0]).max() > 1e-6
    np.testing.assert_allclose(*steps, atol=2e-3 * np.abs(steps[0]).max())


@pytest.mark.slow  # test_perceptual trains with one
def test_a_predictor_may_be_the_checkpoint_of_a_run(tmp_path):
    module = registry.load("models", "mobilenetv2")
    settings = parse(module, training=False)
    trained = module.create_model(settings)
    folder = run_folder.RunFolder(tmp_path / "run", trained, max_to_keep=1)
    folder.save(3)
    folder.write_arguments((settings | {"model": "mobilenetv2"}).to_dict())
    changes = {"eusr_weight_lss": 1.0, "eusr_subjective_nima_path": f"{tmp_path}/run"}
    method = perceptual_eusr.create_model(tiny_flags(**changes), training=True)
    batch = create_batch()
    expected = trained.predict(batch["high"])
    for key, value in method.predictors["subjective"].predict(batch["high"]).items():
        np.testing.assert_array_equal(value, expected[key])
    assert list(method.networks) == ["generator", "discriminator"]
    assert np.isfinite(float(method.train_step(batch, None)["loss_subjective_score"]))


def test_defaults_are_the_published_settings():
    defaults = flag_values.of(perceptual_eusr)
    names = ("lr", "lg", "las", "lar", "lss", "lsr")
    weights = [getattr(defaults, f"eusr_weight_{name}") for name in names]
    assert weights == [0.05, 0.1, 0.01, 0.1, 0.01, 0.1]
    flags = tiny_flags()
    assert flags.eusr_learning_rate == 1e-5
    assert flags.eusr_learning_rate_decay_steps == 1000000
    method = perceptual_eusr.create_model(flags, training=True)
    assert method.learning_rates() == pytest.approx({"generator": 1e-5, "discriminator": 2e-5})
    assert {optimizer.epsilon for optimizer in method.optimizers.values()} == {1e-8}
    method.set_step(1000000)
    assert method.learning_rates() == pytest.approx({"generator": 5e-6, "discriminator": 1e-5})
    assert losses.SCORE_MARGIN == 0.8
