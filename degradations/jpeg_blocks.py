"""JPEG's block transform, quantization and their inverses, exactly as libjpeg-turbo computes them.

The forward and inverse cosine transforms are the "slow integer" ones: butterflies of 13-bit
constants with a rounding shift after the rows and after the columns. Both rounding shifts act on
sums that are linear in the input, so each pass is one integer matrix product followed by a shift;
`DCT` below is that matrix. Sources: ITU-T T.81 (baseline JPEG, quantization tables of Annex K); C.
Loeffler, A. Ligtenberg and G. Moschytz, "Practical fast 1-D DCT algorithms with 11
multiplications" (ICASSP 1989); constants and rounding of libjpeg-turbo's jfdctint.c, jidctint.c and
jcdctmgr.c.

Coefficients are laid out [8, 8, B, blocks] (vertical frequency, horizontal frequency, image, block
in raster order), so that every elementwise step runs over long contiguous rows.
"""

import keras
import numpy as np
from keras import ops

# Row u holds what the butterflies add up to for frequency u; near-equal entries differ by one
# because they are sums of different 13-bit constants.
DCT = np.array(
    [
        [8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192],
        [11363, 9633, 6437, 2260, -2260, -6437, -9633, -11363],
        [10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703],
        [9633, -2259, -11362, -6436, 6436, 11362, 2259, -9633],
        [8192, -8192, -8192, 8192, 8192, -8192, -8192, 8192],
        [6437, -11362, 2261, 9633, -9633, -2261, 11362, -6437],
        [4433, -10704, 10704, -4433, -4433, 10704, -10704, 4433],
        [2260, -6436, 9633, -11363, 11363, -9633, 6436, -2260],
    ],
    np.int32,
)

# ITU-T T.81, tables K.1 and K.2; rows are vertical frequencies.
LUMA_TABLE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.int32,
)
CHROMA_TABLE = np.full((8, 8), 99, np.int32)
CHROMA_TABLE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

# Bits that the split of a product into two float32 products leaves to the lower one.
_LOW_BITS = 7

# Rounding shifts after the two passes of each transform: CONST_BITS - PASS1_BITS, CONST_BITS +
# PASS1_BITS, and 3 more in the second inverse pass for the factor 8 of two passes (CONST_BITS = 13,
# PASS1_BITS = 2).
_FORWARD_SHIFTS = (11, 15)
_INVERSE_SHIFTS = (11, 18)


