"""The command over folders: what is kept, skipped and said; tiles, frozen files, exit codes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from eusr import network, predict_files
from eusr.models import eusr
from misc import predict_folder
from misc.export import frozen
from misc.images import files, image_files, locks, pixel_store
from misc.training.settings import Settings
from tests import commands, forks
from tests.misc.export import test_frozen


@pytest.fixture(scope="module")
def method():
    keras.utils.set_random_seed(0)
    return eusr.EUSR(
        network.Generator(scales=(2,), features=4, shared_blocks=1, residual_factor=0.1)
    )


@pytest.fixture(scope="module")
def upscaler(method):
    return predict_files.FileUpscaler(method)


@pytest.fixture(scope="module")
def graph_path(method, tmp_path_factory):
    (result,) = frozen.freeze(method, tmp_path_factory.mktemp("graph") / "model", ["pb"])
    assert result.error is None
    return result.path


def random_pixels(shape, dtype=np.uint8, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def test_colour_image(method, upscaler, tmp_path):
    pixels = random_pixels((10, 13, 3))
    image_files.write_image(tmp_path / "in.png", pixels)
    upscaler(tmp_path / "in.png", tmp_path / "out.png")
    output = method.predict(pixels[None].astype(np.float32), 2)["output"][0]
    expected = np.clip(np.rint(output), 0, 255)
    difference = np.abs(image_files.read_image(tmp_path / "out.png").pixels - expected)
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 1e-3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("grey", [True, False])
def test_grey_alpha_and_16_bits_are_kept(upscaler, tmp_path, dtype, grey):
    maximum = np.iinfo(dtype).max
    pixels = random_pixels((9, 8) if grey else (9, 8, 3), dtype)
    alpha = np.zeros((9, 8), dtype)
    alpha[:, 4:] = maximum
    image_files.write_image(tmp_path / "in.png", pixels, alpha)
    upscaler(tmp_path / "in.png", tmp_path / "out.png")
    result = image_files.read_image(tmp_path / "out.png")
    assert result.pixels.dtype == dtype
    assert result.pixels.shape == (18, 16, 3)
    assert result.grey == grey
    assert (result.alpha[:, :5] == 0).all()
    assert (result.alpha[:, 11:] == maximum).all()


def test_16_bits_have_more_than_256_values(upscaler, tmp_path):
    ramp = np.linspace(20000, 21000, 40 * 40).reshape(40, 40).astype(np.uint16)
    image_files.write_image(tmp_path / "in.png", ramp)
    upscaler(tmp_path / "in.png", tmp_path / "out.png")
    assert len(np.unique(image_files.read_image(tmp_path / "out.png").pixels)) > 1000


def test_colours_under_transparent_pixels_do_not_bleed(upscaler, tmp_path):
    pixels = np.full((20, 20, 3), 200, np.uint8)
    alpha = np.full((20, 20), 255, np.uint8)
    alpha[:, :10] = 0
    results = []
    for hidden in (0, 255):
        pixels[:, :10] = hidden
        image_files.write_image(tmp_path / "in.png", pixels, alpha)
        upscaler(tmp_path / "in.png", tmp_path / "out.png")
        results.append(image_files.read_image(tmp_path / "out.png").pixels)
    np.testing.assert_array_equal(results[0], results[1])


def test_opaque_alpha_stays_opaque():
    alpha = np.full((5, 6), 255, np.uint8)
    np.testing.assert_array_equal(predict_files.resize_alpha(alpha, (20, 24)), 255)


@pytest.mark.parametrize("ensemble", [False, True])
def test_tiled_equals_untiled(method, tmp_path, ensemble):
    image_files.write_image(tmp_path / "in.png", random_pixels((80, 120, 3)))
    for tile in (0, 64):
        upscaler = predict_files.FileUpscaler(method, 2, tile, ensemble=ensemble)
        upscaler(tmp_path / "in.png", tmp_path / f"{tile}.png")
    whole = image_files.read_image(tmp_path / "0.png").pixels.astype(int)
    difference = np.abs(image_files.read_image(tmp_path / "64.png").pixels - whole)
    assert difference.max() <= 1
    assert np.mean(difference > 0) <= 1e-4


def test_default_tile_follows_the_method(method):
    upscaler = predict_files.FileUpscaler(method)
    assert upscaler.scale == 2
    assert upscaler.overlap == method.receptive_radius(2)
    assert upscaler.tile is None
    with pytest.raises(ValueError, match="--scale is one of"):
        predict_files.FileUpscaler(method, 3)
    with pytest.raises(ValueError, match="--tile"):
        predict_files.FileUpscaler(method, 2, tile=10)


def test_file_without_known_reach_needs_an_overlap(method):
    class Unknown:
        scales = (2,)
        metadata = method.metadata
        export_names = method.export_names
        metadata = method.metadata
        compiled = method.compiled
        factor = method.factor
        output_bytes = method.output_bytes

        def receptive_radius(self, scale=None):
            return None

    with pytest.raises(ValueError, match="--overlap"):
        predict_files.FileUpscaler(Unknown())
    assert predict_files.FileUpscaler(Unknown(), tile=0).overlap == 0
    assert predict_files.FileUpscaler(Unknown(), overlap=20).overlap == 20


def plan(source, output, *names):
    return predict_files.plan(*image_files.find_inputs(source, output), output, *names)


def test_plan_mirrors_the_folder(tmp_path):
    for name in ("a.JPG", "deep/er/b.png", "results/a.png"):
        image_files.write_image(tmp_path / name, random_pixels((4, 4, 3)))
    jobs = plan(tmp_path, tmp_path / "results")
    targets = [job.target.relative_to(tmp_path).as_posix() for job in jobs]
    assert targets == ["results/a.png", "results/deep/er/b.png"]
    jobs = plan(tmp_path, tmp_path / "results", "same", "_x2")
    assert jobs[0].target.name == "a_x2.JPG"
    (job,) = plan(tmp_path / "a.JPG", tmp_path / "other/name.tif")
    assert job.target == tmp_path / "other/name.tif"
    (job,) = plan(tmp_path / "a.JPG", tmp_path / "other")
    assert job.target == tmp_path / "other/a.png"


def test_plan_refuses_to_lose_files(tmp_path):
    image_files.write_image(tmp_path / "in/a.jpg", random_pixels((4, 4, 3)))
    image_files.write_image(tmp_path / "in/a.webp", random_pixels((4, 4, 3)))
    with pytest.raises(ValueError, match=r"a\.jpg and .*a\.webp would both become"):
        plan(tmp_path / "in", tmp_path / "out")
    with pytest.raises(ValueError, match="would replace an input"):
        plan(tmp_path / "in", tmp_path / "in", "same")
    with pytest.raises(ValueError, match="file or a folder"):
        plan(tmp_path / "missing", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no images"):
        plan(tmp_path / "empty", tmp_path / "out")


def write_folder(folder):
    image_files.write_image(folder / "a.png", random_pixels((30, 40, 3)))
    image_files.write_image(folder / "sub/b.jpg", random_pixels((25, 20)))
    broken = folder / "broken.png"
    image_files.write_image(broken, random_pixels((30, 30, 3)))
    broken.write_bytes(broken.read_bytes()[:-900])


def test_broken_file_stops_or_is_skipped(upscaler, tmp_path, caplog):
    write_folder(tmp_path / "in")
    jobs = plan(tmp_path / "in", tmp_path / "out")
    with pytest.raises(ValueError, match=r"broken\.png"):
        predict_files.apply(upscaler, jobs)
    assert predict_files.apply(upscaler, jobs, skip_broken=True) == 1
    found = [path.name for path in image_files.find_images(tmp_path / "out")]
    assert found == ["a.png", "b.png"]


def test_out_of_memory_names_the_file_and_a_way_out(tmp_path):
    def process(source, target, on_pixels):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    jobs = [predict_files.Job(tmp_path / "a.png", tmp_path / "b.png")]
    with pytest.raises(ValueError, match=r"a\.png: out of memory; a smaller --tile"):
        predict_files.apply(process, jobs)


def test_frozen_file_gives_the_pixels_of_a_client_of_tensorflow_1(graph_path, tmp_path):
    pixels = random_pixels((70, 60, 3))
    image_files.write_image(tmp_path / "in.png", pixels)
    upscaler = predict_files.FileUpscaler(frozen.load(graph_path), tile=56)
    upscaler(tmp_path / "in.png", tmp_path / "out.png")
    expected = run_client(graph_path, pixels, 2)
    difference = np.abs(image_files.read_rgb(tmp_path / "out.png").astype(int) - expected)
    assert difference.max() <= 1
    assert np.mean(difference > 0) <= 1e-4


def test_command_with_frozen_file(graph_path, tmp_path):
    write_folder(tmp_path / "in")
    image_files.write_image(tmp_path / "out/a.png", random_pixels((60, 80, 3)))
    output = commands.run(
        "-m",
        "misc.predict_folder",
        f"--frozen_path={graph_path}",
        f"--input_path={tmp_path / 'in'}",
        f"--output_path={tmp_path / 'out'}",
        "--skip_broken",
        status=1,
    )
    assert "broken.png" in output
    assert "Traceback" not in output
    assert "1 of 3 images written" in output
    assert "1 skipped because their results exist, 1 failed" in output
    assert image_files.read_image(tmp_path / "out/sub/b.png").grey


def run_client(path, pixels, scale):
    output = test_frozen.run_client(
        test_frozen.read_graph(path), pixels[None].astype(np.float32), scale
    )
    return np.clip(np.rint(output[0]), 0, 255).astype(np.uint8)


def test_a_full_disk_ends_the_work_though_broken_images_are_skipped(upscaler, tmp_path):
    for name, side in {"a": 6, "b": 60, "c": 6}.items():
        image_files.write_image(tmp_path / f"in/{name}.png", random_pixels((side, side, 3)))
    jobs = plan(tmp_path / "in", tmp_path / "out")
    with forks.full_disk(3000), pytest.raises(files.DiskFullError, match=r"out/b\.png cannot be"):
        predict_files.apply(upscaler, jobs, skip_broken=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_results_beyond_the_memory_are_refused(upscaler, tmp_path, monkeypatch):
    image_files.write_image(tmp_path / "a.png", random_pixels((10, 10, 3)))
    monkeypatch.setattr(pixel_store, "available_memory", lambda: 1000)
    with pytest.raises(ValueError, match=r"a\.png, enlarged to 20x20, would need about"):
        upscaler(tmp_path / "a.png", tmp_path / "out.png")


def test_folders_are_locked_and_files_are_not(graph_path, tmp_path):
    image_files.write_image(tmp_path / "in/a.png", random_pixels((6, 6, 3)))
    values = {
        "frozen_path": str(graph_path),
        "input_path": str(tmp_path / "in"),
        "skip_broken": True,
    }
    values |= {"overwrite": False, "scale": None, "tile": None, "overlap": None}
    values |= {"self_ensemble": False, "output_extension": "png", "output_suffix": ""}
    settings = Settings(values)
    with forks.beside(locks.hold(tmp_path / "out")):
        with pytest.raises(OSError, match="out is in use by process"):
            predict_folder.main(settings | {"output_path": str(tmp_path / "out")})
        assert predict_folder.main(settings | {"output_path": str(tmp_path / "out/b.png")}) == 0
