"""Small networks that between them hold every structure that a width has to follow."""

import torch
from torch import Tensor, nn
from torchvision.models import resnet18


class Residual(nn.Module):
    """A stem, a residual block with a squeeze-and-excitation gate and a depthwise convolution, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.squeeze = nn.Conv2d(12, 5, 1)
        self.excite = nn.Conv2d(5, 12, 1)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        y = self.depthwise(x)
        y = y * self.excite(self.squeeze(y.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return self.head((x + y).mean((2, 3)))


class Dense(nn.Module):
    """Layers that read the concatenation of all before them, with norms on the concatenations."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3, padding=1))
        self.third = nn.Sequential(nn.BatchNorm2d(14), nn.ReLU(), nn.Conv2d(14, 6, 3, padding=1))
        self.head = nn.Linear(20 * 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.first(x)]
        features.append(self.second(torch.cat(features, 1)))
        features.append(self.third(torch.cat(features, 1)))
        pooled = nn.functional.adaptive_avg_pool2d(torch.cat(features, 1), 2)
        return self.head(pooled.flatten(1))


class Gated(nn.Module):
    """A gated linear unit, whose halves meet, a tied pair of layers and a parameter outside any layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 10)
        self.gate = nn.Linear(10, 18)
        self.middle = nn.Linear(9, 10)
        self.scale = nn.Parameter(torch.rand(10) + 0.5)
        self.head = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for _ in range(2):
            x = x + self.scale * self.middle(nn.functional.glu(self.gate(x)))
        return self.head(x)


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 24, 1), nn.GroupNorm(6, 24), nn.ReLU(), nn.Conv2d(24, 24, 3, groups=8), nn.ReLU(),
        nn.Conv2d(24, 16, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    )  # fmt: skip


IMAGE, GRAY = torch.Size((3, 8, 8)), torch.Size((1, 28, 28))
NETWORKS = {
    "lenet": (lenet, GRAY),
    "residual": (Residual, IMAGE),
    "dense": (Dense, IMAGE),
    "gated": (Gated, torch.Size((6,))),
    "grouped": (grouped, IMAGE),
    "resnet18": (lambda: resnet18(num_classes=4), torch.Size((3, 32, 32))),
    "resnet18_gn": (
        lambda: resnet18(num_classes=4, norm_layer=lambda c: nn.GroupNorm(c // 16, c)),
        torch.Size((3, 32, 32)),
    ),
}