def scaled_tables(table):
    """Returns a base table at every quality, float32 [101, 8, 8]; entry 0 repeats quality 1.

    Quality q scales by 5000 // q percent below 50, by 200 - 2 q percent from there, and entries are
    cut to 1-255 (libjpeg's jpeg_quality_scaling and force_baseline).
    """
    quality = np.arange(1, 101)
    percent = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)[:, None, None]
    scaled = np.clip((table * percent + 50) // 100, 1, 255)
    return np.concatenate([scaled[:1], scaled]).astype(np.float32)


_SCALED_LUMA = scaled_tables(LUMA_TABLE)
_SCALED_CHROMA = scaled_tables(CHROMA_TABLE)


def tables_for(quality, chroma):
    """Returns quantization tables, float32 [8, 8, B, 1], for int32 qualities [B] of 1-100."""
    tables = ops.convert_to_tensor(_SCALED_CHROMA if chroma else _SCALED_LUMA)
    return ops.expand_dims(ops.transpose(ops.take(tables, quality, axis=0), (1, 2, 0)), -1)


def choose_arithmetic():
    """Returns "float32" where only a CPU is present, "int32" where there is an accelerator.

    Both give the same numbers. Matrix products in float32 are fastest on a CPU; accelerators may
    compute them with shorter mantissas (TensorFloat-32, bfloat16), which would not be exact, and
    they have no fast integer matrix product, so there the products are written out.
    """
    devices = keras.distribution.list_devices()
    return "float32" if all(str(name).lower().startswith("cpu") for name in devices) else "int32"


def forward(planes, tables, arithmetic):
    """Transforms and quantizes planes.

    Args:
        planes: float32 [B, h, w] of whole values 0-255; h and w are multiples of 8.
        tables: float32 [8, 8, B, 1], from `tables_for`.
        arithmetic: "float32" or "int32", see `choose_arithmetic`.

    Returns:
        Quantized coefficients, float32 [8, 8, B, blocks] of whole values.
    """
    _, height, width = planes.shape
    rows = ops.reshape(planes - 128.0, (-1, 8))
    values = _multiply(DCT, ops.transpose(rows), _FORWARD_SHIFTS[0], arithmetic, split=False)
    values = ops.transpose(ops.reshape(values, (8, -1, 8, width // 8)), (2, 0, 1, 3))
    values = _multiply(DCT, ops.reshape(values, (8, -1)), _FORWARD_SHIFTS[1], arithmetic)
    values = ops.cast(ops.reshape(values, (8, 8, -1, height * width // 64)), "float32")
    # The transform is 8 times the orthonormal one, so the step is 8 tables; half a step is rounded
    # away from zero. 0.5 keeps whole quotients clear of the error of the reciprocal.
    half = ops.where(values < 0.0, 4.0 * tables - 0.5, 4.0 * tables + 0.5)
    return ops.floor((values + half) * (0.125 / tables))


def inverse(coefficients, tables, height, width, arithmetic):
    """Dequantizes and transforms back.

    Args:
        coefficients: float32 [8, 8, B, blocks], from `forward`.
        tables: float32 [8, 8, B, 1], from `tables_for`.
        height: height of the planes, a multiple of 8.
        width: width of the planes, a multiple of 8.
        arithmetic: "float32" or "int32", see `choose_arithmetic`.

    Returns:
        float32 [B, height, width] of whole values, not yet cut to 0-255.
    """
    values = ops.reshape(coefficients * tables, (8, -1))
    values = _multiply(DCT.T, values, _INVERSE_SHIFTS[0], arithmetic)
    values = ops.transpose(ops.reshape(values, (8, 8, -1, width // 8)), (1, 2, 0, 3))
    values = _multiply(DCT.T, ops.reshape(values, (8, -1)), _INVERSE_SHIFTS[1], arithmetic)
    values = ops.transpose(ops.reshape(values, (8, -1, 8, width // 8)), (1, 2, 3, 0))
    return ops.cast(ops.reshape(values, (-1, height, width)), "float32") + 128.0


def _multiply(matrix, values, shift, arithmetic, split=True):
    """Returns (matrix @ values + half) >> shift, exactly, for whole `values` [8, N]."""
    if arithmetic == "int32":
        return _multiply_int32(matrix, ops.cast(values, "int32"), shift)
    return _multiply_float32(matrix, values, shift, split)


def _multiply_float32(matrix, values, shift, split):
    """Keeps every partial sum below 2**24, where float32 counts without gaps.

    The first forward pass stays below it as it is (128 * 65536). Elsewhere the matrix is split into
    128 * high + low. The bounds: the forward pass sees at most 4096, so partial sums stay below
    2**22. Quantization adds at most half a table entry to an orthonormal transform, so dequantized
    blocks have a Euclidean norm of at most 8 * 128 + 8 * 127.5 and the inverse passes see at most
    2**11 and, by Cauchy-Schwarz, 2**14.5; with rows of norm 181 in either half of the matrix,
    partial sums stay below 2**22.
    """
    if not split:
        products = ops.matmul(matrix.astype(np.float32), values)
        return ops.floor((products + 2.0 ** (shift - 1)) * 2.0**-shift)
    high = np.floor(matrix / 2**_LOW_BITS + 0.5)
    halves = np.concatenate([high, matrix - 2**_LOW_BITS * high]).astype(np.float32)
    products = ops.matmul(halves, values)
    # floor((128 a + b + half) / 2**shift) in two steps, whose sums are small and whole.
    rest = shift - _LOW_BITS
    sums = products[:8] + ops.floor(products[8:] * 2.0**-_LOW_BITS)
    return ops.floor((sums + 2.0 ** (rest - 1)) * 2.0**-rest)


def _multiply_int32(matrix, values, shift):
    """Uses that even frequencies are symmetric and odd ones antisymmetric: half the products."""
    rows = [values[i] for i in range(8)]
    if matrix[0, 7] == matrix[0, 0]:  # The forward matrix: row 0 is constant.
        sums = [rows[i] + rows[7 - i] for i in range(4)]
        differences = [rows[i] - rows[7 - i] for i in range(4)]
        outputs = [_weighted_sum(matrix[u, :4], differences if u % 2 else sums) for u in range(8)]
    else:
        even = [_weighted_sum(matrix[i, 0::2], rows[0::2]) for i in range(4)]
        odd = [_weighted_sum(matrix[i, 1::2], rows[1::2]) for i in range(4)]
        outputs = [even[i] + odd[i] for i in range(4)]
        outputs += [even[i] - odd[i] for i in reversed(range(4))]
    return ops.right_shift(ops.stack(outputs) + (1 << (shift - 1)), shift)


def _weighted_sum(weights, terms):
    total = terms[0] * int(weights[0])
    for weight, term in zip(weights[1:], terms[1:], strict=True):
        total = total + term * int(weight)
    return total
