"""Files as PyTorch writes them, and what is in them."""

import argparse
import io
import pathlib

import numpy as np
import torch

TYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8")
FORMATS = {"new": True, "old": False}


def example_tensors():
    torch.manual_seed(0)
    tensors = {kind: (100 * torch.rand(3, 4)).to(getattr(torch, kind)) for kind in TYPES}
    shared = torch.randn(5, 6, 7)
    return tensors | {
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "transposed": shared.permute(2, 0, 1),
        "part": shared[1:3, ::2, 4],
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
    }


def scripted():
    torch.manual_seed(1)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.Sequential(torch.nn.BatchNorm2d(4)), torch.nn.ReLU()
    )
    return network.half()


def expected_tensors():
    """Returns {"example/NAME" and "scripted/NAME": array}; bfloat16 as float32."""
    groups = {"example": example_tensors(), "scripted": scripted().state_dict()}
    return {
        f"{group}/{name}": (value.float() if value.dtype == torch.bfloat16 else value)
        .detach()
        .numpy()
        for group, tensors in groups.items()
        for name, value in tensors.items()
    }


class Attack:
    """A pickle of this would create a file when it is loaded."""

    def __reduce__(self):
        return (pathlib.Path.touch, (pathlib.Path("created"),))


def contents():
    """Returns {name: what is saved in both formats}."""
    # What the authors' trainer saves beside the weights is of classes in their code only.
    trainer = {
        "model": "ResNet56",
        "epoch": 3,
        "state_dict": {f"module.{name}": value for name, value in example_tensors().items()},
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": []},
        "monitor_best": np.float64(0.5),
        "config": argparse.Namespace(save_dir=pathlib.PurePosixPath("saved"), names=["a"]),
    }
    nested = {"module._orig_mod.a": torch.ones(2), "module._orig_mod.module.b": torch.ones(1)}
    return {
        "types": example_tensors(),
        "trainer": trainer,
        **{f"nested_{key}": {"step": 1, key: nested} for key in ("state_dict", "model", "net")},
        "attack": {"state_dict": {"a": torch.ones(2)}, "config": Attack()},
        "list": [1, 2],
        "numbers": {"a": 1, "epoch": 2},
        "empty": {"state_dict": {}},
        "module": torch.nn.Linear(2, 2),
        "long": {"a": torch.ones(400)},
        "short": {"a": torch.ones(4)},
        "two": {"a": torch.ones(3), "b": torch.zeros(2, 2)},
        "float8": {"a": torch.ones(4).to(torch.float8_e4m3fn)},
    }


def files():
    """Returns {"NAME.new" and "NAME.old": bytes}."""
    found = {}
    for name, content in contents().items():
        for kind, new in FORMATS.items():
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=new)
            found[f"{name}.{kind}"] = buffer.getvalue()
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(scripted()), buffer)
    return found | {"scripted.new": buffer.getvalue()}
