"""The text half of CLIP: embeddings of the classes' names, of the tensors of its checkpoint.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
sections 2.4 and 3.1.4: a transformer with a causal mask, whose answer at the end of the text is
projected. It is used once for each class, and not trained here.
"""

import numpy as np
from keras import ops

from classifiers import class_names
from classifiers.networks import clip_tokens, transformer
from misc.images import progress

PROMPT = "A photo of a {}."
# Of the files that belong together these are the merges, and names of classes.
MERGES, NAMES = ".gz", ".txt"
HEAD_WIDTH = 64
EPSILON = 1e-5
_BATCH = 50


def embed_classes(tensors, merges, names=class_names.IMAGENET):
    """Returns an embedding for each class, float32 `[classes, features]`, of length 1.

    Args:
        tensors: {name: array} of CLIP's checkpoint.
        merges: path of the merges of byte pairs; see `clip_tokens`.
        names: the classes' names; see `class_names.read`.

    Raises:
        ValueError: for a checkpoint without text half, files that do not fit, or a long name.
        FileNotFoundError: when there is no such file.
    """
    if "text_projection" not in tensors:
        raise ValueError(f"{merges} is for CLIP, whose checkpoint has a text_projection.")
    tensors = {name: tensors[name] for name in tensors if _is_of_text(name)}
    to_tokens = clip_tokens.Tokens(merges, tensors["token_embedding.weight"].shape[0])
    longest = tensors["positional_embedding"].shape[0]
    texts = []
    for name in class_names.read(names).values():
        texts.append(to_tokens(PROMPT.format(name)))
        if len(texts[-1]) > longest:
            raise ValueError(f"The class {name!r} is a text of more than {longest} tokens.")
    # What follows a text's end changes nothing, so that all need not be as long as the longest.
    padded = np.zeros((len(texts), max(map(len, texts))), np.int32)
    for row, text in zip(padded, texts, strict=True):
        row[: len(text)] = text
    ends = np.array([len(text) - 1 for text in texts], np.int32)
    tensors = {name: np.asarray(tensors[name], np.float32) for name in tensors}
    starts = range(0, len(texts), _BATCH)
    bar = progress.track(starts, description="Embedding the classes' names", unit="batch")
    try:
        parts = [embed(tensors, padded[n : n + _BATCH], ends[n : n + _BATCH]) for n in bar]
    except KeyError as error:
        raise ValueError(f"CLIP's text half lacks {error}.") from error
    return np.concatenate([ops.convert_to_numpy(part) for part in parts])


def _is_of_text(name):
    singles = ("token_embedding.weight", "positional_embedding", "text_projection")
    return name in singles or name.startswith(("transformer.", "ln_final."))


def embed(tensors, tokens, ends):
    """Returns the embeddings of texts, `[B, features]`, of length 1.

    Args:
        tensors: {name: array} of the text half.
        tokens: integers `[B, T]`.
        ends: place of the last token of each text, `[B]`.
    """
    count = tokens.shape[1]
    x = ops.take(tensors["token_embedding.weight"], tokens, axis=0)
    x = x + tensors["positional_embedding"][:count]
    mask = np.triu(np.full((count, count), -np.inf, np.float32), 1)
    blocks = sum(name.endswith(".ln_1.weight") for name in tensors)
    for number in range(blocks):
        name = f"transformer.resblocks.{number}"
        x = x + _attend(tensors, f"{name}.attn", _normalise(tensors, f"{name}.ln_1", x), mask)
        hidden = _project(tensors, f"{name}.mlp.c_fc", _normalise(tensors, f"{name}.ln_2", x))
        # GELU as the authors approximate it.
        hidden = hidden * ops.sigmoid(1.702 * hidden)
        x = x + _project(tensors, f"{name}.mlp.c_proj", hidden)
    last = ops.take_along_axis(x, ends[:, None, None], axis=1)[:, 0]
    last = _normalise(tensors, "ln_final", last)
    return ops.normalize(ops.matmul(last, tensors["text_projection"]), axis=-1)


def _attend(tensors, name, x, mask):
    width = x.shape[-1]
    kernel, bias = tensors[f"{name}.in_proj_weight"], tensors[f"{name}.in_proj_bias"]
    parts = ops.split(ops.matmul(x, kernel.T) + bias, 3, axis=-1)
    return _project(
        tensors, f"{name}.out_proj", transformer.attend(*parts, width // HEAD_WIDTH, mask)
    )


def _project(tensors, name, x):
    return ops.matmul(x, tensors[f"{name}.weight"].T) + tensors[f"{name}.bias"]


def _normalise(tensors, name, x):
    mean, variance = ops.moments(x, axes=-1, keepdims=True)
    x = (x - mean) * ops.rsqrt(variance + EPSILON)
    return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]
