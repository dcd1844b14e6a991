"""Contributions, allocation and reward files at the end of a run."""

from collections.abc import Sequence
from typing import Any

import torch

from aequa_lightning.callbacks.payout import describe_allocation, write_contributions, write_rewards
from aequa_lightning.collaboration.engine import Collaboration
from aequa_lightning.collaboration.hooks import CollaborationCallback, RoundResult
from aequa_lightning.contributions.cosine import CosineReputation, update_cosines
from aequa_lightning.files import write_json
from aequa_lightning.mechanisms import Mechanism
from aequa_lightning.rewards.allocation import Allocation
from aequa_lightning.rewards.curve import refine


class Rewards(CollaborationCallback):
    """Measures who brought what, chooses a width for everybody, and writes each participant's network.

    Args:
        mechanism: How participants are paid.
    """

    def __init__(self, mechanism: Mechanism) -> None:
        self.mechanism = mechanism

    def setup(self, run: Collaboration) -> None:
        """Make room for a reputation of everybody."""
        self._reputation = CosineReputation(run.data.participants)
        self._curve: dict[float, float] = {}

    def on_round_start(self, run: Collaboration) -> None:
        """Let the mechanism say what everybody holds in the round."""
        contributions = self._measures(run)[self.mechanism.contribution]
        held = self.mechanism.hold(contributions, self._curve, smallest=run.classifier.network.widths[-1])
        if held is not None:
            run.widths = held

    def on_round_end(self, run: Collaboration, result: RoundResult) -> None:
        """Update the cosine reputations; they need the round's updates, which are gone afterwards."""
        cosines = torch.zeros(run.data.participants, dtype=torch.float64)
        for index, update in result.updates.items():
            cosines[index] = update_cosines(update[None], result.mean_update)[0]
        cosines = run.topology.share(cosines)
        accepted = list(result.weights)
        self._reputation.update(cosines[accepted], accepted)
        self._curve = dict(result.accuracy_by_width)
        for row in result.record["participants"]:
            row["cosine"] = cosines[run.data.names.index(row["name"])].item()

    def on_fit_end(self, run: Collaboration) -> None:
        """Measure the curve, allocate, write the rewards."""
        self.pay(run, measure_curve(run, self.mechanism.resolution, including=run.widths))

    def pay(self, run: Collaboration, accuracy_by_width: dict[float, float]) -> Allocation:
        """Write ``contributions.csv``, ``allocation.json`` and ``rewards/`` from a measured curve.

        Args:
            run: A run whose model holds the server's parameters.
            accuracy_by_width: Validation accuracy in [0, 1] of every measured width.

        Returns:
            The allocation, the same on all processes.
        """
        measures = self._measures(run)
        contributions = measures[self.mechanism.contribution]
        allocation = self.mechanism.allocate(
            contributions, accuracy_by_width, standalone=measures["standalone"], held=run.widths
        )
        manifest = write_rewards(run, allocation.widths.tolist())
        if run.is_global_zero:
            write_contributions(run, measures)
            write_json(run.plan.run_dir / "rewards" / "manifest.json", {"rewards": manifest})
            content = describe_allocation(
                run.data.names,
                contributions,
                allocation,
                accuracy_by_width,
                standalone_test=[result.test_accuracy for result in run.standalone.all()],
                received_test=[reward["test_accuracy"] for reward in manifest],
            )
            write_json(run.plan.run_dir / "allocation.json", content)
            run.record("contributions", measures=measures, paid_by=self.mechanism.contribution)
        return allocation

    def state_dict(self) -> dict[str, Any]:
        """Return the reputations."""
        return {"reputation": self._reputation.state_dict(), "curve": self._curve}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back the reputations."""
        self._reputation.load_state_dict(state["reputation"])
        self._curve = state["curve"]

    def _measures(self, run: Collaboration) -> dict[str, list[float]]:
        """Return every measure of contribution as it stands, (N,) each."""
        alone = [result.validation_accuracy for result in run.standalone.all()]
        return {"standalone": alone, "cosine": self._reputation.values.tolist()}


def measure_curve(run: Collaboration, resolution: float, *, including: Sequence[float] = ()) -> dict[float, float]:
    """Measure the validation accuracy of the grid, then of widths between where it is steep; a collective operation.

    Args:
        run: A run whose model holds the server's parameters.
        including: Further widths to measure.
        resolution: Neighbours that differ by more get another width between them, while a sub-network is left.

    Returns:
        Accuracy in [0, 1] of every measured width.
    """
    network = run.classifier.network
    curve: dict[float, float] = {}
    distinct, wanted = network.distinct_widths(), sorted({*network.widths, *including})
    while wanted:
        (measured,) = run.evaluator.accuracies(wanted, [run.data.validation()])
        curve |= measured
        wanted = refine(curve, distinct, resolution)
    return curve
