"""CLIP's text half against a second implementation in float64, its tokens against a few by hand."""

import gzip

import numpy as np
import pytest
import scipy.special

from classifiers import networks
from classifiers.networks import clip_text, clip_tokens
from tests.classifiers.test_pretrained import write_safetensors

RANDOM = np.random.default_rng(0)
MERGES = ["t h", "a t</w>", "th e</w>", "c at</w>"]
COUNT = 512 + len(MERGES) + 2
START, END = COUNT - 2, COUNT - 1
WIDTH, CONTEXT, FEATURES, BLOCKS = 128, 16, 6, 2


@pytest.fixture
def merges(tmp_path):
    return write_merges(tmp_path / "merges.txt.gz", MERGES)


def write_merges(path, lines):
    with gzip.open(path, "wt") as file:
        file.write("\n".join(["#version", *lines, ""]))
    return path


def letter(character, ends=False):
    """Printable ASCII comes first, from "!" on; the same with a word's end 256 later."""
    return ord(character) - ord("!") + 256 * ends


def test_texts_are_split_and_merged(merges):
    to_tokens = clip_tokens.Tokens(merges, COUNT)
    th, at, the, cat = range(512, 516)
    assert to_tokens("A.")[1:3] == [320, 269]  # as in all of CLIP's released models
    assert to_tokens("The  cat") == [START, the, cat, END]
    assert to_tokens("that") == [START, th, at, END]
    assert to_tokens("a thatch") == [
        *(START, letter("a", True), th, letter("a"), letter("t"), letter("c"), letter("h", True)),
        END,
    ]
    assert to_tokens("cat's 12.") == [
        *(START, cat, letter("'"), letter("s", True), letter("1", True), letter("2", True)),
        *(letter(".", True), END),
    ]
    # Two bytes: 0xc3 stands for itself, the 94 printable ones and those from 161 on before it.
    assert to_tokens("\u00e9") == [START, 94 + 0xC3 - 161 - 1, 256 + 94 + 0xA9 - 161, END]


@pytest.mark.parametrize("lines", [MERGES[:3], [*MERGES[:3], "c"], [*MERGES[:3], "c a t"]])
def test_files_of_too_few_merges_are_refused(lines, tmp_path):
    path = write_merges(tmp_path / "a.gz", lines)
    with pytest.raises(ValueError, match=r"a\.gz should hold 4 pairs .* 518 tokens.*Received: 3"):
        clip_tokens.Tokens(path, COUNT)


def test_other_files_are_no_merges(tmp_path):
    (tmp_path / "a.gz").write_text("#version\nt h\n")
    with pytest.raises(ValueError, match=r"a\.gz should hold CLIP's merges"):
        clip_tokens.Tokens(tmp_path / "a.gz", COUNT)


def random_tensors():
    def normal(*shape):
        return RANDOM.normal(0, 0.3, shape).astype(np.float32)

    tensors = {
        "token_embedding.weight": normal(COUNT, WIDTH),
        "positional_embedding": normal(CONTEXT, WIDTH),
        "text_projection": normal(WIDTH, FEATURES),
    }
    layers = ["ln_final"]
    for block in range(BLOCKS):
        name = f"transformer.resblocks.{block}"
        layers += [f"{name}.ln_1", f"{name}.ln_2"]
        tensors[f"{name}.attn.in_proj_weight"] = normal(3 * WIDTH, WIDTH)
        tensors[f"{name}.attn.in_proj_bias"] = normal(3 * WIDTH)
        for part, shape in (
            ("attn.out_proj", (WIDTH, WIDTH)),
            ("mlp.c_fc", (4 * WIDTH, WIDTH)),
            ("mlp.c_proj", (WIDTH, 4 * WIDTH)),
        ):
            tensors[f"{name}.{part}.weight"] = normal(*shape) / 3
            tensors[f"{name}.{part}.bias"] = normal(shape[0])
    for name in layers:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = 1 + normal(WIDTH), normal(WIDTH)
    return tensors


