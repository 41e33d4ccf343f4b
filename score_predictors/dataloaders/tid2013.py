"""TID2013: 25 pictures with 24 distortions at 5 levels, mean scores from 0 to 9.

Ponomarenko et al., "Image database TID2013: Peculiarities, results and perspectives", Signal
Processing: Image Communication 30, 2015. Names are iCC_DD_L: content, distortion, level; their
case varies between tables and files, so it is ignored.
"""

import functools
import pathlib
import re

import numpy as np
from absl import flags

from misc.images import files
from misc.training import common_flags, settings
from score_predictors import rated_images, targets, windows

MODEL = "mobilenetv2"
VALUES = np.arange(10)
EXTENSIONS = {"bmp": (".bmp",), "png": (".png",)}
# Where tf-perceptual-eusr keeps the scores, and how TID2013 is distributed.
ONE_TABLE = "tid2013_name_mos_std.txt"
MEANS, STDS = "mos_with_names.txt", "mos_std.txt"
# Ponomarenko et al., table 1, shortened.
DISTORTIONS = (
    "white noise",
    "noise stronger in colour",
    "spatially correlated noise",
    "masked noise",
    "high-frequency noise",
    "impulse noise",
    "quantisation noise",
    "Gaussian blur",
    "denoising",
    "JPEG",
    "JPEG2000",
    "JPEG transmission errors",
    "JPEG2000 transmission errors",
    "non-eccentricity pattern",
    "local blocks",
    "mean shift",
    "contrast",
    "saturation",
    "multiplicative noise",
    "comfort noise",
    "lossy coding of noisy images",
    "colour quantisation with dither",
    "chromatic aberration",
    "sparse sampling",
)
# Ranges of tf-perceptual-eusr: contents 1 to 3 are for validation, while no image is missing.
TRAIN_RANGE, VALIDATE_RANGE = [360, 3000], [0, 360]
_NAME = re.compile(r"i(\d\d)_(\d\d)_(\d)", re.IGNORECASE)


def define_flags():
    """Defines the flags of this dataloader."""
    flags.DEFINE_string(
        "tid2013_score_path",
        None,
        f"Folder with {MEANS} and {STDS}, or one table of lines NAME MEAN STD. Default: "
        f"{ONE_TABLE} here, or either of them beside the images or one folder above.",
    )
    flags.DEFINE_string("tid2013_image_path", None, "Folder of the distorted images.")
    flags.DEFINE_enum(
        "tid2013_image_extension",
        None,
        list(EXTENSIONS),
        "Format of the images, in any case; default: whichever is there.",
    )
    common_flags.define_numbers(
        "tid2013_validation_contents",
        [1, 2, 3],
        "Contents (1-25) that are held out for validation; all distortions of them.",
        order="distinct",
        at_least=1,
        at_most=25,
    )
    common_flags.define_numbers(
        "tid2013_train_range",
        None,
        "Split by place in the list instead: start and end of the images to train on, "
        "such as 360,3000. An end of 0 is the list's end. Missing images move the places.",
        length=2,
    )
    common_flags.define_numbers(
        "tid2013_validate_range",
        None,
        "As --tid2013_train_range, for validation, such as 0,360.",
        length=2,
    )
    flags.DEFINE_enum(
        "tid2013_target",
        "gaussian",
        targets.KINDS,
        "Distribution made from mean and standard deviation: gaussian, the original's; "
        "mean_preserving; maximum_entropy, from both; maximum_entropy_mean, from the mean alone.",
    )
    common_flags.define_skip_broken_flag()
    rated_images.define_thread_flag("tid2013")
    flags.FLAGS.set_default("score_values", VALUES.tolist())
    settings.local("tid2013_score_path", "tid2013_image_path", "tid2013_image_extension")


def create_data(flags):
    """Returns the `RatedData`; `'test'` is the same as `'validation'`.

    `group` is the distortion's number and name.

    Raises:
        ValueError: without --tid2013_image_path.
    """
    image_path = rated_images.require(
        flags.tid2013_image_path, "tid2013_image_path", "the folder of TID2013's distorted images"
    )
    score_path = find_scores(flags.tid2013_score_path, image_path)
    target = flags.tid2013_target
    extension, skip_broken = flags.tid2013_image_extension, flags.data_skip_broken
    load = functools.cache(lambda: _load(score_path, image_path, extension, target, skip_broken))
    train, validation = flags.tid2013_train_range, flags.tid2013_validate_range
    contents = flags.tid2013_validation_contents

    def find(split):
        if not (train or validation):
            return _take_contents(load(), contents, split == "train")
        if split == "train":
            numbers, name = train or TRAIN_RANGE, "tid2013_train_range"
        else:
            numbers, name = validation or VALIDATE_RANGE, "tid2013_validate_range"
        return rated_images.take_range(load(), numbers, name)

    cropping = windows.Cropping(flags.input_patch_size, square=False, small="pad")
    return rated_images.create_data(flags, find, cropping, flags.tid2013_num_threads)


