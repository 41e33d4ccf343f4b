"""The image half of CLIP RN50, with a classifier by cosine similarity.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
sections 2.4 and 3.1; the stem of three convolutions, blurred strides and attention pool as in the
authors' released models, whose names the layers bear.

Rows of the classifier's weights are text embeddings of the classes ("A photo of a NAME."), which
`clip_text` computes or a file holds, or are learned.
"""

import math

import keras
import numpy as np
from keras import ops

from classifiers.networks import layers, resnet, transformer
from misc.images import files

# Mean and standard deviation of the authors' preprocessing, on the scale 0-1.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
BLOCKS = (3, 4, 6, 3)
HEADS = 32
EMBEDDING = 1024
# Largest scale of the cosine (section 2.5), which the released models have reached.
LOGIT_SCALE = 100.0


def build(x, num_classes):
    """Returns the stages for images of known size, whose sides are multiples of 32.

    They are "stem", "stage1" to "stage4", each also with "_preactivation" for the values before its
    last ReLU, "pooled" (the embedding `[batch, 1024]`) and "logits" (the scaled cosine of embedding
    and class weights).

    Raises:
        ValueError: for another image size.
    """
    if x.shape[1] % 32 or x.shape[2] % 32:
        raise ValueError(
            "clip_rn50 takes images whose sides are multiples of 32. "
            f"Received: {x.shape[1]}x{x.shape[2]}"
        )
    stages = {}
    x = layers.conv_norm(x, 32, 3, ("visual.conv1", "visual.bn1"), stride=2)
    x = layers.conv_norm(x, 32, 3, ("visual.conv2", "visual.bn2"))
    x = layers.conv_norm(x, 64, 3, ("visual.conv3", "visual.bn3"), activation=None)
    x = keras.layers.AveragePooling2D(2)(resnet.activate_stage("stem", x, stages))
    x = resnet.apply_stages(x, BLOCKS, resnet.FEATURES, _block, "visual.layer", stages)
    stages["pooled"] = AttentionPooling(HEADS, EMBEDDING, name="visual.attnpool")(x)
    stages["logits"] = CosineClassifier(num_classes, dtype="float32", name="head")(stages["pooled"])
    return stages


def read_embeddings(path):
    """Returns the text embeddings in a JSON file as the tensor of the classifier.

    The file holds a list of them in the order of the classes, or {name of a class: embedding}.

    Raises:
        ValueError: for any other content.
        FileNotFoundError: when there is no such file.
    """
    try:
        content = files.read_json(path)
        rows = content.values() if isinstance(content, dict) else content
        embeddings = np.array(list(rows), np.float32)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} should hold a text embedding for each class: {error}") from error
    if embeddings.ndim != 2:
        raise ValueError(
            f"{path} should hold a text embedding for each class. Received: {embeddings.shape}"
        )
    return {"head.weight": embeddings}


def _block(inputs, features, stride, name):
    x = layers.conv_norm(inputs, features, 1, (f"{name}.conv1", f"{name}.bn1"))
    x = layers.conv_norm(x, features, 3, (f"{name}.conv2", f"{name}.bn2"))
    if stride > 1:
        x = keras.layers.AveragePooling2D(stride)(x)
    names = f"{name}.conv3", f"{name}.bn3"
    x = layers.conv_norm(x, 4 * features, 1, names, activation=None)
    if stride > 1 or inputs.shape[-1] != 4 * features:
        if stride > 1:
            inputs = keras.layers.AveragePooling2D(stride)(inputs)
        inputs = layers.conv_norm(inputs, 4 * features, 1, f"{name}.downsample", activation=None)
    return keras.layers.Add()([x, inputs])


@keras.saving.register_keras_serializable("classifiers")
class AttentionPooling(keras.layers.Layer):
    """Pools an image by attention with its mean as the query (section 2.4)."""

    pytorch_tensors = (
        "positional_embedding",
        *(f"{role}_proj.{kind}" for role in "qkvc" for kind in ("weight", "bias")),
    )

    def __init__(self, heads, features, **kwargs):
        super().__init__(**kwargs)
        self.heads = heads
        self.features = features

    def build(self, input_shape):
        """Makes the weights."""
        _, height, width, channels = input_shape

        # The authors' initial values: N(0, 1 / channels), by a new initializer each time.
        def normal():
            return keras.initializers.RandomNormal(stddev=channels**-0.5)

        self.embedding = self.add_weight(
            shape=(height * width + 1, channels), initializer=normal(), name="embedding"
        )
        self.projections = []
        widths = dict.fromkeys(("query", "key", "value"), channels)
        for name, features in (widths | {"output": self.features}).items():
            kernel = self.add_weight(
                shape=(channels, features), initializer=normal(), name=f"{name}_kernel"
            )
            bias = self.add_weight(shape=(features,), initializer="zeros", name=f"{name}_bias")
            self.projections.append((kernel, bias))

    def call(self, inputs):
        """Takes `[batch, height, width, channels]`, returns `[batch, features]`."""
        _, height, width, channels = inputs.shape
        x = ops.reshape(inputs, (-1, height * width, channels))
        x = ops.concatenate([ops.mean(x, axis=1, keepdims=True), x], axis=1)
        x = x + ops.cast(self.embedding, x.dtype)
        query = self._project(x[:, :1], 0)
        pooled = transformer.attend(query, self._project(x, 1), self._project(x, 2), self.heads)
        return self._project(pooled[:, 0], 3)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "heads": self.heads, "features": self.features}

    def _project(self, x, index):
        kernel, bias = self.projections[index]
        return ops.matmul(x, ops.cast(kernel, x.dtype)) + ops.cast(bias, x.dtype)


@keras.saving.register_keras_serializable("classifiers")
class CosineClassifier(keras.layers.Layer):
    """Compares an embedding with a vector for each class: exp(logit_scale) * cosine."""

    pytorch_tensors = ("weight", "/logit_scale")

    def __init__(self, num_classes, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes

    def build(self, input_shape):
        """Makes the weights."""
        self.kernel = self.add_weight(
            shape=(input_shape[-1], self.num_classes),
            initializer=keras.initializers.RandomNormal(stddev=0.01),
            name="kernel",
        )
        self.logit_scale = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(math.log(LOGIT_SCALE)),
            name="logit_scale",
        )

    def call(self, inputs):
        """Takes `[batch, features]`, returns logits `[batch, num_classes]`."""
        inputs = ops.normalize(ops.cast(inputs, self.compute_dtype), axis=-1)
        kernel = ops.normalize(self.kernel, axis=0)
        return ops.exp(self.logit_scale) * ops.matmul(inputs, kernel)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "num_classes": self.num_classes}