def embed_alone(tensors, tokens):
    """One text, token by token and head by head, in float64."""
    t = {name: value.astype(np.float64) for name, value in tensors.items()}

    def norm(x, name):
        centred = x - x.mean()
        scale = np.sqrt((centred**2).mean() + 1e-5)
        return centred / scale * t[f"{name}.weight"] + t[f"{name}.bias"]

    x = t["token_embedding.weight"][tokens] + t["positional_embedding"][: len(tokens)]
    for block in range(BLOCKS):
        name = f"transformer.resblocks.{block}"
        weight, bias = t[f"{name}.attn.in_proj_weight"], t[f"{name}.attn.in_proj_bias"]
        queries, keys, values = zip(
            *(np.split(weight @ norm(each, f"{name}.ln_1") + bias, 3) for each in x), strict=True
        )
        for place in range(len(x)):
            heads = []
            for first in range(0, WIDTH, 64):
                part = slice(first, first + 64)
                seen = range(place + 1)
                scores = [queries[place][part] @ keys[other][part] / 8 for other in seen]
                shares = scipy.special.softmax(scores)
                heads.append(sum(s * values[o][part] for s, o in zip(shares, seen, strict=True)))
            out = t[f"{name}.attn.out_proj.weight"] @ np.concatenate(heads)
            x[place] = x[place] + out + t[f"{name}.attn.out_proj.bias"]
        for place, each in enumerate(x):
            hidden = t[f"{name}.mlp.c_fc.weight"] @ norm(each, f"{name}.ln_2")
            hidden += t[f"{name}.mlp.c_fc.bias"]
            hidden /= 1 + np.exp(-1.702 * hidden)
            x[place] = each + t[f"{name}.mlp.c_proj.weight"] @ hidden + t[f"{name}.mlp.c_proj.bias"]
    embedding = norm(x[-1], "ln_final") @ t["text_projection"]
    return embedding / np.linalg.norm(embedding)


def test_embeddings_equal_a_second_implementation(merges, tmp_path, monkeypatch):
    monkeypatch.setattr(clip_text, "PROMPT", "the {}.")
    monkeypatch.setattr(clip_text, "_BATCH", 2)
    (tmp_path / "names.txt").write_text("cat\nthatch cat\nhat\n")
    tensors = random_tensors()
    found = clip_text.embed_classes(tensors, merges, tmp_path / "names.txt")
    to_tokens = clip_tokens.Tokens(merges, COUNT)
    texts = ("the cat.", "the thatch cat.", "the hat.")
    expected = [embed_alone(tensors, to_tokens(text)) for text in texts]
    assert np.ptp(expected, axis=0).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-5)
    (tmp_path / "names.txt").write_text("a cat that is on that hat of that cat\n")
    with pytest.raises(ValueError, match=r"class 'a cat that .*more than 16 tokens"):
        clip_text.embed_classes(tensors, merges, tmp_path / "names.txt")


@pytest.mark.slow  # a network of this size
def test_a_classifier_of_clip_gets_its_classes_from_texts(merges, tmp_path):
    source = networks.build("clip_rn50", 3)
    image_half = {
        name: np.transpose(variable, np.argsort(axes))
        for name, (variable, axes) in networks.pytorch_weights.tensor_names(source).items()
        if name != "head.weight"
    }
    tensors = random_tensors()
    tensors["text_projection"] = RANDOM.normal(size=(WIDTH, 1024)).astype(np.float32)
    write_safetensors(tmp_path / "clip.safetensors", image_half | tensors)
    (tmp_path / "names.txt").write_text("cat\nhat\n")
    paths = [tmp_path / "clip.safetensors", merges, tmp_path / "names.txt"]
    network = networks.build("clip_rn50", weights=paths)
    expected = clip_text.embed_classes(tensors, merges, tmp_path / "names.txt")
    np.testing.assert_allclose(network.get_layer("head").kernel, expected.T, atol=1e-6)
    with pytest.raises(ValueError, match=r"names\.txt needs CLIP's merges"):
        networks.build("clip_rn50", weights=[paths[0], paths[2]])


def test_other_networks_have_no_text_half(merges):
    with pytest.raises(ValueError, match="checkpoint has a text_projection"):
        clip_text.embed_classes({"fc.weight": np.ones((3, 3))}, merges)
