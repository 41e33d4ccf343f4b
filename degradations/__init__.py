"""Degradations by name: `parse('blur:2|jpeg:10')` returns one Keras layer.

Grammar, from the loosest to the tightest binding:

- `a|b`: a, then b;
- `a/b`: one of them, chosen per image; `fog@3/snow@3|jpeg:10` ends in JPEG either way, and
  parentheses group otherwise: `(blur:2|jpeg:10)/noise:25`;
- `name@severity:arguments`: both parts optional. The severity is a number from 1 to 5 (2.5 lies
  half-way between two rows of the table), 0 for none, or a range `1-5`.

Arguments are separated by commas. The first may be a bare level; the others are `key=value`: a
parameter's name, `p`, `step`, `quantize`, or another argument of the layer's constructor. A level
`low-high` is drawn uniformly per image. Values with special signs, such as paths, are quoted.

In a list, the name of a group stands for its members. What only some of them take goes to those:
`imagenet_c:folder="photos"` draws frost from a folder.
"""

import dataclasses
import difflib
import importlib
import re

_SPECIAL = "|/()@:,='\""
_QUOTED = r"'[^']*'|\"[^\"]*\""


@dataclasses.dataclass(frozen=True)
class Entry:
    """Where a degradation's class is found, and its row of the README's table.

    Attributes:
        target: "module:Class".
        unit: what its level means; for those with severities, its parameters.
        levels: the levels that the literature uses.
        source: who defined it.
    """

    target: str
    unit: str
    levels: str
    source: str

    def load(self):
        """Imports the module and returns the class."""
        module, name = self.target.split(":")
        return getattr(importlib.import_module(module), name)


def _entries(module, source, levels, units):
    def camel(name):
        return "".join(word.capitalize() for word in name.split("_"))

    return {
        name: Entry(f"degradations.{module}:{camel(name)}", unit, levels, source)
        for name, unit in units.items()
    }


_STABILITY = "Zheng et al., CVPR 2016; Daultani & Larochelle, WACV-W 2024"
_FUSION = "Daultani & Larochelle, WACV-W 2024"
_IMAGENET_C = "Hendrycks & Dietterich, ICLR 2019"
_IMAGENET_C_BAR = "Mintun, Kirillov & Xie, NeurIPS 2021"
_SYMPIE = "Barbato et al., ACM MMSys 2024"
_EXPERT = "Marie et al., Electronic Imaging 2022"

GROUPS = {
    "imagenet_c": (
        "gaussian_noise",
        "shot_noise",
        "impulse_noise",
        "defocus_blur",
        "glass_blur",
        "motion_blur",
        "zoom_blur",
        "snow",
        "frost",
        "fog",
        "brightness",
        "contrast",
        "elastic_transform",
        "pixelate",
        "jpeg_compression",
    ),
    "imagenet_c_extra": ("gaussian_blur", "spatter", "speckle_noise", "saturate"),
    "imagenet_c_bar": (
        "blue_noise_sample",
        "brownish_noise",
        "caustic_refraction",
        "checkerboard_cutout",
        "cocentric_sine_waves",
        "inverse_sparkles",
        "perlin_noise",
        "plasma_noise",
        "single_frequency_greyscale",
        "sparkles",
    ),
    "cifar_c_bar": (
        "blue_noise_sample",
        "brownish_noise",
        "checkerboard_cutout",
        "inverse_sparkles",
        "sparkles",
        "circular_motion_blur",
        "lines",
        "pinch_and_twirl",
        "ripple",
        "transverse_chromatic_abberation",
    ),
    "colour": ("darken", "sunset", "night", "white"),
}

