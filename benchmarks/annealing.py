"""Simulated annealing for allocations, as in the paper: the baseline of the exact search."""

import math
import random
from itertools import accumulate, pairwise

import numpy as np

from aequa_lightning.rewards.allocation.problem import Problem


def anneal(
    problem: Problem, objective: str, *, moves: int, seed: int = 0, hot: float = 1e-2, cold: float = 1e-6
) -> float:
    """Return the best ``cv`` or 1 - ``pearson`` that annealing finds.

    The state is one cut per pair of neighbouring levels; groups of equal contributions from the cut on lie above. A
    move shifts one cut, and prefix sums give its effect in constant time: a favourable annealer.

    Args:
        problem: Groups and levels; the top group stays at the full width.
        objective: ``cv`` or ``pearson``.
        moves: How many moves are tried.
        seed: Source of all randomness.
        hot: First temperature; it falls geometrically.
        cold: Last temperature.
    """
    draw = random.Random(seed)
    levels = problem.curve.accuracies.tolist()
    brought, counts = problem.contributions.tolist(), problem.counts.tolist()
    total, groups, cut_count = sum(counts), len(brought), len(levels) - 1
    heads = [0, *accumulate(counts)]
    sums = [0.0, *accumulate(count * one for count, one in zip(counts, brought, strict=True))]
    squares = sum(count * one * one for count, one in zip(counts, brought, strict=True))
    steps = [high - low for low, high in pairwise(levels)]
    square_steps = [high**2 - low**2 for low, high in pairwise(levels)]
    scatter = squares - sums[-1] ** 2 / total

    def loss(received: float, received_squares: float, products: float) -> float:
        if objective == "cv":
            mean = (received - sums[-1]) / total
            variance = (received_squares - 2 * products + squares) / total - mean * mean
            return math.sqrt(max(variance, 0.0)) / mean if mean > 0 else math.inf
        variation = received_squares - received * received / total
        covariance = products - received * sums[-1] / total
        return 1 - covariance / math.sqrt(variation * scatter) if variation > 1e-12 else 1.0

    cuts = [(index + 1) * (groups - 1) // (cut_count + 1) for index in range(cut_count)]
    received = levels[0] * total + sum(steps[k] * (total - heads[cuts[k]]) for k in range(cut_count))
    received_squares = levels[0] ** 2 * total + sum(
        square_steps[k] * (total - heads[cuts[k]]) for k in range(cut_count)
    )
    products = levels[0] * sums[-1] + sum(steps[k] * (sums[-1] - sums[cuts[k]]) for k in range(cut_count))
    current = best = loss(received, received_squares, products)
    cooling = (cold / hot) ** (1 / moves)
    temperature = hot
    for _ in range(moves):
        temperature *= cooling
        cut = int(draw.random() * cut_count)
        reach = 1 + int(draw.random() ** 3 * groups / 10)
        old = cuts[cut]
        new = old + reach if draw.random() < 0.5 else old - reach
        least = cuts[cut - 1] if cut > 0 else 0
        most = cuts[cut + 1] if cut + 1 < cut_count else groups - 1
        new = min(max(new, least), most)
        if new == old:
            continue
        above = heads[old] - heads[new]
        proposal = (
            received + steps[cut] * above,
            received_squares + square_steps[cut] * above,
            products + steps[cut] * (sums[old] - sums[new]),
        )
        value = loss(*proposal)
        if value <= current or draw.random() < math.exp((current - value) / temperature):
            cuts[cut], current = new, value
            received, received_squares, products = proposal
            best = min(best, value)
    return best


def random_instance(participants: int, widths: int, seed: int = 0) -> tuple[np.ndarray, dict[float, float]]:
    """Return contributions and a curve such as collaborations have: skewed contributions, a concave curve."""
    rng = np.random.default_rng(seed)
    contributions = 0.2 + 0.6 * rng.beta(2, 2, participants)
    grid = (np.arange(widths) + 1) / widths
    accuracies = np.maximum.accumulate(0.9 * grid**0.4 + rng.normal(0, 0.003, widths)).clip(0, 1)
    return contributions, dict(zip(grid.tolist(), accuracies.tolist(), strict=True))
