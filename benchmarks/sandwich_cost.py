"""The cost of a sandwich step against separately trained networks of the same widths, timed in the same run.

Usage: python -m benchmarks.sandwich_cost [--repeats N] [--networks NAME ...] [--batches N ...]

For the paper's CNN and the CIFAR ResNet-18, batches of 8 and 32 and widths 1, .75, .5 and .25, both sides take whole
training steps in turns: gradients set to None, forward, backward, and a step of SGD with momentum, torch's defaults
for the rest. The sandwich does this with one optimizer over the shared parameters, separate training with one for each
network. Times are processor time of one thread, medians. "ratio" is that of whole steps, "least" the ratio of the
fastest ones, and "no optimizer" the ratio of forward and backward alone. The activation memory is the most that
autograd holds for a backward, of the sandwich step as a share of the full network alone.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from aequa_lightning.backbones import build_backbone
from aequa_lightning.slimmable import SlimmableModel, sandwich_step

WIDTHS = (1.0, 0.75, 0.5, 0.25)
CASES = {"cnn": ((1, 28, 28), 1.0), "resnet18": ((3, 32, 32), 0.1)}
"""For each network the shape of a sample, and its share of the repeats."""


class Trained:
    """What one optimizer trains: the shared network, or one of the separate ones.

    Args:
        network: What has the parameters.
        gradients: Computes forward and backward.
    """

    def __init__(self, network: nn.Module, gradients: Callable[[], object]) -> None:
        self.optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
        self.gradients = gradients

    def step(self) -> tuple[float, float]:
        """Take a training step, and return the processor time of all of it and of the gradients alone."""
        start = time.thread_time()
        self.optimizer.zero_grad()
        zeroed = time.thread_time()
        self.gradients()
        computed = time.thread_time()
        self.optimizer.step()
        return time.thread_time() - start, computed - zeroed


def step(side: list[Trained]) -> tuple[float, float]:
    """Let everything on one side take a step, and return the sums of the times."""
    whole, gradients = zip(*(trained.step() for trained in side), strict=True)
    return sum(whole), sum(gradients)


def peak_saved(gradients: Callable[[], object]) -> int:
    """Return the most bytes of distinct storages that autograd held at once for its backward."""
    held: dict[int, int] = {}
    sizes: dict[int, int] = {}
    peak = 0

    class Saved:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal peak
            self.tensor = tensor
            self.key = tensor.untyped_storage().data_ptr()
            held[self.key] = held.get(self.key, 0) + 1
            sizes[self.key] = tensor.untyped_storage().nbytes()
            peak = max(peak, sum(sizes[key] for key in held))

        def __del__(self) -> None:
            held[self.key] -= 1
            if not held[self.key]:
                del held[self.key]

    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        gradients()
    return peak


def main(repeats: int, networks: list[str], batches: list[int]) -> None:
    """Time every case and print a table."""
    torch.set_num_threads(1)
    print(
        f"{'network':10} {'batch':>5} {'sandwich ms':>12} {'separate ms':>12} {'ratio':>7} {'least':>7} "
        f"{'no optimizer':>13} {'memory':>7}"
    )
    for name, (shape, share) in CASES.items():
        for batch in batches if name in networks else ():
            torch.manual_seed(0)
            full = build_backbone(name, num_classes=10, input_shape=shape)
            slim = SlimmableModel(full, WIDTHS, torch.zeros(1, *shape))
            alone = [slim.extract(width, fresh_statistics=True) for width in WIDTHS]
            x, y = torch.randn(batch, *shape), torch.randint(0, 10, (batch,))
            ours = [Trained(slim, partial(sandwich_step, slim, x, y, WIDTHS))]
            theirs = [Trained(network, partial(plain_gradients, network, x, y)) for network in alone]
            step(ours), step(theirs)  # the first step makes the optimizers' states
            times = [step(ours) + step(theirs) for _ in range(max(3, round(repeats * share)))]
            a, a_gradients, b, b_gradients = map(statistics.median, zip(*times, strict=True))
            least = min(row[0] for row in times) / min(row[2] for row in times)
            memory = peak_saved(ours[0].gradients) / peak_saved(theirs[0].gradients)
            print(
                f"{name:10} {batch:5d} {1e3 * a:12.2f} {1e3 * b:12.2f} {a / b:7.3f} {least:7.3f} "
                f"{a_gradients / b_gradients:13.3f} {memory:7.2f}",
                flush=True,
            )


def plain_gradients(network: nn.Module, x: Tensor, y: Tensor) -> None:
    functional.cross_entropy(network(x), y).backward()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=100, help="steps of the CNN; ResNet-18 takes a tenth of them")
    parser.add_argument("--networks", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--batches", nargs="+", type=int, default=[8, 32])
    main(**vars(parser.parse_args()))
