"""Vision Transformer ViT-B/16, as torchvision builds it.

Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
ICLR 2021, table 1.
"""

import keras

from classifiers.networks import layers, transformer

PATCH_SIZE = 16
CHANNELS = 768
HEADS = 12
BLOCKS = 12
BLOCKS_PER_STAGE = 3
EPSILON = 1e-6


def build(x, num_classes):
    """Returns the stages for images of known size, whose sides are multiples of 16.

    They are "stem" (tokens with positions), "stage1" to "stage4" (after every third block), all
    `[batch, 1 + patches, 768]` with the class token first, "pooled" (the class token) and "logits".

    Raises:
        ValueError: for another image size.
    """
    height, width = x.shape[1:3]
    if height % PATCH_SIZE or width % PATCH_SIZE:
        raise ValueError(
            f"vit_b16 takes images whose sides are multiples of {PATCH_SIZE}. "
            f"Received: {height}x{width}"
        )
    stages = {}
    x = layers.convolution(
        x, CHANNELS, PATCH_SIZE, "conv_proj", stride=PATCH_SIZE, padding=0, bias=True
    )
    x = keras.layers.Reshape((-1, CHANNELS))(x)
    x = transformer.ClassToken(name="class_token")(x)
    x = stages["stem"] = transformer.PositionEmbedding(name="encoder.pos_embedding")(x)
    for block in range(BLOCKS):
        x = _block(x, f"encoder.layers.encoder_layer_{block}")
        if (block + 1) % BLOCKS_PER_STAGE == 0:
            stages[f"stage{(block + 1) // BLOCKS_PER_STAGE}"] = x
    x = transformer.layer_norm(x, "encoder.ln", EPSILON)
    return layers.classify(transformer.FirstToken()(x), num_classes, "heads.head", stages)


def _block(inputs, name):
    x = transformer.layer_norm(inputs, f"{name}.ln_1", EPSILON)
    x = transformer.projection(x, 3 * CHANNELS, f"{name}.self_attention.in_proj")
    x = transformer.SelfAttention(HEADS)(x)
    x = transformer.projection(x, CHANNELS, f"{name}.self_attention.out_proj")
    inputs = keras.layers.Add()([inputs, x])
    x = transformer.layer_norm(inputs, f"{name}.ln_2", EPSILON)
    return keras.layers.Add()([inputs, transformer.perceptron(x, 4 * CHANNELS, f"{name}.mlp")])
