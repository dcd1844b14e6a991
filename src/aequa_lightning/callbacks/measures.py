"""Contribution measures that a run accumulates round by round, in every process alike."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from aequa_lightning.callbacks.scores import (
    COALITION_MEASURES,
    Products,
    alignment_scores,
    class_cosine_scores,
    coalition_scores,
    cosine_scores,
    head_positions,
    update_products,
)
from aequa_lightning.callbacks.screening import Screened, let_pass, screen
from aequa_lightning.callbacks.valuation import validation_gradient
from aequa_lightning.collaboration.engine import Collaboration
from aequa_lightning.collaboration.exchange import gram_matrix
from aequa_lightning.collaboration.hooks import RoundResult
from aequa_lightning.contributions import CosineReputation, MovingAverage, RunningSum, data_shares
from aequa_lightning.contributions.games import EXACT_UP_TO
from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms.mechanism import ALWAYS_MEASURED, Measure

ACCUMULATORS: dict[str, Callable[[int], CosineReputation | MovingAverage | RunningSum]] = {
    "cosine": CosineReputation,
    "class_cosine": MovingAverage,
    "alignment": RunningSum,
    "fedsv": RunningSum,
    "banzhaf": RunningSum,
}


@dataclass(frozen=True)
class Assessment:
    """How contributions are assessed while the run goes on.

    Args:
        measures: Measures besides ``standalone`` and ``data_share``, which are always there: ``cosine`` (CGSV) and
            ``class_cosine`` (ShapFed) cost nothing; ``alignment`` (DIG-FL) takes one gradient of the validation loss a
            round; ``fedsv`` and ``banzhaf`` evaluate the models of all coalitions of a round's participants, 12 at
            most. Whatever the mechanism pays by is measured in any case.
        gates: Whether null, replayed and scaled updates are worth nothing, and clones are valued as one participant.
        utility: What a coalition's model is worth on the validation part.

    Raises:
        InputError: A measure is named twice.
    """

    measures: Sequence[Measure] = ("cosine",)
    gates: bool = True
    utility: Literal["accuracy", "balanced_accuracy", "negative_log_loss"] = "balanced_accuracy"

    def __post_init__(self) -> None:
        if len(set(self.measures)) < len(self.measures):
            raise InputError(f"trainer.assessment.measures={list(self.measures)} names a measure twice; name it once.")


class Measures:
    """Measures every round by all chosen measures and carries them along.

    Args:
        run: The run.
        assessment: What to measure and how.
        paid_by: The measure that the mechanism pays by.

    Raises:
        InputError: A measure cannot be taken in this run.
    """

    def __init__(self, run: Collaboration, assessment: Assessment, *, paid_by: Measure) -> None:
        chosen = dict.fromkeys([*assessment.measures, paid_by])
        self.assessment = assessment
        self.names: list[str] = [name for name in chosen if name not in ALWAYS_MEASURED]
        self._totals = {name: ACCUMULATORS[name](run.data.participants) for name in self.names}
        self._of_coalitions = [name for name in self.names if name in COALITION_MEASURES]
        self._previous: Tensor | None = None
        self._base: Tensor | None = None
        self._gradient: Tensor | None = None
        self._caught: list[Counter[str]] = [Counter() for _ in range(run.data.participants)]
        players = run.plan.participants_per_round or run.data.participants
        if self._of_coalitions and players > EXACT_UP_TO:
            raise InputError(
                f"measure {self._of_coalitions[0]!r} evaluates all coalitions of a round's {players} participants; "
                f"that is offered up to {EXACT_UP_TO}: lower trainer.participants_per_round, or measure 'alignment'."
            )
        if "class_cosine" in self.names:
            head_positions(run.classifier.network.full, run.data.num_classes)

    def start_round(self, run: Collaboration) -> None:
        """Take what must be known of the server's model before the round; a collective operation."""
        if "alignment" in self.names:
            self._gradient = validation_gradient(run)
        if self._of_coalitions:
            self._base = run.parameters.clone()

    def end_round(self, run: Collaboration, result: RoundResult) -> None:
        """Screen and value the round's updates, and add to the round's record; a collective operation."""
        accepted, count = list(result.weights), run.data.participants
        products = update_products(run, result, self._vectors(result))
        screened, gram = self._screen(run, result, products)
        scores = self._score(run, result, screened, gram, products)
        # Whoever the gates caught counts with 0; whoever was absent, or refused without gates, keeps its standing.
        counted = sorted({*accepted, *screened.reasons})
        for name in self.names:
            shared = screened.share(scores[name], count) if screened.participants else torch.zeros(count)
            self._totals[name].update(shared[counted], counted)
            for row in result.record["participants"]:
                row[name] = shared[run.data.names.index(row["name"])].item()
        result.record["gates"] = screened.sentences
        for index, reason in screened.reasons.items():
            self._caught[index][reason] += 1
        if self.assessment.gates:
            # Kept in the run's precision, so that a resumed run compares with the same numbers.
            self._previous = result.mean_update.to(run.parameters.dtype)

    def values(self, run: Collaboration) -> dict[str, list[float]]:
        """Return every measure as it stands, (N,) each."""
        fixed = {
            "standalone": [result.validation_accuracy for result in run.standalone.all()],
            "data_share": data_shares(run.samples).tolist(),
        }
        return fixed | {name: total.values.nan_to_num().tolist() for name, total in self._totals.items()}

    def remarks(self) -> list[str]:
        """Return what the gates caught each participant at over the rounds, in words; empty where nothing was."""
        return [
            "; ".join(f"{reason} in {number} round{'s' * (number > 1)}" for reason, number in sorted(caught.items()))
            for caught in self._caught
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {
            "totals": {name: total.state_dict() for name, total in self._totals.items()},
            "caught": [dict(caught) for caught in self._caught],
            "previous": self._previous,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned.

        Raises:
            InputError: Something is to be measured that was not measured in the rounds so far.
        """
        missing = [name for name in self.names if name not in state["totals"]]
        if missing:
            raise InputError(
                f"measure {missing[0]!r} was not taken in this run's rounds, only "
                f"{', '.join([*ALWAYS_MEASURED, *state['totals']])}; choose among these, or begin a new run."
            )
        for name, total in self._totals.items():
            total.load_state_dict(state["totals"][name])
        self._caught = [Counter(caught) for caught in state["caught"]]
        self._previous = state["previous"]

    def _score(
        self, run: Collaboration, result: RoundResult, screened: Screened, gram: Tensor, products: Products
    ) -> dict[str, Tensor]:
        """Return the value of each player by every measure; nothing where there are no players."""
        if not screened.participants:
            return {}
        accepted = list(result.weights)
        weights = torch.tensor([result.weights[index] for index in screened.participants], dtype=torch.float64)
        places = [accepted.index(index) for index in screened.participants]
        scores: dict[str, Tensor] = {}
        if "cosine" in self.names:
            scores["cosine"] = cosine_scores(screened, gram[places][:, places], products, weights)
        if "class_cosine" in self.names:
            scores["class_cosine"] = class_cosine_scores(run, result, screened, weights)
        if "alignment" in self.names:
            scores["alignment"] = alignment_scores(screened, products, weights)
        if self._of_coalitions:
            assert self._base is not None
            names, utility = self._of_coalitions, self.assessment.utility
            scores |= coalition_scores(run, result, screened, base=self._base, utility=utility, measures=names)
        return scores

    def _vectors(self, result: RoundResult) -> dict[str, Tensor]:
        """Return the vectors that every update is multiplied with."""
        vectors = {"aggregate": result.mean_update}
        if self._previous is not None:
            vectors["previous"] = self._previous.to(result.mean_update)
        if self._gradient is not None:
            # An update counts in the average by its weight over the coverage; the weight comes in later.
            vectors["gradient"] = torch.where(result.coverage > 0, self._gradient / result.coverage, 0.0)
        return vectors

    def _screen(self, run: Collaboration, result: RoundResult, products: Products) -> tuple[Screened, Tensor]:
        """Return who is valued, and the Gram matrix of all accepted updates, without gates its diagonal only."""
        accepted = list(result.weights)
        if not self.assessment.gates:
            return let_pass(accepted), products.squares[accepted].diag()
        gram = gram_matrix(result.updates, accepted, run.topology, size=len(run.parameters))
        steps = [run.work(index).count(run.samples[index], run.data.batch_size) for index in accepted]
        screened = screen(
            gram,
            products.cosines("previous")[accepted] if "previous" in products.along else None,
            accepted=accepted,
            refused=[run.data.names.index(name) for name in result.record["rejected"]],
            work=torch.tensor(steps, dtype=torch.float64),
            names=run.data.names,
        )
        return screened, gram
