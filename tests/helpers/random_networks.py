"""Random small networks, from a grammar of what people build: layers, halves, gates, groups, norms, attention."""

from collections.abc import Sequence

import torch
from hypothesis import strategies
from torch import Tensor, nn
from torch.nn import functional

Recipe = tuple[str, tuple[tuple[str, int], ...]]
"""The kind of the input, and the steps, each with a small number that varies it."""

ROWS = "linear relu norm batch_norm gate scale matrix residual cat halves glu group_gate l2 permute pad".split()  # noqa: SIM905
IMAGE = "conv relu batch_norm group_norm depthwise grouped squeeze spatial_gate cat residual pool shuffle up".split()  # noqa: SIM905
TOKENS = "linear gelu norm attention positions mlp gate scale mean_gate mixer residual fused_attention".split()  # noqa: SIM905
KINDS = {"rows": ROWS, "image": IMAGE, "tokens": TOKENS}


def recipes() -> strategies.SearchStrategy[Recipe]:
    """Return a strategy of recipes, which hypothesis can shrink."""

    def steps(kind: str) -> strategies.SearchStrategy[Recipe]:
        step = strategies.tuples(strategies.sampled_from(KINDS[kind]), strategies.integers(0, 3))
        return strategies.lists(step, min_size=1, max_size=5).map(lambda found: (kind, tuple(found)))

    return strategies.sampled_from(sorted(KINDS)).flatmap(steps)


def example(recipe: Recipe) -> Tensor:
    """Return a batch of three for a recipe."""
    shape = {"rows": (3, 6), "image": (3, 3, 8, 8), "tokens": (3, 5, 6)}[recipe[0]]
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class Cooked(nn.Module):
    """The network of a recipe: a first layer of 24 channels, the steps, and a classifier."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.kind, self.steps = recipe
        self.first = nn.Conv2d(3, 24, 3, padding=1) if self.kind == "image" else nn.Linear(6, 24)
        channels = 24
        self.parts = nn.ModuleList()
        for name, number in self.steps:
            part = STEPS[name](self.kind, channels, number)
            self.parts.append(part)
            channels = getattr(part, "channels", channels)
        self.last = nn.Linear(channels, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for part in self.parts:
            x = part(x)
        if self.kind == "image":
            x = x.mean((2, 3))
        return self.last(x.mean(1) if self.kind == "tokens" else x)


class Step(nn.Module):
    """One step that may change the number of channels."""

    def __init__(self, kind: str, channels: int, number: int) -> None:
        super().__init__()
        self.kind, self.before, self.channels, self.number = kind, channels, channels, number
        self.dim = 1 if kind == "image" else -1
        self.build()

    def build(self) -> None:
        pass

    def layer(self, before: int, after: int) -> nn.Module:
        return nn.Conv2d(before, after, 1) if self.kind == "image" else nn.Linear(before, after)

    def wide(self, vector: Tensor) -> Tensor:
        return vector[:, None, None] if self.kind == "image" else vector


class Layer(Step):
    def build(self) -> None:
        self.channels = (16, 24, 12, 36)[self.number]
        size = 1 + 2 * (self.number % 2)
        image = self.kind == "image"
        self.it = (
            nn.Conv2d(self.before, self.channels, size, padding=size // 2)
            if image
            else self.layer(self.before, self.channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.it(x)


class Activation(Step):
    def forward(self, x: Tensor) -> Tensor:
        return (functional.relu, functional.gelu, torch.sigmoid, functional.silu)[self.number](x)


class Norm(Step):
    def build(self) -> None:
        self.it = nn.RMSNorm(self.before) if self.number % 2 else nn.LayerNorm(self.before)

    def forward(self, x: Tensor) -> Tensor:
        return self.it(x)


class BatchNorm(Step):
    def build(self) -> None:
        self.it = (nn.BatchNorm2d if self.kind == "image" else nn.BatchNorm1d)(self.before)

    def forward(self, x: Tensor) -> Tensor:
        return self.it(x)


class GroupNorm(Step):
    def build(self) -> None:
        self.it = nn.GroupNorm((2, 3, 4, 6)[self.number], self.before) if self.before % 12 == 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.it(x)


class Gate(Step):
    """A gate of one channel."""

    def build(self) -> None:
        self.it = self.layer(self.before, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.it(x).sigmoid()


class Scale(Step):
    def build(self) -> None:
        self.it = nn.Parameter(torch.rand(self.before) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.wide(self.it) if self.number % 2 else x * self.wide(self.it) + self.wide(self.it)


class Matrix(Step):
    def build(self) -> None:
        self.channels = (16, 24, 12, 20)[self.number]
        self.it = nn.Parameter(torch.randn(self.before, self.channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bi,ij->bj", x, self.it) if self.number % 2 else x @ self.it


class Residual(Step):
    def build(self) -> None:
        self.one, self.two = self.layer(self.before, 20), self.layer(20, self.before)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(self.one(x).relu())


class Cat(Step):
    def build(self) -> None:
        self.one = self.layer(self.before, 10)
        self.channels = self.before + 10

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x).relu(), x] if self.number % 2 else [x, self.one(x)], self.dim)


class Halves(Step):
    """Treats halves of the channels otherwise, and may swap them."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] % 2:
            return x
        one, two = x.chunk(2, -1)
        return torch.cat([two, one] if self.number % 2 else [one.relu(), two], -1)


class Glu(Step):
    def build(self) -> None:
        self.it = nn.Linear(self.before, 2 * self.before)

    def forward(self, x: Tensor) -> Tensor:
        if self.number % 2:
            return functional.glu(self.it(x))
        one, two = self.it(x).chunk(2, -1)
        return one * two.sigmoid()


