"""Score predictor: a network of keras.applications with a distribution over scores on top.

Talebi and Milanfar, "NIMA: Neural Image Assessment", IEEE Transactions on Image Processing 2018;
with MobileNetV2 as Choi et al., "Deep learning-based image super-resolution considering
quantitative and perceptual quality", Neurocomputing 2019, use it.
"""

import inspect
import types

import keras

MOBILENETV2 = "MobileNetV2"
# Largest dropout of the published settings; it belongs to training, see models/nima.py.
DROPOUT = 0.75
FEATURES_LAYER = "features"
SCORES_LAYER = "scores"
# Of R, G and B in 0-1 over ImageNet's training images, as in keras.applications.efficientnet.
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
# Side lengths for which Keras publishes MobileNetV2 weights.
MOBILENETV2_SIDES = (96, 128, 160, 192, 224)


def list_backbones():
    """Returns the sorted names of the networks in keras.applications that take images of any size.

    NASNet's blocks compare sizes while they are put together: where these are open, no image fits.
    """
    names = (name for name in dir(keras.applications) if name[0].isupper())
    return sorted(name for name in names if not name.startswith("NASNet"))


@keras.saving.register_keras_serializable(package="score_predictors")
class Normalization(keras.layers.Layer):
    """Brings images in 0-255 to the range that the backbone's ImageNet weights were trained on."""

    def __init__(self, backbone, **kwargs):
        """Takes the backbone's name; computes in float32 under every dtype policy."""
        super().__init__(**(kwargs | {"dtype": "float32"}))
        self.backbone = backbone
        self._preprocess = _preprocessing(backbone)

    def call(self, images):
        """Returns normalised images of the same shape, float32."""
        return self._preprocess(images)

    def compute_output_shape(self, input_shape):
        """Returns the input's shape."""
        return input_shape

    def get_config(self):
        """Returns the arguments of the constructor."""
        return super().get_config() | {"backbone": self.backbone}


def create_network(backbone=MOBILENETV2, bins=10, alpha=1.0):
    """Returns a `keras.Model` of images with random weights.

    It maps float32 RGB `[batch, height, width, 3]` in 0-255, of any size, to a dict: `scores`
    `[batch, bins]`, which sum to 1, and `features` `[batch, F]`, the average of the backbone's last
    feature maps (F = 1280 for MobileNetV2 up to alpha 1). Its layers are those of the backbone and
    two more, not nested, so that weight files of the same network built elsewhere fit.

    With MobileNetV2, alpha 1 and 10 bins it has 2,270,794 parameters, 12,810 of them in the head.

    `backbone` is one of `list_backbones`, `alpha` the width of MobileNetV2 and MobileNet;
    an unknown one, or an alpha that it does not take, is a ValueError.
    """
    images = keras.Input((None, None, 3), name="images")
    normalized = Normalization(backbone, name="normalization_to_backbone")(images)
    maps = _create_backbone(backbone, alpha, weights=None, input_tensor=normalized).output
    # The sums over all pixels and the softmax need float32's digits under mixed precision, too.
    features = keras.layers.GlobalAveragePooling2D(name=FEATURES_LAYER, dtype="float32")(maps)
    scores = keras.layers.Dense(bins, "softmax", name=SCORES_LAYER, dtype="float32")(features)
    return keras.Model(images, {"scores": scores, "features": features}, name="predictor")


def features_part(network):
    """Returns the `keras.Model` of images to features, which shares the network's layers."""
    return keras.Model(network.input, network.get_layer(FEATURES_LAYER).output)


def set_batch_norm_momentum(network, momentum):
    """Sets the share of their averages that the batch normalisations keep at each step."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum


def load_imagenet(network, backbone=MOBILENETV2, alpha=1.0, side=224):
    """Copies the ImageNet weights that Keras publishes, downloaded or from its cache.

    MobileNetV2 has weights for several side lengths of the images to come. Where there are none for
    this network, or they cannot be downloaded, a ValueError names the alternatives.
    """
    fits = backbone == MOBILENETV2 and side in MOBILENETV2_SIDES
    shape = {"input_shape": (side, side, 3)} if fits else {}
    try:
        published = _create_backbone(backbone, alpha, weights="imagenet", **shape)
    except Exception as error:  # urllib's, Keras' plain Exception, or a refused alpha
        raise ValueError(
            f"--pretrained_weights=imagenet: the weights of {backbone} could not be loaded "
            f"({error}). Alternatives: --pretrained_weights=FILE.h5, a file as Keras publishes it "
            "that was downloaded elsewhere; --restore_path=FILE.h5, a trained score predictor; "
            "--pretrained_weights=none, random weights."
        ) from error
    for variable, value in zip(features_part(network).weights, published.weights, strict=True):
        variable.assign(value)
    finish_pretrained(network, backbone)


def finish_pretrained(network, backbone):
    """Does what has to follow after ImageNet weights were assigned to a network's backbone.

    Keras divides the input of EfficientNetB0 to B7 by the root of each channel's deviation twice,
    the second time only in networks that were created with ImageNet weights. Networks here are
    always created without; they do both at once.
    """
    if backbone.startswith("EfficientNetB"):
        layer = next(v for v in network.layers if isinstance(v, keras.layers.Normalization))
        layer.adapt_variance.assign(layer.adapt_variance * keras.ops.array(IMAGENET_DEVIATION))
        layer.finalize_state()  # it computes with a copy


def _create_backbone(backbone, alpha, **kwargs):
    if backbone not in list_backbones():
        raise ValueError(
            f"The backbone {backbone} is unknown. Known: {', '.join(list_backbones())}"
        )
    create = getattr(keras.applications, backbone)
    if "alpha" in inspect.signature(create).parameters:
        kwargs["alpha"] = alpha
    elif alpha != 1:
        raise ValueError(f"{backbone} has no alpha. Received: {alpha}")
    return create(include_top=False, **kwargs)


def _preprocessing(backbone):
    """Returns the function of images in 0-255 that keras.applications trains the backbone with."""
    if backbone == MOBILENETV2:
        return lambda images: (images - 127.5) / 127.5
    for module in vars(keras.applications).values():
        if isinstance(module, types.ModuleType) and hasattr(module, backbone):
            return module.preprocess_input
    return lambda images: images  # MobileNetV3 normalises in its first layer
