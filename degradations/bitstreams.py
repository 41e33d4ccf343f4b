"""Real image codecs: pixels to bytes and back, one image at a time, on the host.

Every codec has `encode(image, level) -> bytes` and `decode(data) -> image` for uint8 images
[H, W, 3] (RGB) or [H, W, 1] (grey), any H and W from 1 up, and a `codec_name` that says what really
runs. Nothing here imports TensorFlow: worker processes (`bitstream_worker`) load this file alone.
"""

import fractions
import importlib
import io
import pathlib
import shutil
import subprocess
import tempfile

import numpy as np
from PIL import Image, features

from degradations import bitstream_worker, bpg_file

CHROMA = ("444", "422", "420")


class Codec:
    """Base class of the codecs; a subclass sets its options in the constructor.

    Attributes:
        codec_name: name of the codec that really runs.
        level_name: what the level of `encode` is.
        limits: smallest and largest level.
        integer: whether levels are whole numbers.
        packages: names of the packages whose versions decide on the bit streams.
    """

    packages = ("pillow",)
    level_name = "quality"
    limits = (0, 100)
    integer = True

    def encode(self, image, level):
        """Returns the bit stream of a uint8 image [H, W, 3] or [H, W, 1]."""
        raise NotImplementedError(f"{type(self).__name__} has no encode")

    def decode(self, data):
        """Returns the uint8 image [H, W, 3] or [H, W, 1] of a bit stream."""
        return _array(Image.open(io.BytesIO(data)))

    def round_trip(self, image, level):
        """Returns (image as it comes back, length of its bit stream in bytes).

        The channels are those of `image`, whatever the bit stream keeps.
        """
        data = self.encode(image, level)
        decoded = self.decode(data)
        if decoded.shape[-1] != image.shape[-1]:
            mode = "L" if image.shape[-1] == 1 else "RGB"
            decoded = _array(_picture(decoded).convert(mode))
        return decoded, len(data)

    def _check_level(self, level):
        low, high = self.limits
        if not low <= level <= high or (self.integer and level != int(level)):
            kind = "a whole number" if self.integer else "a number"
            raise ValueError(
                f"{self.level_name} of {self.codec_name} must be {kind} from {low} to {high}. "
                f"Received: {level!r}"
            )
        return int(level) if self.integer else float(level)


class Jpeg(Codec):
    """JPEG by the libjpeg-turbo inside OpenCV; the same files as Pillow's, byte for byte.

    OpenCV runs without Python's lock, so that threads scale; Pillow's encoder holds it.

    Args:
        subsampling: "444", "422", "420", or "400" to store grey.
        optimize: whether to fit the Huffman tables to the image (same pixels, fewer bytes).
        progressive: whether to code in several scans (same pixels, other bytes).
    """

    packages = ("opencv-python-headless",)
    limits = (1, 100)

    def __init__(self, subsampling="420", optimize=False, progressive=False):
        import cv2

        self._cv2 = cv2
        subsampling = str(subsampling)
        check_choice("subsampling", subsampling, (*CHROMA, "400"))
        factors = {
            "444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
            "422": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
            "420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
        }
        self.subsampling = subsampling
        self.codec_name = f"JPEG {subsampling}"
        self._options = [cv2.IMWRITE_JPEG_OPTIMIZE, int(check_flag("optimize", optimize))]
        self._options += [cv2.IMWRITE_JPEG_PROGRESSIVE, int(check_flag("progressive", progressive))]
        if subsampling != "400":
            self._options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factors[subsampling]]

    def encode(self, image, level):
        """Returns a JPEG file."""
        quality = [self._cv2.IMWRITE_JPEG_QUALITY, self._check_level(level)]
        if image.shape[-1] == 3 and self.subsampling == "400":
            image = _array(_picture(image).convert("L"))
        if image.shape[-1] == 3:
            image = self._cv2.cvtColor(image, self._cv2.COLOR_RGB2BGR)
        done, data = self._cv2.imencode(".jpg", image, quality + self._options)
        if not done:
            raise RuntimeError(f"OpenCV wrote no JPEG file of an image of shape {image.shape}")
        return data.tobytes()

    def decode(self, data):
        """Returns the image of a JPEG file; grey files give [H, W, 1]."""
        flags = self._cv2.IMREAD_UNCHANGED | self._cv2.IMREAD_IGNORE_ORIENTATION
        image = self._cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if image is None:
            raise ValueError(f"not a JPEG file. Received: {len(data)} bytes")
        if image.ndim == 2:
            return image[:, :, None]
        return self._cv2.cvtColor(image, self._cv2.COLOR_BGR2RGB)


