"""The PyTorch networks that the networks here must equal, with weights that make that a hard test.

torchvision has all but three. Two of them are written out here from their papers, with the module
names that users' checkpoints have; one is a package's own.
"""

import functools
import re

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from classifiers import networks
from classifiers.networks import pytorch_weights
from tests.classifiers.networks import examples

TORCHVISION_NAMES = {"vit_b16": "vit_b_16"}
AUXILIARY = ("googlenet", "inception_v3")


def create(name, num_classes, image_size=224):
    """Returns the PyTorch network of that name, in evaluation mode, with random weights."""
    if name.startswith("cifar_resnet"):
        return CifarResNet(int(name.removeprefix("cifar_resnet")), num_classes).eval()
    if name == "clip_rn50":
        return Clip(num_classes, image_size).eval()
    if name == "efficientnet_pytorch_b3":
        from efficientnet_pytorch import EfficientNet

        settings = {"num_classes": num_classes, "image_size": image_size}
        return EfficientNet.from_name("efficientnet-b3", **settings).eval()
    from torchvision import models

    settings = {}
    if name in AUXILIARY:
        # As the published weights are used, which were trained on -1 to 1.
        settings = {"aux_logits": True, "transform_input": True, "init_weights": False}
    if name == "vit_b16":
        settings = {"image_size": image_size}
    builder = getattr(models, TORCHVISION_NAMES.get(name, name))
    return builder(num_classes=num_classes, **settings).eval()


@torch.no_grad()
def assign_examples(network, images, ignored=()):
    """Gives a network the values of `examples`; its statistics follow from the images.

    Returns:
        {name: shape} of the tensors and {name of a batch normalisation: mean square of its input}.
    """
    ignored = re.compile("|".join((pytorch_weights.IGNORED, *ignored)))
    state = {n: value for n, value in network.state_dict().items() if not ignored.fullmatch(n)}
    shapes = {name: list(value.shape) for name, value in state.items()}
    for name, value in examples.create_state(shapes, {}).items():
        state[name].copy_(torch.from_numpy(value))
    scales = {}

    def adapt(name, module, inputs):
        scales[name] = float((inputs[0] ** 2).mean())
        for key in ("running_mean", "running_var"):
            value = getattr(module, key)
            created = examples.create_tensor(f"{name}.{key}", tuple(value.shape), scales[name])
            value.copy_(torch.from_numpy(created))

    hooks = [
        module.register_forward_pre_hook(functools.partial(adapt, name))
        for name, module in norms_of(network).items()
    ]
    network(images)
    for hook in hooks:
        hook.remove()
    return shapes, scales


def norms_of(network):
    modules = network.named_modules()
    return {name: module for name, module in modules if isinstance(module, nn.BatchNorm2d)}


def describe(name):
    """Returns what the weights of a network follow from, and its logits."""
    size = examples.SIZES[name]
    network = create(name, examples.CLASSES, size)
    if name == "inception_v3":
        network.AuxLogits.forward = lambda x: x  # it needs larger images
    images = to_torch(examples.photos(3, size), *examples.normalisation(name))
    shapes, scales = assign_examples(network, images, networks.NETWORKS[name].ignored)
    with torch.no_grad():
        return {"shapes": shapes, "scales": scales}, network(images).numpy()


def example_resnet():
    """Returns CIFAR ResNet20 for ten classes, and what its weights follow from."""
    network = create("cifar_resnet20", 10)
    images = to_torch(examples.training_images(), *examples.normalisation("cifar_resnet20"))
    shapes, scales = assign_examples(network, images)
    return network, {"shapes": shapes, "scales": scales}


def stages():
    """Returns every stage of CIFAR ResNet20, in the order of axes of Keras."""
    network, _ = example_resnet()
    images = to_torch(examples.photos(2, 16), *examples.normalisation("cifar_resnet20"))
    with torch.no_grad():
        found = network.stages(images)
    return {n: (v.permute(0, 2, 3, 1) if v.ndim == 4 else v).numpy() for n, v in found.items()}


def training_resnet():
    """Returns CIFAR ResNet20 in float64, ready to train."""
    network, _ = example_resnet()
    for norm in norms_of(network).values():
        norm.momentum = 1 - examples.MOMENTUM
    return network.double().train()


def training_loss(network):
    mean, std = examples.normalisation("cifar_resnet20")
    normalised = (examples.training_images().astype(np.float64) / 255 - mean) / std
    logits = network(torch.tensor(normalised).permute(0, 3, 1, 2))
    return functional.cross_entropy(logits, torch.tensor(examples.LABELS, dtype=torch.int64))


