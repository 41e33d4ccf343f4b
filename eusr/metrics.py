"""PSNR, RMSE and SSIM as super-resolution papers report them, in float64 on 8-bit images."""

import numpy as np
import skimage.metrics

# ITU-R BT.601 luma with studio swing (16-235), as MATLAB's rgb2ycbcr computes it.
LUMA_WEIGHTS = np.array([65.481, 128.553, 24.966]) / 255.0
LUMA_OFFSET = 16.0


def to_uint8(image):
    """Returns float pixels in 0-255 rounded and clipped to 8 bits."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def luma(image):
    """Returns the Y channel `[height, width]` in 16-235 of RGB `[height, width, 3]` in 0-255."""
    return np.asarray(image, np.float64) @ LUMA_WEIGHTS + LUMA_OFFSET


def shave(image, border):
    """Returns an image without `border` pixels at every edge; a ValueError if nothing remains."""
    height, width = image.shape[:2]
    if border < 0 or 2 * border >= min(height, width):
        raise ValueError(
            f"Cannot shave {border} pixels from every edge of an image of {height}x{width} pixels."
        )
    return image[border : height - border, border : width - border]


def rmse(image, truth):
    """Returns the root of the mean squared difference of two images of one shape."""
    difference = np.asarray(image, np.float64) - np.asarray(truth, np.float64)
    return float(np.sqrt(np.mean(np.square(difference))))


def psnr(image, truth, peak=255.0):
    """Returns the peak signal-to-noise ratio in dB; infinite for identical images."""
    error = rmse(image, truth)
    return float("inf") if error == 0 else float(20 * np.log10(peak / error))


def ssim(image, truth):
    """Returns the structural similarity of two `[height, width]` images in 0-255.

    Wang et al., IEEE Transactions on Image Processing 2004: 11x11 Gaussian window of deviation
    1.5, K1 = 0.01, K2 = 0.03, averaged where the window lies inside the image. A smaller image is a
    ValueError.
    """
    if min(image.shape) < 11:
        raise ValueError(f"SSIM needs at least 11x11 pixels. Received: {image.shape}")
    return float(
        skimage.metrics.structural_similarity(
            np.asarray(image, np.float64),
            np.asarray(truth, np.float64),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255.0,
        )
    )


def compare(output, truth, scale, shave_size):
    """Returns all figures of one upscaled image and its truth, uint8 RGB `[height, width, 3]`.

    Args:
        output: the image.
        truth: uint8 RGB of the same shape; others are a ValueError.
        scale: upscaling factor: so many border pixels are shaved for the figures on Y, as the
            papers do.
        shave_size: border pixels shaved for the figures on RGB.

    Returns:
        {"psnr_rgb": dB, "rmse_rgb": grey levels, "psnr_y": dB, "ssim_y": 0-1}. SSIM is NaN where
        less than 11x11 pixels remain.
    """
    if output.shape != truth.shape:
        raise ValueError(f"Image {output.shape} and truth {truth.shape} differ in shape.")
    rgb = shave(output, shave_size), shave(truth, shave_size)
    y = shave(luma(output), scale), shave(luma(truth), scale)
    return {
        "psnr_rgb": psnr(*rgb),
        "rmse_rgb": rmse(*rgb),
        "psnr_y": psnr(*y),
        "ssim_y": ssim(*y) if min(y[0].shape) >= 11 else float("nan"),
    }
