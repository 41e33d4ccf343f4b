import contextlib
import re

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import degradations
from degradations.combined import Chain, OneOf
from degradations.noise import Noise, Saltpepper


def test_levels_and_ranges():
    assert degradations.parse("noise:25").level == 25
    assert degradations.parse("noise:0-50").level == [0, 50]
    assert degradations.parse("noise:deviation=1e-1-2.5").level == [0.1, 2.5]
    layer = degradations.parse("noise:0-50,p=0.5,quantize=none,step=5")
    assert (layer.p, layer.quantize, layer.step) == (0.5, None, 5)
    layer = degradations.parse("gaussian_noise@2.5", size=64)
    assert (layer.severity, layer.size) == (2.5, 64)
    assert degradations.parse("gaussian_noise@1-5:p=0.5").severity == [1, 5]
    assert degradations.parse("gaussian_noise", severity=4).severity == 4


def test_chains_and_choices():
    layer = degradations.parse("noise:1/saltpepper:.1 | noise:3")
    assert isinstance(layer, Chain)
    assert isinstance(layer.layers[0], OneOf)
    assert layer.layers[1].level == 3
    layer = degradations.parse("(noise:1|saltpepper:.1)/noise:3")
    assert isinstance(layer, OneOf)
    assert isinstance(layer.layers[0], Chain)
    assert isinstance(layer.layers[0].layers[1], Saltpepper)


def test_groups_expand_in_lists_only():
    assert degradations.expand(["colour@2", "noise:1"]) == [
        *[f"{name}@2" for name in degradations.GROUPS["colour"]],
        "noise:1",
    ]
    assert len(degradations.expand(["imagenet_c@3"])) == 15
    assert len(degradations.expand(["imagenet_c_bar@3"])) == 10
    with pytest.raises(ValueError, match="group"):
        degradations.parse("imagenet_c@3")
    with pytest.raises(ValueError, match="list"):
        degradations.parse_list("noise:1")
    assert [layer.level for layer in degradations.parse_list(["noise:1", "noise:2"])] == [1, 2]


def test_arguments_of_a_group_go_to_those_that_take_them():
    texts = degradations.expand(['imagenet_c@1-5:folder="a,b/c",p=0.5|noise:1'])
    assert texts[0] == "gaussian_noise@1-5:p=0.5|noise:1"
    assert 'frost@1-5:folder="a,b/c",p=0.5|noise:1' in texts
    assert degradations.expand(["imagenet_c:folder=photos"])[0] == "gaussian_noise"
    # What nobody takes is refused by whoever reads it.
    with pytest.raises(ValueError, match="foldr"):
        degradations.parse_list(["imagenet_c@3:foldr=photos"])


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('frost:folder="/a,b/c d"', "frost"),
        ("frost@3:folder=photos,p=0.5", "frost@3:p=0.5"),
        ("frost@3:p=0.5,folder='a/b'|jpeg:10", "frost@3:p=0.5|jpeg:10"),
        ("(frost@3:folder=a)/fog@3", "(frost@3)/fog@3"),
        ("jpeg:10,p=0.5", "jpeg:10,p=0.5"),
    ],
)
def test_labels_leave_the_folder_of_photos_out(text, label):
    assert degradations.label(text) == label


def test_every_group_member_is_a_name():
    for members in degradations.GROUPS.values():
        assert set(members) <= set(degradations.NAMES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is expected"),
        (None, "is expected"),
        ("rain@3", "unknown name 'rain'; known: jpeg"),
        ("fogg@3", "unknown name 'fogg'; did you mean 'fog'? known: jpeg"),
        ("noise:nan", "deviation must be a number or a range"),
        ("noise:0-1e999", "must be a number from 0 to 1000"),
        ("noise:25,p=nan", "p must be a number from 0 to 1"),
        ("noise:0-50,step=nan", "step must be a number from 0 to inf"),
        ("noise", "needs either a level"),
        ("noise:", "an argument is missing"),
        ("noise:abc", "deviation must be a number"),
        ("noise:1,2", "should be key=value"),
        ("noise:1,p=2", "p must be a number from 0 to 1"),
        ("noise:1,p=0.1,p=0.2", "given twice"),
        ("noise:1,strength=2", "strength"),
        ("noise:1|", "a name is missing"),
        ("noise@3", "has no severities"),
        ("noise@", "a severity is missing"),
        ("gaussian_noise@7", "severity must be"),
        ("(noise:1", "closing parenthesis"),
        ("noise:1)", "unexpected"),
    ],
)
def test_errors_name_what_was_wrong(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        degradations.parse(text)


@settings(max_examples=50, deadline=None)
@given(low=st.floats(0, 999, width=32), width=st.floats(0, 1, width=32), p=st.floats(0, 1))
def test_numbers_survive(low, width, p):
    layer = degradations.parse(f"noise:{low!r}-{low + width!r},p={p!r}")
    assert isinstance(layer, Noise)
    assert layer.level == [low, low + width]
    assert layer.p == p


@settings(max_examples=200, deadline=None)
@given(st.text("noisefg1235@:|/,=p()'-. ", max_size=20))
def test_any_text_gives_a_layer_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        assert isinstance(degradations.parse(text), keras.layers.Layer)
