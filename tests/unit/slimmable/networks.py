"""Small networks that between them hold every structure that a width has to follow."""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet


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


class Recurrent(nn.Module):
    """A stacked bidirectional recurrent network over packed word vectors, read from its last states."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.words = nn.Embedding(30, 12)
        self.cell = kind(12, 10, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(40, 3)

    def forward(self, x: Tensor) -> Tensor:
        lengths = torch.full((len(x),), x.shape[1])
        packed = nn.utils.rnn.pack_padded_sequence(self.words(x), lengths, batch_first=True, enforce_sorted=False)
        output, state = self.cell(packed)
        state = state[0] if isinstance(state, tuple) else state
        output, _ = nn.utils.rnn.pad_packed_sequence(output, batch_first=True)
        return self.head(torch.cat([output.mean(1), state[-2], state[-1]], 1))


class Translator(nn.Module):
    """Transformer layers with positions as parameter and as buffer, and the word vectors tied to the output."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30, 24)
        self.learnt = nn.Parameter(torch.randn(1, 7, 24))
        self.register_buffer("fixed", torch.randn(7, 24))
        self.encode = nn.TransformerEncoderLayer(24, 4, 40, dropout=0.0, batch_first=True)
        self.decode = nn.TransformerDecoderLayer(24, 4, 40, dropout=0.0, batch_first=True)
        self.head = nn.Linear(24, 30)
        self.head.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.words(x) + self.learnt + self.fixed
        return self.head(self.decode(x, self.encode(x))[:, -1])


class Attention(nn.Module):
    """Two hand-written attentions: a fused projection with a table of relative positions, and torch's kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 32)
        self.num_heads, self.dim = 4, 32
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.positions = nn.Parameter(torch.randn(7, 7, 4))
        self.q, self.k, self.v = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)
        self.head = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        q, k, v = self.qkv(x).reshape(len(x), 7, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1) + self.positions.permute(2, 0, 1)).softmax(-1)
        x = x + self.out((scores @ v).transpose(1, 2).reshape(len(x), 7, self.dim))
        q, k, v = (part(x).view(len(x), 7, self.num_heads, -1).transpose(1, 2) for part in (self.q, self.k, self.v))
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.head((x + y.transpose(1, 2).flatten(2)).mean(1))


class UpAndDown(nn.Module):
    """Transposed convolutions, plain and grouped, a one-dimensional convolution, PReLU and an instance norm."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 2, stride=2)
        self.norm = nn.InstanceNorm2d(8, affine=True)
        self.act = nn.PReLU(8)
        self.up = nn.ConvTranspose2d(8, 12, 2, stride=2)
        self.again = nn.ConvTranspose2d(12, 12, 1, groups=4)
        self.line = nn.Conv1d(12, 6, 3)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.up(self.act(self.norm(self.down(x))))).relu()
        return self.head(self.line(x.flatten(2)).mean(2))


class NarrowResNet(ResNet):
    """torchvision's ResNet with one block a stage, and a quarter of the channels after the stem."""

    def __init__(self, **options: Any) -> None:
        super().__init__(BasicBlock, [1, 1, 1, 1], **options)
        self.fc = nn.Linear(128, 4)

    def _make_layer(self, block: Any, planes: int, *sizes: Any, **options: Any) -> nn.Sequential:
        return super()._make_layer(block, planes // 4, *sizes, **options)


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


def uneven() -> nn.Module:
    """A grouped convolution with more channels behind than before it, where a norm asks for yet other groups."""
    return nn.Sequential(
        nn.Conv2d(3, 24, 1), nn.GroupNorm(6, 24), nn.ReLU(), nn.Conv2d(24, 48, 3, groups=8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 4),
    )  # fmt: skip


IMAGE, GRAY, WORDS = torch.Size((3, 8, 8)), torch.Size((1, 28, 28)), torch.Size((7,))
NETWORKS = {
    "lenet": (lenet, GRAY),
    "residual": (Residual, IMAGE),
    "dense": (Dense, IMAGE),
    "gated": (Gated, torch.Size((6,))),
    "grouped": (grouped, IMAGE),
    "uneven": (uneven, IMAGE),
    "lstm": (lambda: Recurrent(nn.LSTM), WORDS),
    "gru": (lambda: Recurrent(nn.GRU), WORDS),
    "translator": (Translator, WORDS),
    "attention": (Attention, torch.Size((7, 6))),
    "up_and_down": (UpAndDown, IMAGE),
    "resnet10": (NarrowResNet, torch.Size((3, 32, 32))),
    "resnet10_gn": (
        lambda: NarrowResNet(norm_layer=lambda channels: nn.GroupNorm(channels // 4, channels)),
        torch.Size((3, 32, 32)),
    ),
}


def batch(shape: torch.Size) -> Tensor:
    """Return three inputs."""
    return torch.randint(0, 30, (3, *shape)) if shape == WORDS else torch.randn(3, *shape)