def step():
    """Returns the loss, gradients and statistics of a training step, by the names of tensors."""
    network = training_resnet()
    before = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    counts, nearest = watch(network)
    loss = training_loss(network)
    loss.backward()
    assert (len(counts), len(nearest)) == (21, 19)
    # Rounding must not decide on which side of a ReLU a value lies: it would turn a gradient off.
    assert min(nearest.values()) > 5e-6, min(nearest.values())
    expected = {"loss": np.array(loss.item())}
    expected |= {name: value.grad.numpy() for name, value in network.named_parameters()}
    after = {name: value.numpy() for name, value in network.state_dict().items()}
    momentum = examples.MOMENTUM
    for name, count in counts.items():
        mean, variance = f"{name}.running_mean", f"{name}.running_var"
        expected[mean] = after[mean]
        # PyTorch follows the unbiased variance, n / (n - 1) of the batch's own.
        newest = (after[variance] - momentum * before[variance]) * (count - 1) / count
        expected[variance] = momentum * before[variance] + newest
    return expected


def watch(network):
    """Returns {norm: values per channel}, and of all a ReLU takes how near 0 it comes, once run."""
    counts, nearest = {}, {}
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(
                lambda _, __, x, name=name: counts.update({name: x[:, 0].numel()})
            )
        if name.endswith("bn1") or (name.count(".") == 1 and name.startswith("res")):
            module.register_forward_hook(
                lambda _, __, x, name=name: nearest.update({name: float(x.detach().abs().min())})
            )
    return counts, nearest


def course(name):
    """Returns the losses of training with the optimizer of that name."""
    network = training_resnet()
    settings = {"lr": examples.RATES[name], "weight_decay": examples.WEIGHT_DECAY}
    if name == "sgd":
        optimizer = torch.optim.SGD(network.parameters(), momentum=0.9, **settings)
    else:
        optimizer = torch.optim.RAdam(network.parameters(), **settings)
    losses = []
    for _ in range(examples.STEPS[name]):
        loss = training_loss(network)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def losses():
    """Returns PyTorch's losses of the logits in the tests of losses here."""
    from tests.classifiers.test_losses import LABELS, LOGITS, OTHERS

    a, b = torch.from_numpy(LOGITS), torch.from_numpy(OTHERS)
    found = {
        "cosine_embedding": functional.cosine_embedding_loss(a, b, torch.ones(len(a))),
        "cross_entropy": functional.cross_entropy(a, torch.from_numpy(LABELS)),
    }
    return {f"loss/{name}": value.numpy() for name, value in found.items()}


def descents():
    """Returns the weights after each step on the quadratic in the tests of optimizers here."""
    from tests.misc.training.test_optimizers import KINDS, MATRIX, RATES, TARGET

    matrix, target = torch.from_numpy(MATRIX), torch.from_numpy(TARGET)
    found = {}
    for decay, kind in KINDS:
        decoupled = kind == "decoupled"
        weights = {name: torch.nn.Parameter(torch.zeros(5)) for name in examples.RATES}
        settings = {"lr": RATES[0], "weight_decay": decay}
        optimizers = {
            "radam": torch.optim.RAdam(
                [weights["radam"]], decoupled_weight_decay=decoupled, **settings
            )
        }
        if not decoupled:  # which PyTorch's SGD does not have
            optimizers["sgd"] = torch.optim.SGD([weights["sgd"]], momentum=0.9, **settings)
        for name, optimizer in optimizers.items():
            steps = []
            for rate in RATES:
                optimizer.param_groups[0]["lr"] = rate
                weights[name].grad = matrix @ (weights[name].detach() - target)
                optimizer.step()
                steps.append(weights[name].detach().numpy().copy())
            found[f"descent/{name}/{decay}/{kind}"] = np.array(steps)
    return found