class GroupGate(Step):
    """A gate for each group of channels, whose size the code knows."""

    def build(self) -> None:
        self.size = (2, 4, 2, 4)[self.number] if self.before % 4 == 0 else 1
        self.it = nn.Linear(6, self.before // self.size)
        self.own = nn.Linear(self.before, 6)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.it(self.own(x)).sigmoid()
        return (x.view(len(x), -1, self.size) * gate[:, :, None]).flatten(1)


class Length(Step):
    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(x, dim=-1) if self.number % 2 else x / (x.square().sum(-1, keepdim=True).sqrt() + 1)


class Permute(Step):
    """Channels in another order, which the next layer reads."""

    def build(self) -> None:
        self.it = nn.Linear(self.before, self.before)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.it(x).flip(-1) if self.number % 2 else self.it(x).flip(-1)


class Pad(Step):
    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x[:, None], (0, 0, 1, 1)).amax(1) if self.number % 2 else torch.stack([x, -x]).sum(0) + x


class Depthwise(Step):
    def build(self) -> None:
        self.it = nn.Conv2d(self.before, self.before, 3, padding=1, groups=self.before)

    def forward(self, x: Tensor) -> Tensor:
        return self.it(x)


class Grouped(Step):
    def build(self) -> None:
        groups = (2, 4, 3, 6)[self.number]
        groups = groups if self.before % groups == 0 else 1
        self.channels = groups * 6
        self.it = nn.Conv2d(self.before, self.channels, 3, padding=1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.it(x)


class Squeeze(Step):
    def build(self) -> None:
        self.one, self.two = nn.Conv2d(self.before, 5, 1), nn.Conv2d(5, self.before, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.two(self.one(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class Pool(Step):
    def forward(self, x: Tensor) -> Tensor:
        return (
            functional.max_pool2d(x, 2) if x.shape[-1] > 3 and self.number % 2 else functional.adaptive_avg_pool2d(x, 2)
        )


class Shuffle(Step):
    """Channels shuffled between two groups, on the way into a layer."""

    def build(self) -> None:
        self.it = nn.Conv2d(self.before, self.before, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        if c % 2:
            return self.it(x)
        return self.it(x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))


class Up(Step):
    def build(self) -> None:
        self.channels = 8
        self.it = nn.Conv2d(self.before, 32, 1) if self.number % 2 else nn.ConvTranspose2d(self.before, 8, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return functional.pixel_shuffle(self.it(x), 2) if self.number % 2 else self.it(x)


class Attention(Step):
    """Heads of size 4 by hand; how many there are follows from the layers."""

    def build(self) -> None:
        self.q, self.k, self.v = (nn.Linear(self.before, 16) for _ in range(3))
        self.o = nn.Linear(16, self.before)
        self.bias = nn.Parameter(torch.randn(4, 5, 5))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part(x).view(len(x), 5, -1, 4).transpose(1, 2) for part in (self.q, self.k, self.v))
        if self.number % 2:
            y = functional.scaled_dot_product_attention(q, k, v, attn_mask=self.bias if self.number > 1 else None)
        else:
            y = (q @ k.mT * 0.5 + (self.bias if self.number > 1 else 0)).softmax(-1) @ v
        return x + self.o(y.transpose(1, 2).flatten(2))


class FusedAttention(Step):
    def build(self) -> None:
        self.heads = 2
        self.it = nn.MultiheadAttention(self.before, self.heads, batch_first=True) if self.before % 2 == 0 else None

    def forward(self, x: Tensor) -> Tensor:
        return x if self.it is None else x + self.it(x, x, x)[0]


class Positions(Step):
    def build(self) -> None:
        self.it = nn.Parameter(torch.randn(1, 5, self.before))
        self.first = nn.Parameter(torch.randn(1, 1, self.before))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.it
        if self.number % 2:
            x = torch.cat([self.first.expand(len(x), -1, -1), x], 1)[:, 1:]
        return x


class Mlp(Step):
    def build(self) -> None:
        self.norm = nn.LayerNorm(self.before)
        self.one, self.two = nn.Linear(self.before, 20), nn.Linear(20, self.before)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(functional.gelu(self.one(self.norm(x))))


class MeanGate(Step):
    """A gate from the mean over the positions."""

    def build(self) -> None:
        self.it = nn.Linear(self.before, self.before)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.it(x.mean(1, keepdim=True)).sigmoid()


class Mixer(Step):
    """A layer over the positions of each channel."""

    def build(self) -> None:
        self.one, self.two = nn.Linear(5, 7), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(self.one(x.mT).relu()).mT


STEPS: dict[str, type[Step]] = {
    "linear": Layer, "conv": Layer, "relu": Activation, "gelu": Activation, "norm": Norm, "batch_norm": BatchNorm,
    "group_norm": GroupNorm, "gate": Gate, "spatial_gate": Gate, "scale": Scale, "matrix": Matrix, "residual": Residual,
    "cat": Cat, "halves": Halves, "glu": Glu, "group_gate": GroupGate, "l2": Length, "permute": Permute, "pad": Pad,
    "depthwise": Depthwise, "grouped": Grouped, "squeeze": Squeeze, "pool": Pool, "shuffle": Shuffle, "up": Up,
    "attention": Attention, "fused_attention": FusedAttention, "positions": Positions, "mlp": Mlp,
    "mean_gate": MeanGate, "mixer": Mixer,
}  # fmt: skip


def cook(recipe: Recipe) -> tuple[nn.Module, Tensor]:
    """Return the network of a recipe and a batch for it."""
    torch.manual_seed(0)
    return Cooked(recipe), example(recipe)


def names(recipes: Sequence[Recipe]) -> list[str]:
    """Return recipes in words."""
    return [f"{kind}: {', '.join(f'{name}/{number}' for name, number in steps)}" for kind, steps in recipes]
