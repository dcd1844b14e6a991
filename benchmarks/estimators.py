"""Time of exact per-round Shapley values of ten participants, against the forward passes of their 1,024 models.

Usage: python -m benchmarks.estimators
"""

from time import perf_counter

import torch
from torch import nn

from aequa_lightning.contributions import balanced_accuracy, model_evaluator, round_game, shapley_values

PARTICIPANTS, LIMIT = 10, 3.0


def network() -> nn.Module:
    """Return a small convolutional network for 8 x 8 digits."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 16, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    module = network().eval()
    inputs, labels = torch.randn(360, 1, 8, 8), torch.randint(0, 10, (360,))
    base = nn.utils.parameters_to_vector(module.parameters()).detach()
    updates = 0.1 * torch.randn(PARTICIPANTS, len(base))
    weights = torch.full((PARTICIPANTS,), 1 / PARTICIPANTS)
    with torch.inference_mode():
        start = perf_counter()
        for _ in range(2**PARTICIPANTS):
            module(inputs)
        forward = perf_counter() - start
    game = round_game(base, updates, weights, model_evaluator(module, inputs, labels, balanced_accuracy))
    start = perf_counter()
    values = shapley_values(game, PARTICIPANTS)
    whole = perf_counter() - start
    ratio = whole / forward
    print(f"{values.evaluations} coalitions of {len(base):,} parameters on {len(inputs)} samples")
    print(f"forward passes alone {forward:.2f} s, exact Shapley values {whole:.2f} s")
    print(f"{ratio:.2f} times as long (limit {LIMIT:.0f}: {'met' if ratio <= LIMIT else 'MISSED'})")


if __name__ == "__main__":
    main()