def to_torch(images, mean, std):
    """Normalises float32 images `[batch, height, width, 3]` in 0-255 as PyTorch users do."""
    scaled = torch.tensor(np.transpose(images, (0, 3, 1, 2))) / 255
    return (scaled - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


class CifarResNet(nn.Module):
    """He et al., section 4.2, with the shortcuts and the pool of the FusionDistill authors."""

    def __init__(self, depth, num_classes):
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.res1 = self._stage(16, 16, blocks)
        self.res2 = self._stage(16, 32, blocks)
        self.res3 = self._stage(32, 64, blocks)
        self.fc = nn.Linear(256, num_classes)

    def forward(self, images):
        return self.stages(images)["logits"]

    def stages(self, images):
        before = self.bn1(self.conv1(images))
        stages = {"stem_preactivation": before, "stem": before.relu()}
        x = stages["stem"]
        for number, stage in enumerate((self.res1, self.res2, self.res3), start=1):
            for block in stage:
                before = block(x)
                x = before.relu()
            stages |= {f"stage{number}_preactivation": before, f"stage{number}": x}
        stages["pooled"] = functional.adaptive_avg_pool2d(x, 2).flatten(1)
        stages["logits"] = self.fc(stages["pooled"])
        return stages

    @staticmethod
    def _stage(before, features, blocks):
        first = _CifarBlock(before, features, 1 if before == features else 2)
        return nn.Sequential(
            first, *(_CifarBlock(features, features, 1) for _ in range(blocks - 1))
        )


class _CifarBlock(nn.Module):
    def __init__(self, before, features, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, features, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(features)
        self.ds = None
        if stride > 1:
            self.ds = nn.Sequential(
                nn.Conv2d(before, features, 1, stride, bias=False), nn.BatchNorm2d(features)
            )

    def forward(self, x):
        inner = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return inner + (x if self.ds is None else self.ds(x))


class Clip(nn.Module):
    """CLIP RN50: image half, and cosine with one vector for each class."""

    def __init__(self, num_classes, image_size):
        super().__init__()
        self.visual = _ClipVisual(image_size // 32)
        self.head = nn.Linear(1024, num_classes, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, images):
        embedding = self.visual(images)
        cosine = functional.cosine_similarity(embedding[:, None], self.head.weight[None], dim=-1)
        return self.logit_scale.exp() * cosine


class _ClipVisual(nn.Module):
    def __init__(self, side):
        super().__init__()
        features = (3, 32, 32, 64)
        for number in (1, 2, 3):
            stride = 2 if number == 1 else 1
            before, after = features[number - 1 : number + 1]
            conv = nn.Conv2d(before, after, 3, stride, 1, bias=False)
            setattr(self, f"conv{number}", conv)
            setattr(self, f"bn{number}", nn.BatchNorm2d(after))
        before = 64
        for number, blocks in enumerate((3, 4, 6, 3), start=1):
            width = 32 * 2**number
            stage = []
            for block in range(blocks):
                stage.append(_ClipBlock(before, width, 2 if number > 1 and block == 0 else 1))
                before = 4 * width
            setattr(self, f"layer{number}", nn.Sequential(*stage))
        self.attnpool = _ClipPool(side, 2048)

    def forward(self, x):
        for number in (1, 2, 3):
            x = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x)).relu()
        x = functional.avg_pool2d(x, 2)
        for number in (1, 2, 3, 4):
            x = getattr(self, f"layer{number}")(x)
        return self.attnpool(x)


class _ClipBlock(nn.Module):
    def __init__(self, before, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.pool = nn.AvgPool2d(stride)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = None
        if before != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x):
        inner = self.bn1(self.conv1(x)).relu()
        inner = self.pool(self.bn2(self.conv2(inner)).relu())
        inner = self.bn3(self.conv3(inner))
        return (inner + (x if self.downsample is None else self.downsample(self.pool(x)))).relu()


class _ClipPool(nn.Module):
    def __init__(self, side, channels):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(side**2 + 1, channels) / 3)
        self.q_proj = nn.Linear(channels, channels)
        self.k_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.c_proj = nn.Linear(channels, 1024)

    def forward(self, x):
        tokens = x.flatten(2).permute(2, 0, 1)
        tokens = torch.cat([tokens.mean(0, keepdim=True), tokens])
        tokens = tokens + self.positional_embedding[:, None]
        pooled, _ = functional.multi_head_attention_forward(
            tokens[:1],
            tokens,
            tokens,
            tokens.shape[-1],
            32,
            None,
            torch.cat([self.q_proj.bias, self.k_proj.bias, self.v_proj.bias]),
            None,
            None,
            False,
            0.0,
            self.c_proj.weight,
            self.c_proj.bias,
            training=False,
            use_separate_proj_weight=True,
            q_proj_weight=self.q_proj.weight,
            k_proj_weight=self.k_proj.weight,
            v_proj_weight=self.v_proj.weight,
        )
        return pooled[0]
