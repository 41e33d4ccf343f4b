"""Checkpoints and frozen graphs of the original project, used as they are."""

import keras
import numpy as np
import pytest

from eusr import predict_files
from eusr.discriminator import Discriminator
from eusr.models import eusr, perceptual_eusr
from eusr.network import Generator
from misc.export import frozen
from misc.images import image_files
from misc.training import run_folder
from tests import commands
from tests.eusr import original_project
from tests.eusr.original_project import CROPS, IMAGES

STEP = 300000


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return original_project.write(tmp_path_factory.mktemp("original"), STEP, (2,))


@pytest.fixture(scope="module")
def four_pass(tmp_path_factory):
    return original_project.write(tmp_path_factory.mktemp("original"), STEP)


def checkpoint(original):
    return run_folder.find_checkpoint(original.folder / f"model.ckpt-{STEP}")


def create_generator(scales=(2,)):
    return Generator(
        scales, original_project.FEATURES, shared_blocks=original_project.SHARED_BLOCKS
    )


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())


def assert_updated(networks, layers, original):
    """Compares the weights of layers, {ours: theirs}, with those after the original's update."""
    values = {v.path: v.numpy() for network in networks for v in network.variables}
    for ours, theirs in layers.items():
        for part in ("kernel", "bias"):
            expected = original.updated[f"{theirs}/{part}"]
            actual = values[f"{ours}/{part}"].reshape(expected.shape)
            np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-7)


def update(method):
    """Makes the original's update, whose gradients are the weights."""
    for name, optimizer in method.optimizers.items():
        assert int(optimizer.iterations) == STEP
        # The original has made one update, whatever number it gave the file.
        optimizer.iterations.assign(1)
        variables = method.networks[name].trainable_variables
        optimizer.apply([variable.value for variable in variables], variables)


def create_adam():
    return keras.optimizers.Adam(original_project.RATE, epsilon=1e-8)


def test_training_goes_on_from_a_checkpoint_as_in_the_original(original):
    method = eusr.EUSR(create_generator(), optimizers={"generator": create_adam()})
    method.restore(checkpoint(original))
    assert int(method.step) == method.restored_step == STEP
    for scale, expected in original.outputs.items():
        assert_close(method.predict(IMAGES, scale)["output"], expected)
    update(method)
    layers = {
        "first_convolution": "generator/first_conv/conv2d",
        "before_x2_block2_convolution1": "generator/initial_blocks/x2/conv2d_2",
        "shared_convolution": "generator/shared/conv2d_4",
        "upscaling_x2_stage1_module4_convolution": "generator/upscaling/x2/m0/px3/conv2d_2",
        "upscaling_x2_last_convolution": "generator/upscaling/x2/conv2d",
    }
    assert_updated([method.generator], layers, original)


def test_a_checkpoint_of_other_sizes_says_what_does_not_fit(original):
    method = eusr.EUSR(Generator((2,), 4, shared_blocks=1))
    with pytest.raises(ValueError, match=r"does not fit") as error:
        method.restore(checkpoint(original), ["generator"])
    assert "first_convolution/kernel has shape [3, 3, 3, 3], the model's" in str(error.value)
    method = eusr.EUSR(create_generator((4,)))
    with pytest.raises(ValueError, match=r"before_x4_block1_convolution1/kernel is missing"):
        method.restore(checkpoint(original), ["generator"])


@pytest.mark.slow
def test_a_graph_of_several_scales_is_found_out(tmp_path):
    original = original_project.write(tmp_path, STEP, (2, 4))
    model = frozen.load(tmp_path / "model.pb")
    assert model.scales == (2, 4)
    generator = create_generator((2, 4))
    for scale in model.scales:
        assert_close(model.predict(IMAGES, scale)["output"], original.outputs[scale])
        assert model.factor(scale) == scale
        assert model.receptive_radius(scale) == generator.receptive_radius(scale)


@pytest.mark.slow
def test_a_graph_without_a_scale_shows_it(tmp_path):
    original = original_project.write(tmp_path, STEP, (2,), with_scale=False)
    model = frozen.load(tmp_path / "model.pb")
    assert model.scales == (2,)
    assert predict_files.choose_scale(model, None) == predict_files.choose_scale(model, 2) == 2
    assert_close(model.predict(IMAGES)["output"], original.outputs[2])
    assert model.receptive_radius() == create_generator((2,)).receptive_radius(2)


@pytest.mark.slow  # the graph holds the generator four times
def test_checkpoints_of_4pp_eusr_hold_its_discriminator(four_pass):
    networks = {"generator": create_generator((2, 4, 8)), "discriminator": Discriminator(2)}
    method = perceptual_eusr.PerceptualEUSR(
        networks["generator"],
        optimizers={name: create_adam() for name in networks},
        discriminator=networks["discriminator"],
    )
    method.restore(checkpoint(four_pass))
    for scale, expected in four_pass.outputs.items():
        assert_close(method.predict(IMAGES, scale)["output"], expected)
    assert_close(np.reshape(method.discriminator(CROPS), (-1, 1)), four_pass.logits)
    update(method)
    layers = {
        "upscaling_x8_stage3_module1_block1_convolution2": "generator/upscaling/x8/m2/px0/conv2d_1",
        "convolution10": "discriminator/conv10/conv2d",
        "hidden": "discriminator/fc/dense",
        "logits": "discriminator/final/dense",
    }
    assert_updated(networks.values(), layers, four_pass)


@pytest.mark.slow
def test_every_path_of_4pp_eusr_gives_four_times_the_size_in_tiles(four_pass, tmp_path):
    model = frozen.load(four_pass.folder / "model.pb")
    assert model.scales == (2, 4, 8)
    pixels = np.random.default_rng(2).integers(0, 256, (20, 150, 3)).astype(np.uint8)
    image_files.write_image(tmp_path / "in.png", pixels)
    method = perceptual_eusr.PerceptualEUSR(create_generator((2, 4, 8)))
    for scale, expected in four_pass.outputs.items():
        assert model.factor(scale) == 4
        assert_close(model.predict(IMAGES, scale)["output"], expected)
        assert 0 <= method.receptive_radius(scale) - model.receptive_radius(scale) <= 1
        for tile in (0, 120):
            upscaler = predict_files.FileUpscaler(model, scale, tile)
            upscaler(tmp_path / "in.png", tmp_path / f"{tile}.png")
        whole = image_files.read_image(tmp_path / "0.png").pixels.astype(int)
        assert whole.shape == (80, 600, 3)
        tiled = image_files.read_image(tmp_path / "120.png").pixels
        assert np.abs(tiled - whole).max() <= 1


@pytest.mark.slow
def test_the_originals_commands_run_with_its_files(original, tmp_path):
    sizes = [
        f"--eusr_conv_features={original_project.FEATURES}",
        f"--eusr_shared_blocks={original_project.SHARED_BLOCKS}",
        "--scales=2",
    ]
    start = [*sizes, f"--restore_path={original.folder}/model.ckpt-{STEP}"]
    output = commands.run(
        "train.py",
        "--model=eusr",
        "--dataloader=basic_loader",
        *start,
        f"--train_path={tmp_path / 'run'}",
        f"--max_steps={STEP + 1}",
        "--batch_size=2",
        "--input_patch_size=12",
        "--validate_freq=0",
    )
    assert f"model.ckpt-{STEP + 1}" in output
    commands.run("freeze.py", "--model=eusr", *start, f"--output_path={tmp_path / 'eusr.pb'}")
    for scale, expected in original.outputs.items():
        assert_close(frozen.load(tmp_path / "eusr.pb").predict(IMAGES, scale)["output"], expected)
