"""Every network by every width: legal, cost, bit-equal extraction, nestedness, gradients of one training step.

Usage: python -m benchmarks.slimmable_table [NAME ...]

Without names, all networks of ``benchmarks/networks.py``: torchvision's, torch's own layers, and timm's where it is
installed. Each row is one network at one width. The last line counts networks and failures; the exit status is 1 if a
network fails.

- equal: the extracted network's output equals the slimmable model's to the bit, in evaluation.
- nested: weights that hold their own position are, at each width, among those of the next larger width.
- gradients: those of one step equal the extracted network's in their place (to 1e-4 of the largest) and are zero
  elsewhere, computed in double precision.
"""

import argparse
import sys
import warnings

import torch
from torch import Tensor, nn

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable import SlimmableModel, cost
from benchmarks.networks import all_names, build

WIDTHS = (1.0, 0.75, 0.61, 0.5, 0.3, 0.25)


def without_dropout(network: nn.Module) -> None:
    """Let a network train without chance, so that two runs of it can be compared."""
    network.train()
    for part in network.modules():
        if "Drop" in type(part).__name__ or "Stochastic" in type(part).__name__:
            part.eval()


def logits(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    return output if isinstance(output, Tensor) else sum(part.sum() for part in output)  # auxiliary heads


def gradients_agree(model: SlimmableModel, x: Tensor, width: float) -> bool:
    narrow = model.extract(width, fresh_statistics=True)
    without_dropout(model.full)
    without_dropout(narrow)
    model.zero_grad()
    logits(model(x, width=width)).square().sum().backward()
    logits(narrow(x)).square().sum().backward()
    plan = model.plan(width)
    alone = {name: parameter.grad for name, parameter in narrow.named_parameters()}
    for name, parameter in model.full.named_parameters():
        expected = {name: torch.zeros_like(parameter)}
        outside = {name: torch.ones_like(parameter, dtype=torch.bool)}
        single = type(plan)({name: plan.indices[name]}, {name: plan.shapes[name]})
        single.put(expected, alone)
        single.put(outside, {name: torch.zeros(plan.shapes[name], dtype=torch.bool)})
        if parameter.grad is None or bool(parameter.grad[outside[name]].any()):
            return False
        if not torch.allclose(parameter.grad, expected[name], rtol=1e-4, atol=1e-4 * float(expected[name].abs().max())):
            return False
    return True


def nested(model: SlimmableModel, width: float, larger: float) -> bool:
    for name, parameter in model.full.named_parameters():
        tags = {name: torch.arange(parameter.numel(), dtype=torch.double).view(parameter.shape)}
        parts = []
        for plan in (model.plan(width), model.plan(larger)):
            parts.append(type(plan)({name: plan.indices[name]}, {name: plan.shapes[name]}).take(tags)[name])
        inner, outer = (part.reshape(-1) for part in parts)
        if not bool((outer[torch.searchsorted(outer, inner).clamp(max=len(outer) - 1)] == inner).all()):
            return False
    return True


def rows(name: str) -> bool:
    """Print the rows of one network and return whether all passed."""
    torch.manual_seed(0)
    network, x = build(name)
    try:
        model = SlimmableModel(network, WIDTHS, x[:1])
    except InputError as error:
        print(f"{name:26} refused: {error}", flush=True)
        return False
    model.recalibrate([x])
    passed = True
    for number, width in enumerate(WIDTHS):
        model.eval()
        with torch.no_grad():
            equal = torch.equal(model.extract(width)(x), model(x, width=width))
        spent = cost(model, width)
        inside = nested(model, width, WIDTHS[max(number - 1, 0)])
        model.double()
        agree = gradients_agree(model, x.double() if x.is_floating_point() else x, width)
        model.float()
        passed &= equal and inside and agree
        print(
            f"{name:26} {width:5.2f} {spent.parameters:12,d} {spent.multiply_adds:15,d} {spent.bytes:12,d} "
            f"{equal!s:>6} {inside!s:>7} {agree!s:>10}",
            flush=True,
        )
    return passed


def main(names: list[str]) -> int:
    """Print the table and a summary; return 0 if every network did what is promised of it."""
    warnings.simplefilter("ignore")
    head = f"{'network':26} {'width':>5} {'parameters':>12} {'multiply-adds':>15} {'bytes':>12}"
    print(f"{head} {'equal':>6} {'nested':>7} {'gradients':>10}")
    passed = {name: rows(name) for name in names}
    failures = [name for name, good in passed.items() if not good]
    print(
        f"{len(passed)} networks; {len(WIDTHS)} widths each; "
        f"{len(failures)} failures{': ' if failures else ''}{', '.join(failures)}"
    )
    return int(bool(failures))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(all_names())}")
    sys.exit(main(parser.parse_args().names or all_names()))
