"""Networks: sizes, normalisation, ImageNet weights without a download."""

import keras
import numpy as np
import pytest

from score_predictors import network


def images(count=2, size=(40, 33), seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (count, *size, 3)).astype(np.float32)


@pytest.mark.slow
def test_parameters_are_those_of_the_original_project():
    predictor = network.create_network()
    assert predictor.count_params() == 2_270_794
    assert predictor.get_layer("scores").count_params() == 12_810
    outputs = predictor(images())
    assert outputs["features"].shape == (2, 1280)
    np.testing.assert_allclose(np.sum(outputs["scores"], axis=1), 1, rtol=1e-6)


def test_first_layer_is_what_the_family_was_trained_with():
    pixels = images()
    expected = (pixels.astype(np.float64) - 127.5) / 127.5
    actual = network.Normalization("MobileNetV2")(pixels)
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    actual = network.Normalization("ResNet50")(pixels)
    expected = pixels[..., ::-1] - np.array([103.939, 116.779, 123.68])
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    for own in ("MobileNetV3Small", "EfficientNetB0", "ConvNeXtTiny"):
        np.testing.assert_array_equal(network.Normalization(own)(pixels), pixels)
    layer = network.Normalization("MobileNetV2")
    assert network.Normalization.from_config(layer.get_config()).backbone == "MobileNetV2"


def test_other_bins_and_backbones():
    outputs = network.create_network("MobileNetV3Small", bins=5)(images())
    assert outputs["scores"].shape == (2, 5)
    with pytest.raises(ValueError, match=r"Nothing is unknown\. Known: .*MobileNetV2"):
        network.create_network("Nothing")
    with pytest.raises(ValueError, match="NASNetMobile is unknown"):
        network.create_network("NASNetMobile")  # it takes images of one size alone
    with pytest.raises(ValueError, match="ResNet50 has no alpha"):
        network.create_network("ResNet50", alpha=0.5)


def test_features_part_shares_the_layers():
    predictor = network.create_network(alpha=0.35)
    part = network.features_part(predictor)
    pixels = images()
    np.testing.assert_array_equal(part(pixels), predictor(pixels)["features"])
    assert {id(v) for v in part.weights} < {id(v) for v in predictor.weights}


@pytest.mark.slow
def test_imagenet_weights_are_copied(monkeypatch):
    published = keras.applications.MobileNetV2(include_top=False, weights=None, alpha=0.35)
    requested = []

    def download(weights=None, input_shape=None, **kwargs):
        requested.append((weights, input_shape))
        if weights == "imagenet":
            return published
        return keras.applications.mobilenet_v2.MobileNetV2(weights=weights, **kwargs)

    def create(include_top, alpha, weights=None, input_shape=None, input_tensor=None):
        return download(
            weights, input_shape, include_top=include_top, alpha=alpha, input_tensor=input_tensor
        )

    monkeypatch.setattr(keras.applications, "MobileNetV2", create)
    predictor = network.create_network(alpha=0.35)
    network.load_imagenet(predictor, alpha=0.35, side=192)
    assert requested[-1] == ("imagenet", (192, 192, 3))
    pixels = images(1, (64, 64))
    maps = published((pixels - 127.5) / 127.5)
    expected = np.mean(maps, axis=(1, 2))
    np.testing.assert_allclose(network.features_part(predictor)(pixels), expected, atol=1e-5)


def test_failed_download_names_the_alternatives(monkeypatch):
    def fail(alpha, **kwargs):
        raise Exception("URL fetch failure")

    predictor = network.create_network(alpha=0.35)
    monkeypatch.setattr(keras.applications, "MobileNetV2", fail)
    with pytest.raises(ValueError, match=r"URL fetch failure.*FILE\.h5.*--restore_path.*none"):
        network.load_imagenet(predictor, alpha=0.35)


def test_efficientnet_divides_by_the_deviation_once_more():
    predictor = network.create_network("EfficientNetB0")
    layer = next(v for v in predictor.layers if isinstance(v, keras.layers.Normalization))
    deviation = np.array(network.IMAGENET_DEVIATION)
    mean = np.array([0.485, 0.456, 0.406])
    layer.adapt_mean.assign(mean)
    layer.adapt_variance.assign(deviation)  # the published files hold this
    network.finish_pretrained(predictor, "EfficientNetB0")
    pixels = np.random.default_rng(0).uniform(0, 1, (1, 4, 4, 3))
    expected = (pixels - mean) / np.sqrt(deviation) / np.sqrt(deviation)
    np.testing.assert_allclose(layer(pixels), expected, rtol=1e-4, atol=1e-5)