class Jpeg2000(Codec):
    """JPEG 2000 by OpenJPEG, through Pillow.

    Args:
        mode: what a level is: "rates" for a compression ratio (Pillow's `quality_layers`), "dB" for
            a peak signal-to-noise ratio.
        irreversible: whether to use the 9/7 wavelet and the YCbCr colours instead of the 5/3 one.
        in_processes: encode in worker processes. Pillow holds Python's lock while it encodes, so
            threads don't scale; processes do.
    """

    limits = (1, 10000)
    integer = False

    def __init__(self, mode="rates", irreversible=False, in_processes=True):
        _check_feature("jpg_2000", "JPEG 2000")
        check_choice("mode", mode, ("rates", "dB"))
        self.mode, self.irreversible = mode, check_flag("irreversible", irreversible)
        self.in_processes = check_flag("in_processes", in_processes)
        self.codec_name = f"JPEG 2000 {'9/7' if irreversible else '5/3'}"
        self.level_name = "compression ratio" if mode == "rates" else "PSNR in dB"

    def encode(self, image, level):
        """Returns a JP2 file of one quality layer."""
        level = self._check_level(level)
        if self.in_processes:
            return bitstream_worker.call(
                _encode_jpeg2000, image, level, self.mode, self.irreversible
            )
        return _encode_jpeg2000(image, level, self.mode, self.irreversible)


def _encode_jpeg2000(image, level, mode, irreversible):
    return _save(
        image,
        "JPEG2000",
        quality_mode=mode,
        quality_layers=[level],
        irreversible=irreversible,
    )


class Webp(Codec):
    """WebP, through Pillow.

    Args:
        lossless: whether to code without loss; the level is then the effort spent.
        method: 0 (fast) to 6 (small).
    """

    def __init__(self, lossless=False, method=4):
        _check_feature("webp", "WebP")
        self.lossless, self.method = check_flag("lossless", lossless), method
        check_choice("method", method, range(7))
        self.codec_name = "WebP lossless" if lossless else "WebP"

    def encode(self, image, level):
        """Returns a WebP file; grey images are stored as RGB."""
        level = self._check_level(level)
        return _save(image, "WEBP", quality=level, lossless=self.lossless, method=self.method)


class Avif(Codec):
    """AVIF, through Pillow; one thread, since the bytes depend on the number of threads.

    Args:
        subsampling: "444", "422" or "420".
        speed: 0 (small) to 10 (fast).
    """

    def __init__(self, subsampling="420", speed=6):
        _check_feature("avif", "AVIF")
        self.subsampling, self.speed = str(subsampling), speed
        check_choice("subsampling", self.subsampling, CHROMA)
        check_choice("speed", speed, range(11))
        self.codec_name = f"AVIF {self.subsampling}"

    def encode(self, image, level):
        """Returns an AVIF file; grey images are stored as RGB."""
        return _save(
            image,
            "AVIF",
            quality=self._check_level(level),
            subsampling=":".join(self.subsampling),
            speed=self.speed,
            max_threads=1,
        )