NAMES = {
    **_entries(
        "jpeg", "ITU-T T.81; libjpeg", "quality 1-100; 101 clean", {"jpeg": "quality factor"}
    ),
    **_entries(
        "codecs",
        _EXPERT,
        "see the codec's own table",
        {
            "jpeg_host": "quality factor",
            "jpeg2000": "compression ratio, or dB",
            "webp": "quality",
            "avif": "quality",
            "bpg": "QP",
            "heif": "QP",
            "jpegxl": "quality",
        },
    ),
    **_entries("noise", _STABILITY, "0-50", {"noise": "standard deviation, grey levels"}),
    **_entries("blur", _FUSION, "0-5, step 0.1", {"blur": "standard deviation, pixels"}),
    **_entries("noise", _FUSION, "0-0.25, step 0.01", {"saltpepper": "density, share of values"}),
    **_entries(
        "noise",
        _IMAGENET_C,
        "severity 1-5",
        {
            "gaussian_noise": "standard deviation, share of 255",
            "shot_noise": "photons at full scale",
            "impulse_noise": "share of values",
            "speckle_noise": "standard deviation, share of the value",
        },
    ),
    **_entries(
        "blur",
        _IMAGENET_C,
        "severity 1-5",
        {
            "gaussian_blur": "standard deviation, pixels",
            "defocus_blur": "radius and smoothing, pixels",
            "glass_blur": "blur and reach in pixels, rounds",
            "motion_blur": "radius and standard deviation, pixels",
            "zoom_blur": "largest zoom and step between zooms",
        },
    ),
    **_entries(
        "weather",
        _IMAGENET_C,
        "severity 1-5",
        {
            "snow": "mean, spread, zoom, threshold, radius, blur, image weight",
            "frost": "weights of image and frost",
            "fog": "amount, decay",
            "spatter": "mean, spread, blur, threshold, strength, mud",
        },
    ),
    **_entries(
        "photometric",
        _IMAGENET_C,
        "severity 1-5",
        {
            "brightness": "added HSV value",
            "contrast": "factor",
            "saturate": "HSV saturation: factor and offset",
            "pixelate": "size, share of the side",
            "elastic_transform": "strength, smoothing, affine shift, pixels",
        },
    ),
    "jpeg_compression": Entry(
        "degradations.jpeg:Jpeg", "quality factor", "severity 1-5", _IMAGENET_C
    ),
    **_entries(
        "cbar",
        _IMAGENET_C_BAR,
        "severity 1-5",
        dict.fromkeys(
            GROUPS["cifar_c_bar"][:5] + GROUPS["imagenet_c_bar"] + GROUPS["cifar_c_bar"],
            "strength 0-10",
        ),
    ),
    **_entries(
        "colour",
        _SYMPIE,
        "severity 1-5",
        dict.fromkeys(GROUPS["colour"], "severity"),
    ),
}


def parse(text, size=224, severity=None):
    """Returns the layer that a text such as 'fog@3|jpeg:10-30,p=0.5' describes.

    Args:
        text: see the module's docstring.
        size: whose severities: 224, 64 or 32.
        severity: what parts that name neither a level nor a severity get.

    Raises:
        ValueError: if the text can't be read; it names the part and what is known.
    """
    return _Parser(text, size, severity).parse()


def parse_list(texts, size=224, severity=None):
    """Returns one layer per text; the name of a group stands for all its members.

    Args:
        texts: list of texts as `parse` takes them; a group may carry a severity and arguments, as
            in 'imagenet_c@3' or 'colour@1-5:p=0.5'; see `expand`.
        size: whose severities: 224, 64 or 32.
        severity: what parts that name neither a level nor a severity get.
    """
    return [parse(text, size, severity) for text in expand(texts)]


def expand(texts):
    """Returns the texts with each group replaced by its members, arguments kept.

    An argument that some members of a group have, as frost's `folder`, is left out at the others.

    Raises:
        ValueError: if one text names several degradations, separated by commas.
    """
    if isinstance(texts, str):
        raise ValueError(f"a list of degradations is expected, not one text. Received: {texts!r}")
    expanded = []
    for text in texts:
        # What follows a comma within the arguments of one degradation is key=value.
        parts = _split_at_commas(text)
        if len(parts) > 1 and all(re.match(r"\s*\w+\s*($|[@:|/])", part) for part in parts):
            raise ValueError(
                "one text is one degradation, and commas separate its arguments: write "
                + " and ".join(repr(part.strip()) for part in parts)
                + f" apart (a flag: repeat it). Received: {text!r}"
            )
        name, rest = re.fullmatch(r"\s*(\w*)(.*)", text, re.DOTALL).groups()
        if name in GROUPS:
            expanded += _expand_group(GROUPS[name], rest)
        else:
            expanded.append(text)
    return expanded


def _split_at_commas(text):
    return re.findall(rf"(?:{_QUOTED}|[^,])+", text)


def _expand_group(members, rest):
    # Severity, arguments, and what follows them in a chain or a choice.
    pattern = rf"([^:|/]*)(?::((?:{_QUOTED}|[^|/])+))?(.*)"
    severity, arguments, others = re.fullmatch(pattern, rest, re.DOTALL).groups()
    if arguments is None:
        return [member + rest for member in members]
    arguments = _split_at_commas(arguments)
    options = {member: set(NAMES[member].load().options) for member in members}
    special = set.union(*options.values())
    expanded = []
    for member in members:
        foreign = special - options[member]
        own = [part for part in arguments if part.split("=")[0].strip() not in foreign]
        expanded.append(member + severity + (":" + ",".join(own) if own else "") + others)
    return expanded


