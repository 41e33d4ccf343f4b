"""EUSR generator: one shared trunk, a branch for each upscaling factor.

Kim and Lee, "Deep Residual Network with Enhanced Upscaling Module for Super-Resolution",
CVPR Workshops 2018. The branch of factor 1, which repairs images at their size, is our own: its
last part is a stage that does not enlarge, and it predicts what the damage changed (Zhang, Zuo,
Chen, Meng and Zhang, "Beyond a Gaussian Denoiser", IEEE Transactions on Image Processing 2017).
"""

import math
import re

import keras

# Mean of the DIV2K training images, as in the authors' public code.
RGB_MEAN = (114.4, 111.5, 103.0)
SCALE_KERNEL_SIZE = 5
SCALE_BLOCKS = 2
MODULES_PER_STAGE = 4
# Sixteen times as many as published; building more takes longer than anyone means to wait.
LARGEST_FEATURES, LARGEST_BLOCKS = 1024, 1000


@keras.saving.register_keras_serializable(package="eusr")
class Generator(keras.Model):
    """Upscales images by the factor that the call names; only that factor's branch runs.

    Call it with images `[batch, height, width, 3]`, float32 RGB in 0-255, and `scale`, one of
    `scales`; it returns `[batch, scale * height, scale * width, 3]`, float32, not clipped.
    The first and the last convolution and the mean shift stay in float32 under every dtype policy,
    because their values span the whole range of a pixel.
    """

    def __init__(
        self,
        scales=(2, 4, 8),
        features=64,
        shared_blocks=32,
        upscale_blocks=1,
        rgb_mean=RGB_MEAN,
        residual_factor=None,
        name="generator",
    ):
        """Builds all weights.

        Args:
            scales: upscaling factors that the weights serve, powers of two; 1 repairs.
            features: number of features of every inner convolution.
            shared_blocks: number of residual blocks that all factors share.
            upscale_blocks: number of residual blocks in each residual module of the upscaling.
            rgb_mean: three mean intensities in 0-255, subtracted first and added last.
            residual_factor: variance factor that initialises residual blocks; `None` is the
                published 1e-4 divided by the number of blocks.
            name: name of the model.

        Raises:
            ValueError: for a scale that is no power of two, or sizes below 1 or far beyond the
                published ones.
        """
        super().__init__(name=name, dtype=keras.config.floatx())
        check_scales(scales)
        if features < 1 or shared_blocks < 0 or upscale_blocks < 1:
            raise ValueError(
                "features and upscale_blocks must be at least 1 and shared_blocks at least 0. "
                f"Received: features={features}, shared_blocks={shared_blocks}, "
                f"upscale_blocks={upscale_blocks}"
            )
        if len(rgb_mean) != 3:
            raise ValueError(f"rgb_mean takes three values. Received: {rgb_mean}")
        self.scales = tuple(sorted(scales))
        self.features = features
        self.shared_blocks = shared_blocks
        self.upscale_blocks = upscale_blocks
        self.rgb_mean = tuple(float(value) for value in rgb_mean)
        if features > LARGEST_FEATURES or self.count_residual_blocks() > LARGEST_BLOCKS:
            raise ValueError(
                f"EUSR takes at most {LARGEST_FEATURES} features, and {LARGEST_BLOCKS} residual "
                f"blocks in all. Received: {features} and {self.count_residual_blocks()}"
            )
        if residual_factor is None:
            residual_factor = 1e-4 / self.count_residual_blocks()
        self.residual_factor = residual_factor

        self.first_convolution = keras.layers.Conv2D(
            features, 3, padding="same", dtype=keras.config.floatx(), name="first_convolution"
        )
        self.first_convolution.build((None, None, None, 3))
        inputs = keras.Input((None, None, features))
        shared = self._residual_module(inputs, shared_blocks, "shared_")
        self.shared = keras.Model(inputs, shared, name="shared")
        self.before = [self._build_before(scale) for scale in self.scales]
        self.upscaling = [self._build_upscaling(scale) for scale in self.scales]
        self.built = True

    def count_residual_blocks(self):
        """Returns R, the number of local residual blocks over all branches (CVPRW 2018 code)."""
        upscaling = sum(stages(scale) * MODULES_PER_STAGE for scale in self.scales)
        return (
            SCALE_BLOCKS * len(self.scales) + self.shared_blocks + upscaling * self.upscale_blocks
        )

    def receptive_radius(self, scale):
        """Returns how many input pixels beyond its own position an output pixel depends on."""
        self._check_scale(scale)
        radius = 1 + SCALE_BLOCKS * 2 * (SCALE_KERNEL_SIZE // 2) + 2 * self.shared_blocks + 1
        per_stage = MODULES_PER_STAGE * (2 * self.upscale_blocks + 1)
        radius += sum(per_stage / 2**stage for stage in range(stages(scale)))
        return math.ceil(radius + 1 / scale)

    def call(self, images, scale=None):
        """Upscales images; see the class. `scale` may be left out if the model has only one."""
        if scale is None and len(self.scales) == 1:
            scale = self.scales[0]
        self._check_scale(scale)
        branch = self.scales.index(scale)
        mean = keras.ops.convert_to_tensor(self.rgb_mean, self.compute_dtype)
        x = self.shared(self.before[branch](self.first_convolution(images - mean)))
        return self.upscaling[branch](x) + (images if scale == 1 else mean)

    def get_config(self):
        """Returns the constructor's arguments."""
        names = ("scales", "features", "shared_blocks", "upscale_blocks", "rgb_mean")
        return {name: getattr(self, name) for name in (*names, "residual_factor", "name")}

    def _check_scale(self, scale):
        if scale not in self.scales:
            raise ValueError(
                f"This EUSR network has weights for scales {list(self.scales)}. Received: {scale}"
            )

    def _build_before(self, scale):
        inputs = keras.Input((None, None, self.features))
        x = inputs
        for block in range(1, SCALE_BLOCKS + 1):
            x = self._residual_block(x, SCALE_KERNEL_SIZE, f"before_x{scale}_block{block}")
        return keras.Model(inputs, x, name=f"before_x{scale}")

    def _build_upscaling(self, scale):
        inputs = keras.Input((None, None, self.features))
        x = inputs
        for stage in range(1, stages(scale) + 1):
            # Each module is fed by the one before it and yields one sub-pixel position.
            positions = []
            for module in range(1, MODULES_PER_STAGE + 1):
                name = f"upscaling_x{scale}_stage{stage}_module{module}_"
                x = self._residual_module(x, self.upscale_blocks, name)
                positions.append(x)
            if scale > 1:
                x = keras.ops.depth_to_space(keras.layers.Concatenate()(positions), 2)
        x = keras.layers.Conv2D(
            3,
            3,
            padding="same",
            # Repair begins with leaving images as they are.
            kernel_initializer="zeros" if scale == 1 else "glorot_uniform",
            dtype=keras.config.floatx(),
            name=f"upscaling_x{scale}_last_convolution",
        )(x)
        return keras.Model(inputs, x, name=f"upscaling_x{scale}")

    def _residual_module(self, inputs, blocks, name):
        x = inputs
        for block in range(1, blocks + 1):
            x = self._residual_block(x, 3, f"{name}block{block}")
        x = keras.layers.Conv2D(self.features, 3, padding="same", name=f"{name}convolution")(x)
        return keras.layers.Add()([inputs, x])

    def _residual_block(self, inputs, kernel_size, name):
        x = self._residual_convolution(kernel_size, f"{name}_convolution1", "relu")(inputs)
        x = self._residual_convolution(kernel_size, f"{name}_convolution2")(x)
        return keras.layers.Add()([inputs, x])

    def _residual_convolution(self, kernel_size, name, activation=None):
        # Names are part of the checkpoint format: variables are stored by their path.
        return keras.layers.Conv2D(
            self.features,
            kernel_size,
            padding="same",
            activation=activation,
            kernel_initializer=keras.initializers.VarianceScaling(
                self.residual_factor, mode="fan_in", distribution="truncated_normal"
            ),
            name=name,
        )


def stages(scale):
    """Returns how many stages a branch ends with: one per doubling, and one for scale 1."""
    return max(1, int(scale).bit_length() - 1)


def branch_of(name):
    """Returns the scale whose branch a variable of that name belongs to, None for the others'."""
    found = re.match(r"(?:before|upscaling)_x(\d+)_", name)
    return int(found[1]) if found else None


def check_scales(scales):
    """Raises ValueError unless `scales` holds distinct powers of two."""
    valid = [s for s in scales if s == int(s) and s >= 1 and int(s) & (int(s) - 1) == 0]
    if not scales or len(valid) != len(scales) or len(set(scales)) != len(scales):
        raise ValueError(
            "EUSR scales are distinct powers of two: 1 (repair), 2, 4, 8, ... "
            f"Received: {list(scales)}"
        )