def _take_contents(rated, held_out, for_training):
    contents = [int(_NAME.fullmatch(name)[1]) for name in rated.names]
    taken = [
        number for number, content in enumerate(contents) if (content in held_out) != for_training
    ]
    if not taken:
        found = ",".join(str(content) for content in sorted(set(contents)))
        raise ValueError(
            f"--tid2013_validation_contents={','.join(map(str, held_out))} leaves no image to "
            f"{'train' if for_training else 'validate'} on. There are images of the contents "
            f"{found}"
        )
    return rated.take(taken)


def _load(score_path, image_path, extension, target, skip_broken):
    names, means, stds = read_scores(score_path)
    scores = targets.from_moments(target, means, stds, VALUES, score_path)
    extensions = EXTENSIONS[extension] if extension else (".bmp", ".png")
    paths = rated_images.find_images(
        names, image_path, "tid2013_image_path", skip_broken, extensions
    )
    return rated_images.RatedImages(
        paths,
        scores,
        means.astype(np.float32),
        stds.astype(np.float32),
        names,
        [_distortion(name) for name in names],
    ).with_files()


def _distortion(name):
    number = int(_NAME.fullmatch(name)[2])
    return f"{number:02d} {DISTORTIONS[number - 1]}"


def find_scores(score_path, image_path):
    """Returns the path of the scores: a table NAME MEAN STD, or one of means with names.

    Args:
        score_path: a file, the folder of the distributed files, or None to search.
        image_path: folder of the images.

    Raises:
        ValueError: when there are none.
    """
    if score_path:
        given = pathlib.Path(score_path).expanduser()
        if given.is_file():
            return str(given)
        if not given.is_dir():
            raise ValueError(f"--tid2013_score_path: there is no such file or folder: {given}")
        candidates = [given / MEANS, given / ONE_TABLE]
    else:
        images = pathlib.Path(image_path).expanduser().absolute()
        candidates = [pathlib.Path(ONE_TABLE).absolute()]
        for folder in (images, images.parent):
            candidates += [folder / MEANS, folder / ONE_TABLE]
    for candidate in candidates:
        if candidate.is_file():
            return str(candidate)
    raise ValueError(
        f"TID2013's scores are not among {', '.join(map(str, candidates))}: give "
        "--tid2013_score_path. --dataloader=sample_ratings needs no files of yours."
    )


def read_scores(path):
    """Returns names, means float64 `[N]` and standard deviations float64 `[N]` of a table.

    Args:
        path: lines NAME MEAN STD; or lines MEAN NAME, with the standard deviations in the same
            order in mos_std.txt beside it. Extensions of names are dropped.

    Raises:
        ValueError: for lines of another form, names that are none of TID2013, or numbers of lines
            that differ.
    """
    lines = _words(path)
    if not lines:
        raise ValueError(f"{path} holds no scores")
    if len(lines[0][1]) == 3:
        rows = [_row(path, number, words, words[0], words[1:], 3) for number, words in lines]
    else:
        rows = [_row(path, number, words, words[-1], words[:-1], 2) for number, words in lines]
        beside = pathlib.Path(path).with_name(STDS)
        if not beside.is_file():
            raise ValueError(f"{path} has no standard deviations, and there is no {beside}")
        stds = [_number(beside, number, words[0]) for number, words in _words(beside)]
        if len(stds) != len(rows):
            raise ValueError(f"{path} has {len(rows)} lines, but {beside} has {len(stds)}")
        rows = [(*row, std) for row, std in zip(rows, stds, strict=True)]
    names, means, stds = zip(*rows, strict=True)
    if len({name.lower() for name in names}) < len(names):
        raise ValueError(f"{path} names an image twice")
    return list(names), np.array(means), np.array(stds)


def _words(path):
    """Returns (line number, words) of the lines that are not blank."""
    lines = files.read_text(path, errors="replace").splitlines()
    return [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip()]


def _row(path, line, words, name, numbers, expected):
    stem = name.split(".")[0]
    match = _NAME.fullmatch(stem)
    valid = match and 1 <= int(match[1]) <= 25 and 1 <= int(match[2]) <= len(DISTORTIONS)
    if len(words) != expected or not valid:
        raise ValueError(
            f"{path}, line {line}: expected NAME MEAN STD, or MEAN NAME, with a name such as "
            f"i01_02_3. Received: {' '.join(words)!r}"
        )
    return (stem, *(_number(path, line, number) for number in numbers))


def _number(path, line, text):
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{path}, line {line}: {text!r} is no number") from error