def label(text):
    """Returns the text without the folder that photos come from: what its results are named by."""
    folder = rf"\s*folder\s*=\s*(?:{_QUOTED}|[^,|/()]*)"
    return re.sub(rf"[:,]{folder}", "", re.sub(rf":{folder},", ":", text))


class _Parser:
    def __init__(self, text, size, severity):
        self.text, self.size, self.severity = text, size, severity
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"a degradation such as 'jpeg:10' is expected. Received: {text!r}")
        # Quoted values, single signs that steer, and runs of anything else.
        self.tokens = re.findall(r"'[^']*'|\"[^\"]*\"|[|/()@:,=]|[^|/()@:,=]+", text)
        self.position = 0

    def parse(self):
        layer = self._chain()
        if self.position < len(self.tokens):
            raise self._error(f"unexpected {self.tokens[self.position]!r}")
        return layer

    def _error(self, reason):
        return ValueError(f"cannot read the degradation {self.text!r}: {reason}")

    def _take(self, sign):
        if self.position < len(self.tokens) and self.tokens[self.position] == sign:
            self.position += 1
            return True
        return False

    def _word(self, what):
        word = self.tokens[self.position].strip() if self.position < len(self.tokens) else ""
        if not word or word in _SPECIAL:
            raise self._error(f"{what} is missing")
        self.position += 1
        return word

    def _several(self, part, sign, combine):
        parts = [part()]
        while self._take(sign):
            parts.append(part())
        if len(parts) == 1:
            return parts[0]
        return getattr(importlib.import_module("degradations.combined"), combine)(parts)

    def _chain(self):
        return self._several(self._one_of, "|", "Chain")

    def _one_of(self):
        return self._several(self._item, "/", "OneOf")

    def _item(self):
        while self.position < len(self.tokens) and not self.tokens[self.position].strip():
            self.position += 1
        if self._take("("):
            layer = self._chain()
            if not self._take(")"):
                raise self._error("a closing parenthesis is missing")
            return layer
        name = self._word("a name")
        if name in GROUPS:
            raise self._error(f"{name!r} is a group, which only a list of degradations takes")
        if name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, n=1)
            hint = f" did you mean {near[0]!r}?" if near else ""
            raise self._error(f"unknown name {name!r};{hint} known: {', '.join(NAMES)}")
        arguments, levels = {}, {}
        if self._take("@"):
            arguments["severity"] = self._range(self._word("a severity"), "severity")
        layer_class = NAMES[name].load()
        if self._take(":"):
            self._arguments(layer_class.parameters, arguments, levels)
        if levels:
            single = len(layer_class.parameters) == 1
            arguments["level"] = next(iter(levels.values())) if single else levels
        if self.severity is not None and not {"level", "severity"} & set(arguments):
            arguments["severity"] = self.severity
        if layer_class.severities(self.size) is not None:
            arguments.setdefault("size", self.size)
        try:
            return layer_class(**arguments)
        except (TypeError, ValueError) as error:
            raise self._error(f"{name}: {error}") from error

    def _arguments(self, parameters, arguments, levels):
        first = True
        while first or self._take(","):
            word = self._word("an argument")
            if self._take("="):
                key, value = word, self._word(f"the value of {word}")
            elif first:
                key, value = parameters[0], word
            else:
                raise self._error(f"{word!r} should be key=value")
            first = False
            if key in arguments or key in levels:
                raise self._error(f"{key} is given twice")
            if key == "level":
                key = parameters[0]
            if key in parameters:
                levels[key] = self._range(value, key)
            else:
                arguments[key] = _value(value)

    def _range(self, word, key):
        number = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
        match = re.fullmatch(rf"({number})(?:-({number}))?", word)
        if not match:
            raise self._error(f"{key} must be a number or a range such as 1-5, not {word!r}")
        low, high = match.groups()
        return _number(low) if high is None else (_number(low), _number(high))


def _number(word):
    return int(word) if re.fullmatch(r"[-+]?\d+", word) else float(word)


def _value(word):
    if word[0] in "'\"":
        return word[1:-1]
    constants = {"true": True, "false": False, "none": None}
    if word.lower() in constants:
        return constants[word.lower()]
    try:
        return _number(word)
    except ValueError:
        return word
