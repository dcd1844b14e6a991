"""The cost of a sandwich step against separately trained networks of the same widths, timed in the same run.

Usage: python -m benchmarks.sandwich_cost [--repeats N]

For the paper's CNN and the CIFAR ResNet-18, batches of 8 and 32 and widths 1, .75, .5 and .25, both sides are timed in
turns: processor time of one thread, forward and backward, median and least. The activation memory is the most that
autograd holds for a backward, of the sandwich step as a share of the full network alone.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from aequa_lightning.backbones import build_backbone
from aequa_lightning.slimmable import SlimmableModel, sandwich_step

WIDTHS = (1.0, 0.75, 0.5, 0.25)
CASES = (("cnn", (1, 28, 28), 10), ("resnet18", (3, 32, 32), 1))


def processor_time(step: Callable[[], None]) -> float:
    start = time.thread_time()
    step()
    return time.thread_time() - start


def peak_saved(step: Callable[[], None]) -> int:
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
        step()
    return peak


def main(repeats: int) -> None:
    """Time every case and print a table."""
    torch.set_num_threads(1)
    head = f"{'network':10} {'batch':>5} {'sandwich ms':>12} {'separate ms':>12}"
    print(f"{head} {'ratio':>7} {'ratio of least':>15} {'memory':>7}")
    for name, shape, weight in CASES:
        for batch in (8, 32):
            torch.manual_seed(0)
            slim = SlimmableModel(
                build_backbone(name, num_classes=10, input_shape=shape), WIDTHS, torch.zeros(1, *shape)
            )
            alone = [slim.extract(width, fresh_statistics=True) for width in WIDTHS]
            x, y = torch.randn(batch, *shape), torch.randint(0, 10, (batch,))

            def sandwich(slim: SlimmableModel = slim, x: Tensor = x, y: Tensor = y) -> None:
                sandwich_step(slim, x, y, WIDTHS)

            def separate(nets: list[torch.nn.Module] = alone, x: Tensor = x, y: Tensor = y) -> None:
                for net in nets:
                    functional.cross_entropy(net(x), y).backward()

            sandwich(), separate()  # the first call allocates the gradients
            ours, theirs = [], []
            for _ in range(max(3, repeats * weight // 10)):
                ours.append(processor_time(sandwich))
                theirs.append(processor_time(separate))
            a, b = statistics.median(ours), statistics.median(theirs)
            memory = peak_saved(sandwich) / peak_saved(lambda separate=separate, alone=alone: separate(alone[:1]))
            figures = f"{1e3 * a:12.2f} {1e3 * b:12.2f} {a / b:7.3f} {min(ours) / min(theirs):15.3f} {memory:7.2f}"
            print(f"{name:10} {batch:5d} {figures}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=100)
    main(**vars(parser.parse_args()))
