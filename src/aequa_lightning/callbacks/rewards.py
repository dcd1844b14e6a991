"""Contributions, allocation and reward files at the end of a run."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from aequa_lightning.callbacks.assessment.measures import Assessment, Measures
from aequa_lightning.callbacks.payout.best_round import BestRound
from aequa_lightning.callbacks.payout.measured_curve import MeasuredCurve, measure_curve, per_layer_widths
from aequa_lightning.callbacks.payout.model_cards import write_cards
from aequa_lightning.callbacks.payout.reward_files import (
    Held,
    RewardAccuracies,
    describe_allocation,
    describe_frontier,
    describe_rewards,
    describe_uncertainty,
    read_held,
    write_contributions,
    write_rewards,
)
from aequa_lightning.callbacks.payout.round_models import deliver
from aequa_lightning.callbacks.payout.submodels import NeuronLedger
from aequa_lightning.callbacks.payout.unpaid import allocate_among
from aequa_lightning.contributions.measures import MEASURES
from aequa_lightning.engine.callback import Assignment, CollaborationCallback, RoundResult
from aequa_lightning.engine.reward_source import RewardSource
from aequa_lightning.engine.run import Run
from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms import Mechanism, PaidByWidth, PaidInRounds
from aequa_lightning.mechanisms.mechanism import held_allocation
from aequa_lightning.mechanisms.payment import RollingSubmodels
from aequa_lightning.modules.score import Scored, describe_score
from aequa_lightning.rewards.allocation.allocate import Allocation
from aequa_lightning.rewards.allocation.certificate import check_payout
from aequa_lightning.rewards.files.downloads import digests
from aequa_lightning.rewards.files.manifest import write_manifest
from aequa_lightning.run_folder.files import write_json

# Said where samples cannot be drawn anew.
NO_UNCERTAINTY = "{name} is computed over all samples at once, so that it cannot be computed for samples drawn anew"


@dataclass(frozen=True)
class Payout:
    """What is paid, as the files say it.

    Attributes:
        allocation: The widths.
        measured: Validation accuracy of the measured widths.
        contributions: What is paid for, (N,).
        accuracies: Of everybody's network.
        held: The best model that each participant received in the rounds, (N,); None: not known.
    """

    allocation: Allocation
    measured: MeasuredCurve
    contributions: Sequence[float]
    accuracies: RewardAccuracies
    held: Held


class Rewards(CollaborationCallback):
    """Measures who brought what, chooses a width for everybody, and writes each participant's network.

    Args:
        mechanism: How participants are paid.
        assessment: What is measured in every round; None: cosine, behind the gates.
        export_programs: Whether each network is written as a program besides the checkpoint.
        signing_key: PEM file of the Ed25519 key that signs the manifest; None: it is not signed.
    """

    def __init__(
        self,
        mechanism: Mechanism,
        assessment: Assessment | None = None,
        *,
        export_programs: bool = True,
        signing_key: Path | None = None,
    ) -> None:
        self.mechanism, self.assessment = mechanism, assessment or Assessment()
        self.export_programs, self.signing_key = export_programs, signing_key
        self._ledger: NeuronLedger | None = None

    def setup(self, run: Run) -> None:
        """Make room for what is measured."""
        self.measures = Measures(
            run,
            self.assessment,
            paid_by=self.mechanism.contribution,
            narrow=self.mechanism.holds_widths,
            update_length=self.mechanism.length,
            clip=self.mechanism.clip,
        )
        if isinstance(self.mechanism, PaidInRounds) and isinstance(self.mechanism.parts()[1], RollingSubmodels):
            self._ledger = NeuronLedger(run)
        self._curve: dict[float, float] = {}
        self._best = BestRound()

    def on_round_start(self, run: Run) -> Assignment | None:
        """Return what everybody holds in the round, if the mechanism decides that anew in every round."""
        self.measures.start_round(run)
        return self._assign(run, self.mechanism) if isinstance(self.mechanism, PaidByWidth) else None

    def on_updates(self, run: Run, accepted: Sequence[int], refused: Sequence[int]) -> Collection[int]:
        """Let the gates say who stays out of the average."""
        return self.measures.screen_round(run, accepted, refused)

    def on_round_end(self, run: Run, result: RoundResult) -> RewardSource | None:
        """Measure contributions and pay what is paid in rounds: both need the updates, which are deleted afterwards."""
        previous = self.measures.paid(run, self.mechanism.contribution)
        self.measures.end_round(run, result)
        self._curve = dict(result.accuracy_by_width)
        if isinstance(self.mechanism, PaidInRounds):
            return RewardSource(models=self._deliver(run, result, self.mechanism, previous))
        if not self.mechanism.pays_best_round:
            # A resumed run may hold a source that another mechanism chose.
            return RewardSource()
        improved = self._best.note(result.round, self._curve[1.0])
        return RewardSource(parameters=run.parameters.clone()) if improved else None

    def _deliver(
        self, run: Run, result: RoundResult, mechanism: PaidInRounds, previous: Sequence[float]
    ) -> Tensor | None:
        """Write everybody's next model into ``run.models``.

        Returns:
            The models that are paid instead, after the last round of a payment that adapts them.
        """
        target, payment = mechanism.parts()
        contributions = self.measures.paid(run, mechanism.contribution)
        held = None
        if self._ledger is not None and isinstance(payment, RollingSubmodels):
            # The reward is the sub-model that was trained last.
            if result.round < run.config.max_rounds:
                self._ledger.choose(run, payment, standalone=contributions, full=self._curve[1.0])
            held = self._ledger.entries()
        return deliver(
            run,
            result,
            target,
            payment,
            contributions=contributions,
            previous=previous,
            likeness=self.measures.likeness,
            held=held,
        )

    def on_fit_end(self, run: Run) -> None:
        """Measure the curve, allocate, write the rewards."""
        if self.mechanism.pays_best_round and self._best.number:
            run.record("best_round", round=self._best.number, validation_accuracy=self._best.accuracy)
        measured = measure_curve(run, resolution=self.mechanism.resolution)
        if self.mechanism.per_layer_widths:
            per_layer_widths(run, measured, resolution=self.mechanism.resolution)
        self.pay(run, measured)

    def pay(self, run: Run, measured: MeasuredCurve, *, check: bool = False) -> Allocation:
        """Write ``contributions.csv``, ``allocation.json``, ``frontier.json`` and ``rewards/`` from a measured curve.

        Args:
            run: A run whose model holds the server's parameters.
            measured: Validation accuracy of widths; those that the allocation is to choose from.
            check: Whether the certificate is checked before anything is written.

        Returns:
            The allocation, the same on all processes.

        Raises:
            RuntimeError: The certificate does not hold, which is a fault of the solver.
        """
        contributions = self.measures.paid(run, self.mechanism.contribution)
        if isinstance(self.mechanism, PaidByWidth):
            allocation = self._allocate(run, self.mechanism, contributions, measured, check=check)
            accuracies = self._write_rewards(run, allocation.widths.tolist(), measured)
        else:
            accuracies = self._write_rewards(run, run.widths, measured)
            allocation = held_allocation(
                contributions, run.widths, accuracies.validation, accuracy_by_width=measured.accuracy
            )
        scores = measured.scores(run, allocation.curve.widths.tolist())
        if run.is_global_zero:
            payout = Payout(allocation, measured, contributions, accuracies, read_held(run))
            self._write_tables(run, payout, scores)
            self._write_manifest(run, payout)
            self._record(run, allocation)
        return allocation

    def _allocate(
        self,
        run: Run,
        mechanism: PaidByWidth,
        contributions: Sequence[float],
        measured: MeasuredCurve,
        *,
        check: bool,
    ) -> Allocation:
        """Choose the widths, and check their certificate where that is asked for."""
        allocation = allocate_among(
            mechanism,
            contributions,
            measured.accuracy,
            standalone=self.measures.values(run).get("standalone"),
            held=run.widths,
            unpaid=self.measures.unpaid,
        )
        faults = check_payout(allocation, measured.accuracy, unpaid=self.measures.unpaid) if check else []
        if faults:
            raise RuntimeError(f"the new allocation's certificate does not hold: {'; '.join(faults)}.")
        return allocation

    def _write_rewards(self, run: Run, widths: Sequence[float], measured: MeasuredCurve) -> RewardAccuracies:
        return write_rewards(run, widths, layers=measured.layers, export_programs=self.export_programs)

    def _write_tables(self, run: Run, payout: Payout, scores: Sequence[Scored]) -> None:
        """Write ``contributions.csv``, ``allocation.json`` and ``frontier.json``."""
        values, unpaid, names = self.measures.values(run), self.measures.unpaid, run.data.names
        standalone, widths = values.get("standalone"), payout.allocation.curve.widths.tolist()
        write_contributions(run, values, self.measures.remarks())
        resampled = None
        # Other validation samples would change who is caught, too, so nothing is drawn anew where somebody is.
        if not unpaid:
            statistics = np.stack([scored.statistics.numpy() for scored in scores])
            resampled = self.mechanism.resample(
                payout.contributions, statistics, widths, of_means=run.classifier.scorer.of_means, seed=run.config.seed
            )
        standalone_test = None
        if run.standalone is not None:
            standalone_test = [result.test_accuracy for result in run.standalone.all]
        content = describe_allocation(
            run.round,
            names,
            payout.contributions,
            payout.allocation,
            payout.measured,
            standalone=standalone,
            standalone_test=standalone_test,
            received_test=payout.accuracies.test,
            held=payout.held,
        )
        score = run.classifier.scorer
        content["score"] = describe_score(score)
        content["unpaid"] = [names[index] for index in sorted(unpaid)]
        content["uncertainty"] = describe_uncertainty(resampled, names)
        content["no_uncertainty"] = None if score.size else NO_UNCERTAINTY.format(name=score.name)
        write_json(run.config.run_dir / "allocation.json", content)
        if standalone is not None:
            front = self.mechanism.frontier(standalone, payout.measured.accuracy)
            write_json(run.config.run_dir / "frontier.json", describe_frontier(front, content))

    def _write_manifest(self, run: Run, payout: Payout) -> None:
        """Write the manifest, last of all files: where there is one, the payout is complete."""
        layers = payout.measured.layers
        rows = describe_rewards(
            run,
            payout.allocation.widths.tolist(),
            layers=layers,
            accuracies=payout.accuracies,
            held=payout.held,
            export_programs=self.export_programs,
        )
        paid_by = self.mechanism.contribution
        write_cards(run, rows, contributions=payout.contributions, layers=layers, paid_by=paid_by)
        downloads = digests(run.config.run_dir, rounds=run.round)
        write_manifest(run.config.run_dir / "rewards", rows, downloads, number=run.round, signing_key=self.signing_key)

    def _record(self, run: Run, allocation: Allocation) -> None:
        """Record the contributions with the rules by which they are paid."""
        scores = self.measures.values(run)
        run.record(
            "contributions",
            measures=scores,
            errors=self.measures.standard_errors(),
            meanings={name: MEASURES[name].meaning for name in scores},
            paid_by=self.mechanism.contribution,
            objective=allocation.objective,
            slope=allocation.slope,
            rules={
                "floors": None if allocation.floors is None else allocation.floors.tolist(),
                "pin_top": allocation.pin_top,
                "lam": allocation.lam,
                "individually_rational": self.mechanism.individually_rational,
            },
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the measures as they stand, the last curve, the best round, and who was sent which neurons."""
        return {
            "measures": self.measures.state_dict(),
            "curve": self._curve,
            "best": vars(self._best),
            "submodels": self._ledger and self._ledger.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self.measures.load_state_dict(state["measures"])
        self._curve = state["curve"]
        self._best = BestRound(**state["best"])
        if self._ledger is not None:
            if state["submodels"] is None:
                raise InputError(
                    f"trainer.mechanism={type(self.mechanism).__name__} goes on from the sub-models of earlier rounds, "
                    "and this run had none; begin a new run."
                )
            self._ledger.load_state_dict(state["submodels"])

    def _assign(self, run: Run, mechanism: PaidByWidth) -> Assignment | None:
        measures = self.measures.values(run)
        held = mechanism.hold(
            self.measures.paid(run, mechanism.contribution),
            self._curve,
            standalone=measures.get("standalone"),
            smallest=run.classifier.network.widths[-1],
        )
        if held is None:
            return None
        present = {*run.cohort.completed, *run.cohort.dropped}
        before_first_round = not self._curve
        widths = [
            new if index in present or before_first_round else old
            for index, (old, new) in enumerate(zip(run.widths, held, strict=True))
        ]
        return Assignment(widths, mechanism.distil([widths[index] for index in present]) if present else None)
