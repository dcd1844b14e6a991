"""Values of players against shapiq, an independent library, on a real game of ten owners.

Usage: python -m benchmarks.estimators_oracle   (where the extra ``valuation`` is installed)
"""

from time import perf_counter

import numpy as np
from shapiq import ExactComputer

from aequa_lightning.contributions import (
    banzhaf_values,
    guided_shapley,
    sampled_banzhaf,
    sampled_shapley,
    shapley_values,
)
from aequa_lightning.contributions.sampling import CachedUtility
from benchmarks.digits_game import digits_game

OWNERS = 10


def main() -> None:
    game = CachedUtility(digits_game())
    nothing = game(np.zeros((1, OWNERS), dtype=bool))[0]
    start = perf_counter()
    exact = {"SV": np.asarray(shapley_values(game, OWNERS)), "BV": np.asarray(banzhaf_values(game, OWNERS))}
    print(f"1,024 coalitions trained and valued in {perf_counter() - start:.2f} s")
    print("Shapley:", " ".join(f"{value:+.4f}" for value in exact["SV"]))
    computer = ExactComputer(game=lambda rows: game(rows) - nothing, n_players=OWNERS)
    for name, values in exact.items():
        reference = computer(name, 1)
        difference = max(abs(values[player] - reference[(player,)]) for player in range(OWNERS))
        print(f"{name}: largest difference from shapiq {difference:.1e}")
        assert difference < 1e-9
    print("relative RMSE of estimates, 20 seeds")
    for budget in (32, 64, 128, 256, 512):
        row = f"budget {budget:4}:"
        for label, name, estimate in (
            (
                "Shapley, shapiq",
                "SV",
                lambda seed, b=budget: sampled_shapley(game, OWNERS, budget=b, repeats=2, seed=2 * seed),
            ),
            ("Banzhaf, MSR", "BV", lambda seed, b=budget: sampled_banzhaf(game, OWNERS, budget=b, seed=seed)),
        ):
            errors = [np.asarray(estimate(seed)) - exact[name] for seed in range(20)]
            row += f"  {label} {np.linalg.norm(errors) / np.sqrt(20) / np.linalg.norm(exact[name]):.3f}"
        print(row)
    guided = [guided_shapley(game, OWNERS, seed=seed) for seed in range(20)]
    errors = [np.asarray(values) - exact["SV"] for values in guided]
    used = np.mean([values.evaluations for values in guided])
    error = np.linalg.norm(errors) / np.sqrt(20) / np.linalg.norm(exact["SV"])
    print(f"GTG-Shapley: relative RMSE {error:.3f} with {used:.0f} evaluations")


if __name__ == "__main__":
    main()
