"""VGG networks with and without batch normalisation, as torchvision builds them.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
ICLR 2015, table 1, columns B, D and E.
"""

import keras

from classifiers.networks import layers

FEATURES = (64, 128, 256, 512, 512)
CONVOLUTIONS = {13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
POOLED_SIZE = 7


def build(x, num_classes, depth, batch_norm=False):
    """Returns the stages for images from 32x32 pixels on.

    They are "stage1" to "stage5" (after their max pool), "pooled" (the 4096 features before the
    last layer) and "logits".

    Args:
        x: normalised images `[batch, height, width, 3]`.
        num_classes: number of logits.
        depth: 13, 16 or 19 layers with weights.
        batch_norm: whether a batch normalisation follows each convolution.
    """
    stages = {}
    index = 0  # of the module in torchvision's `features`, where ReLU and pool count too
    counts = CONVOLUTIONS[depth]
    for stage, (count, features) in enumerate(zip(counts, FEATURES, strict=True), start=1):
        for _ in range(count):
            x = layers.convolution(x, features, 3, f"features.{index}", bias=True)
            if batch_norm:
                index += 1
                x = layers.batch_norm(x, f"features.{index}")
            x = keras.layers.ReLU()(x)
            index += 2
        x = layers.max_pool(x, 2, 2)
        index += 1
        stages[f"stage{stage}"] = x
    x = layers.AdaptiveAveragePooling(POOLED_SIZE)(x)
    x = layers.flatten_channels_first(x)
    x = keras.layers.ReLU()(layers.linear(x, 4096, "classifier.0"))
    x = keras.layers.Dropout(0.5, name="classifier.2")(x)
    x = keras.layers.ReLU()(layers.linear(x, 4096, "classifier.3"))
    return layers.classify(x, num_classes, "classifier.6", stages, (0.5, "classifier.5"))
