"""The PyTorch networks that the networks here must equal, with weights that make that a hard test.

torchvision has all but two; those are written out here from their papers, with the module names
that users' checkpoints have.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

TORCHVISION_NAMES = {"vit_b16": "vit_b_16"}
AUXILIARY = ("googlenet", "inception_v3")


def create(name, num_classes, image_size=224):
    """Returns the PyTorch network of that name, in evaluation mode, with random weights."""
    if name.startswith("cifar_resnet"):
        return CifarResNet(int(name.removeprefix("cifar_resnet")), num_classes).eval()
    if name == "clip_rn50":
        return Clip(num_classes, image_size).eval()
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
def randomise(network, images):
    """Gives all weights random values such that the logits depend on the images throughout."""
    norms = (nn.BatchNorm2d, nn.LayerNorm)
    for module in network.modules():
        if isinstance(module, norms):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.1)
    for name, module in network.named_modules():
        if name.endswith("fc2"):
            # Gates of squeeze and excitation: shut ones would hide what comes before them, and
            # normalisation after them would then enlarge rounding errors.
            module.weight *= 0.2
    for name, parameter in network.named_parameters():
        if name.endswith(("token", "pos_embedding", "bias_table", "in_proj_bias")):
            nn.init.normal_(parameter, 0, 0.5)
    # Statistics of the data, then disturbed: random ones would drown the image in the constants.
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
        if hasattr(module, "p"):  # what is dropped would be missing in the statistics
            module.p = 0.0
    network.train()
    network(images)
    network.eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            # A channel that hardly varies would enlarge rounding errors, not differences.
            module.running_var.clamp_(min=0.1 * float(module.running_var.mean()))
            deviation = module.running_var.sqrt()
            module.running_mean += 0.2 * deviation * torch.randn_like(deviation)
            module.running_var *= torch.empty_like(deviation).uniform_(0.7, 1.4)


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
