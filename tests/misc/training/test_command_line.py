import sys

import pytest
from absl import flags

from misc.training import command_line, common_flags, registry, settings


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--rate=nan", r"--rate=nan: nan is not a finite number at least 0"),
        ("--rate=fast", r"--rate=fast: 'fast' is not a finite number at least 0"),
        ("--size=1.5", r"--size=1.5: '1.5' is not a positive integer"),
        ("--size=0", r"--size=0: 0 is not a positive integer"),
        (f"--size={2**63}", r"--size=9223372036854775808: the largest whole number is 2\^63 - 1"),
        (
            "--network=resnet5",
            r"--network=resnet5: unknown. Did you mean resnet50\? Known: vgg, re",
        ),
        ("--cached=maybe", r"--cached=maybe: 'maybe' is neither true nor false"),
        ("--sice=3", r"--sice is no flag of .* Did you mean --size\?"),
        ("--size", "Missing value for flag --size"),
        ("--flagfile=nowhere", "Unable to open flagfile: .*nowhere"),
        ("--size=3", "--input is missing: Folder of images. Also missing: --output."),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(argument, message):
    given = () if "is missing: " in message else ("--input=a", "--output=b")
    with settings.fresh_flags():
        common_flags.define_float("rate", 1.0, "", at_least=0)
        flags.DEFINE_integer("size", 3, "", lower_bound=1)
        flags.DEFINE_enum("network", "vgg", ["vgg", "resnet50"], "")
        flags.DEFINE_bool("cached", True, "")
        flags.DEFINE_string("input", None, "Folder of images.", required=True)
        flags.DEFINE_string("output", None, "Folder for results.", required=True)
        with pytest.raises(ValueError, match=f"^{message}"):
            command_line.parse(["program", *given, argument])


@pytest.mark.parametrize(
    ("kind", "name", "near"),
    [
        ("models", "esur", "eusr"),
        ("models", "4pp-eusr", "4pp_eusr"),
        ("dataloaders", "cifar", "cifar10"),
    ],
)
def test_unknown_modules_suggest_the_nearest(kind, name, near):
    message = rf"--{kind[:-1]}={name} is unknown. Did you mean {near}\? Known: "
    with pytest.raises(ValueError, match=message):
        registry.load(kind, name)


def test_a_run_that_is_not_there_does_not_tell_the_model(tmp_path):
    message = f"--restore_path={tmp_path}/run does not tell the model.* Known: eusr"
    with settings.fresh_flags(), pytest.raises(ValueError, match=message):
        registry.select(["program", f"--restore_path={tmp_path}/run"], with_dataloader=False)


@pytest.mark.parametrize(
    "devices", ["0", "0,1", "-1", "GPU-8932f937-d72c,MIG-1/2/3", "", "1,,2", "abc"]
)
def test_devices_are_numbers_or_identifiers(devices):
    with settings.fresh_flags():
        common_flags.define_device_flags()
        if devices in ("", "1,,2", "abc"):
            with pytest.raises(ValueError, match=f"--cuda_device={devices}: it must be numbers"):
                command_line.parse(["program", f"--cuda_device={devices}"])
        else:
            command_line.parse(["program", f"--cuda_device={devices}"])
            assert flags.FLAGS.cuda_device == devices


def test_a_missing_model_says_what_needs_no_files():
    for for_use, expected in ((True, "--restore_path"), (False, "Without data of your own")):
        message = f"--model is missing.*{expected}.*--model=eusr trains on sample photographs"
        with settings.fresh_flags(), pytest.raises(ValueError, match=message):
            registry.select(["program"], with_dataloader=False, for_use=for_use)


def test_help_ends_with_the_flags_of_libraries(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["program"])
    with settings.fresh_flags():
        flags.DEFINE_integer("verbosity", 0, "A library's.", module_name="absl.logging")
        flags.DEFINE_integer("size", 3, "A model's.", module_name="eusr.models.eusr")
        flags.DEFINE_integer("freq", 3, "The program's.", module_name="program")
        text = command_line.describe_all_flags()
    places = [text.index(f"--{name}:") for name in ("freq", "size", "version", "verbosity")]
    assert places == sorted(places)