class Bpg(Codec):
    """BPG where its programs are installed, otherwise HEVC intra frames at the same QP.

    The programs bpgenc and bpgdec (F. Bellard, bellard.org/bpg) are used with the options of Marie
    et al., "Expert Training" (Electronic Imaging 2022): -m 9 -b 8 -c ycbcr, 4:2:0. The stand-in is
    libx265 through PyAV, stored as a BPG file, with settings that come close to theirs in rate and
    quality: a statistical match, not the same pixels. `codec_name` tells which ran. Beside
    bpgenc, files are about 3 % smaller at QP 41 and 6 % at QP 51.

    Args:
        program: "bpgenc" or "libx265"; "auto" takes bpgenc if it and bpgdec are on the PATH.
    """

    packages = ("av",)
    level_name = "QP"
    limits = (0, 51)

    def __init__(self, program="auto"):
        check_choice("program", program, ("auto", "bpgenc", "libx265"))
        missing = [name for name in ("bpgenc", "bpgdec") if shutil.which(name) is None]
        if program == "bpgenc" and missing:
            raise ValueError(
                f"program=bpgenc needs {' and '.join(missing)} on the PATH, which is not there; "
                "program=libx265 is the stand-in"
            )
        self.program = "libx265" if program == "libx265" or missing else "bpgenc"
        self.codec_name = "BPG (bpgenc)"
        if self.program == "libx265":
            self.codec_name = "HEVC intra (libx265), for BPG"
            self._headers = {}
            self._av = _import_extra("av")
            self._av.logging.set_level(self._av.logging.ERROR)

    def encode(self, image, level):
        """Returns a BPG file."""
        qp = self._check_level(level)
        return self._encode_bpg(image, qp) if self.program == "bpgenc" else self._encode(image, qp)

    def decode(self, data):
        """Returns the RGB image of what `encode` returned."""
        return self._decode_bpg(data) if self.program == "bpgenc" else self._decode(data)

    def _encode_bpg(self, image, qp):
        with tempfile.TemporaryDirectory() as folder:
            source, target = pathlib.Path(folder, "image.png"), pathlib.Path(folder, "image.bpg")
            _picture(image).convert("RGB").save(source, compress_level=1)
            options = ["-q", str(qp), "-f", "420", "-m", "9", "-b", "8", "-c", "ycbcr"]
            _run(["bpgenc", *options, "-o", str(target), str(source)])
            return target.read_bytes()

    def _decode_bpg(self, data):
        with tempfile.TemporaryDirectory() as folder:
            source, target = pathlib.Path(folder, "image.bpg"), pathlib.Path(folder, "image.ppm")
            source.write_bytes(data)
            _run(["bpgdec", "-o", str(target), str(source)])
            return _array(Image.open(target))

    # Full-range BT.601 (JFIF) colours and 4:2:0, as BPG's own default.
    _FULL_RANGE, _BT601 = 2, 5
    _X265 = (
        "qp={}:ipratio=1.25:keyint=1:info=0:pools=none:frame-threads=1:range=full:log-level=none"
    )

    @staticmethod
    def _frame_sides(*sides):
        # libx265 refuses smaller frames than one coding unit of 32 pixels, 4:2:0 odd ones.
        return [max(32, side + side % 2) for side in sides]

    def _encode(self, image, qp):
        height, width = image.shape[:2]
        rows, columns = self._frame_sides(height, width)
        padded = np.pad(image, ((0, rows - height), (0, columns - width), (0, 0)), "edge")
        y, cb, cr = _picture(padded).convert("RGB").convert("YCbCr").split()
        planes = [y, cb.reduce(2), cr.reduce(2)]
        planes = np.concatenate([np.asarray(plane).reshape(-1) for plane in planes])
        frame = self._av.VideoFrame.from_ndarray(planes.reshape(-1, columns), format="yuv420p")
        frame.color_range, frame.pts = self._FULL_RANGE, 0

        context = self._encoder(rows, columns, qp)
        packets = [*context.encode(frame), *context.encode(None)]
        return bpg_file.pack(b"".join(bytes(packet) for packet in packets), width, height)

    def _encoder(self, rows, columns, qp):
        context = self._av.CodecContext.create("libx265", "w")
        context.width, context.height, context.pix_fmt = columns, rows, "yuv420p"
        context.time_base, context.framerate = fractions.Fraction(1, 25), fractions.Fraction(25)
        context.color_range, context.colorspace = self._FULL_RANGE, self._BT601
        context.options = {
            "preset": "placebo",
            "tune": "ssim",
            "x265-params": self._X265.format(qp),
        }
        return context

    def _left_out(self, rows, columns):
        """Returns the headers that BPG leaves out: they depend on the size of the frame alone."""
        if (rows, columns) not in self._headers:
            context = self._encoder(rows, columns, 0)
            context.flags |= self._av.codec.context.Flags.global_header
            context.open()
            self._headers[rows, columns] = bpg_file.left_out(bytes(context.extradata))
        return self._headers[rows, columns]

    def _decode(self, data):
        width, height, stream = bpg_file.unpack(data)
        context = self._av.CodecContext.create("hevc", "r")
        context.thread_count = 1
        packet = self._av.Packet(self._left_out(*self._frame_sides(height, width)) + stream)
        frame = [*context.decode(packet), *context.decode(None)][0]
        rows, columns = frame.height, frame.width
        planes = frame.to_ndarray().reshape(-1)
        y, cb, cr = np.split(planes, [rows * columns, rows * columns * 5 // 4])
        half = (rows // 2, columns // 2)
        chroma = [
            Image.fromarray(plane.reshape(half)).resize((columns, rows), Image.Resampling.BICUBIC)
            for plane in (cb, cr)
        ]
        merged = Image.merge("YCbCr", [Image.fromarray(y.reshape(rows, columns)), *chroma])
        return np.asarray(merged.convert("RGB"))[:height, :width]


class Heif(Codec):
    """HEIF (HEVC by libx265), through pillow-heif, at an exact QP.

    Args:
        subsampling: "444", "422" or "420".
    """

    packages = ("pillow-heif",)
    level_name = "QP"
    limits = (0, 51)

    def __init__(self, subsampling="420"):
        self._heif = _import_extra("pillow_heif")
        self.subsampling = str(subsampling)
        check_choice("subsampling", self.subsampling, CHROMA)
        self.codec_name = f"HEIF {self.subsampling}"

    def encode(self, image, level):
        """Returns a HEIF file; grey images are stored as RGB."""
        height, width = image.shape[:2]
        pixels = np.ascontiguousarray(np.broadcast_to(image, (height, width, 3)))
        file = io.BytesIO()
        self._heif.encode(
            "RGB",
            (width, height),
            pixels.tobytes(),
            file,
            chroma=int(self.subsampling),
            # One thread: work is spread over images, and the bytes don't depend on the machine.
            enc_params={"x265:qp": str(self._check_level(level)), "x265:pools": "none"},
        )
        return file.getvalue()

    def decode(self, data):
        """Returns the RGB image of a HEIF file."""
        return np.asarray(self._heif.open_heif(data).to_pillow())


class Jpegxl(Codec):
    """JPEG XL by libjxl, through pillow-jxl-plugin.

    Args:
        effort: 1 (fast) to 10 (small).
    """

    codec_name = "JPEG XL"
    packages = ("pillow-jxl-plugin",)
    limits = (1, 100)

    def __init__(self, effort=7):
        _import_extra("pillow_jxl")
        self.effort = effort
        check_choice("effort", effort, range(1, 11))

    def encode(self, image, level):
        """Returns a JPEG XL file; quality 100 is without loss."""
        level = self._check_level(level)
        return _save(image, "JXL", quality=level, effort=self.effort, num_threads=0)


def check_choice(name, value, choices):
    """Raises ValueError unless `value` is one of `choices`."""
    if value not in choices:
        known = ", ".join(str(choice) for choice in choices)
        raise ValueError(f"{name} must be one of {known}. Received: {value!r}")


def check_flag(name, value):
    """Returns `value` if it is True or False, else raises ValueError."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False. Received: {value!r}")
    return value


def _import_extra(module):
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = {"av": "av", "pillow_heif": "pillow-heif", "pillow_jxl": "pillow-jxl-plugin"}
        raise ImportError(
            f"this codec needs the package {package[module]}, which the extra 'codecs' installs: "
            "pip install 'degraded-vision[codecs]'"
        ) from error


def _check_feature(feature, what):
    if not features.check(feature):
        raise ImportError(
            f"this build of Pillow has no {what}; the wheels of Pillow 12 and later do"
        )


def _picture(image):
    return Image.fromarray(image[:, :, 0] if image.shape[-1] == 1 else image)


def _array(picture):
    picture = picture if picture.mode in ("L", "RGB") else picture.convert("RGB")
    image = np.asarray(picture)
    return image[:, :, None] if image.ndim == 2 else image


def _save(image, file_format, **options):
    file = io.BytesIO()
    _picture(image).save(file, file_format, **options)
    return file.getvalue()


def _run(command):
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(
            f"{command[0]} failed with status {result.returncode}: {result.stderr.strip()[-500:]}"
        )
