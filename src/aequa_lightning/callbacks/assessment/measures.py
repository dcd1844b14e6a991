"""Contribution measures that a run accumulates round by round, in every process alike."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from aequa_lightning.callbacks.assessment.detection import CheatDetector
from aequa_lightning.callbacks.assessment.evidence import RoundEvidence, RoundStart, head_positions
from aequa_lightning.callbacks.assessment.gate_record import GateRecord
from aequa_lightning.callbacks.assessment.screening import let_pass, screen
from aequa_lightning.contributions.accumulate import RunningSum
from aequa_lightning.contributions.measure import Accumulator
from aequa_lightning.contributions.measures import MEASURES, check_measures, values_without_rounds
from aequa_lightning.contributions.values import Values
from aequa_lightning.engine.callback import RoundResult
from aequa_lightning.engine.run import Run
from aequa_lightning.errors import InputError


@dataclass(frozen=True)
class Assessment:
    """How contributions are assessed while the run goes on.

    Args:
        measures: Measures besides ``data_share``, which is always there, and ``standalone``, which goes with
            ``trainer.standalone``: ``cosine`` (CGSV), ``class_cosine`` (ShapFed) and the reputation ``rffl`` cost next
            to nothing; ``alignment`` (DIG-FL) takes one gradient of the validation loss a round; ``local_accuracy`` and
            the reputations ``cffl`` and ``fedave`` evaluate each participant's own model; ``loo`` evaluates the model
            without each; ``fedsv`` (Shapley), ``banzhaf``, ``beta_shapley`` (4, 1) and ``gtg_shapley`` evaluate models
            of coalitions of a round's participants. Whatever the mechanism pays by is measured in any case.
        gates: Whether null, replayed, scaled and harmful updates and those with nothing new are worth nothing, and
            whoever sends the same update or trains on the same data is valued and paid as one participant. Whoever is
            caught in most of its rounds is not paid, by any measure.
        exclude_flagged: Whether what the gates catch stays out of the average, too; of several that are one participant
            the first one stays in. Whoever is kept out receives nothing in that round from a mechanism that sends
            everybody a model of its own. null: yes, unless there are no gates, or ``trainer.privacy`` or ``Scaffold``
            needs all updates.
        utility: What a coalition's model is worth on the validation part: the model's ``score``, or a function of
            classes; null: ``balanced_accuracy`` where the model classifies, else its score.
        budget: Coalitions that a measure evaluates in a round where values are sampled, which ``fedsv`` (by shapiq) and
            ``banzhaf`` are above 12 participants; null: 75 per participant.

    Raises:
        InputError: A measure is unknown or named twice, or nothing can be kept out for want of gates.
    """

    measures: Sequence[str] = ("cosine",)
    gates: bool = True
    exclude_flagged: bool | None = None
    utility: Literal["score", "accuracy", "balanced_accuracy", "negative_log_loss"] | None = None
    budget: int | None = None

    def __post_init__(self) -> None:
        if self.exclude_flagged and not self.gates:
            raise InputError("trainer.assessment.exclude_flagged=true keeps out what gates catch; set gates to true.")
        check_measures(self.measures, "trainer.assessment.measures")
        if len(set(self.measures)) < len(self.measures):
            raise InputError(f"trainer.assessment.measures={list(self.measures)} names a measure twice; name it once.")


class Measures:
    """Measures every round by all chosen measures and carries them along.

    Attributes:
        likeness: How alike losses on each participant's data and on the validation part were in the last round, in
            [0, 1], (N,); ones where no measure needs it.

    Args:
        run: The run.
        assessment: What to measure and how.
        paid_by: The measure that the mechanism pays by.
        narrow: Whether participants may hold less than the full width in the rounds.
        update_length: Length that the mechanism brings updates to, > 0; for measures that compare such updates.
        clip: Magnitude that the mechanism cuts entries of updates to, > 0; None: it does not.

    Raises:
        InputError: A measure cannot be taken in this run.
    """

    def __init__(
        self,
        run: Run,
        assessment: Assessment,
        *,
        paid_by: str,
        narrow: bool = False,
        update_length: float = 0.5,
        clip: float | None = None,
    ) -> None:
        check_measures([paid_by], "trainer.mechanism.contribution")
        self.assessment = assessment
        chosen = (MEASURES[name] for name in dict.fromkeys([*assessment.measures, paid_by]))
        self._chosen = {measure.name: measure for measure in chosen if measure.accumulate is not None}
        self._needs = {need for measure in self._chosen.values() for need in measure.needs}
        count = run.data.participants
        self._totals: dict[str, Accumulator] = {
            name: measure.accumulator(count, run_rounds=run.config.max_rounds) for name, measure in self._chosen.items()
        }
        self._update_length, self._clip = update_length, clip
        self.likeness = [1.0] * count
        # Variances of the sums of sampled values.
        self._variances = {name: RunningSum(count) for name in self._chosen}
        self._screened = let_pass([])
        self._left_out: list[int] = []
        self._gram: Tensor | None = None
        self._start = RoundStart()
        self.gate_record = GateRecord(count)
        chance = run.config.participation.sampling == "poisson"
        players = count if chance else run.config.participants_per_round or count
        for measure in self._chosen.values():
            if measure.check is not None:
                measure.check(players, assessment.budget)
        if "class_rows" in self._needs:
            if not run.classifier.has_classes:
                raise InputError(
                    "measure 'class_cosine' compares updates class by class, and this model does not classify; choose "
                    "another one, such as cosine."
                )
            head_positions(run.classifier.network.full, run.data.num_classes)
        self._detector = CheatDetector(run, widths=run.grid if narrow else (1.0,)) if assessment.gates else None

    def start_round(self, run: Run) -> None:
        """Take what measures and gates compare the round with; a collective operation."""
        if self._detector is not None:
            self._detector.start_round(run)
        self._start = RoundStart.of(run, self._needs)

    def screen_round(self, run: Run, accepted: Sequence[int], refused: Sequence[int]) -> Collection[int]:
        """Let the gates look at the round's updates before they are averaged; a collective operation.

        Args:
            run: The run, whose server has taken in the updates of this group.
            accepted: Indices of those whose update may enter the average, ascending.
            refused: Indices of those whose update was not finite or exploded.

        Returns:
            Who is to stay out of the average.
        """
        if self._detector is None:
            self._screened = let_pass(accepted)
            return []
        names = run.data.names
        gram, squares = run.server.distributed_updates(accepted).gram_matrices(powers=(1, 2))
        detected = self._detector.compare(run, accepted, gram, squares)
        steps = [run.work(index).count(run.samples[index], run.data.batch_size) for index in accepted]
        work = torch.tensor(steps, dtype=torch.float64)
        held = torch.tensor([run.masks.count(run.widths[index]) for index in accepted])
        self._screened = screen(gram, detected, accepted=accepted, refused=refused, work=work, held=held, names=names)
        places = [accepted.index(index) for index in self._screened.participants]
        self._gram = gram[places][:, places]
        self._left_out = []
        exclude_flagged = self.assessment.exclude_flagged
        if not run.config.requires_all_updates if exclude_flagged is None else exclude_flagged:
            representatives = self._screened.representatives()
            self._left_out = [index for index in accepted if index not in representatives]
        self._screened.sentences.extend(f"{names[index]} stayed out of the average" for index in self._left_out)
        return self._left_out

    def end_round(self, run: Run, result: RoundResult) -> None:
        """Value the round's updates and add to the round's record; a collective operation."""
        screened, count = self._screened, run.data.participants
        places = {name: index for index, name in enumerate(run.data.names)}
        scores = self._score(run, result)
        # Whoever the gates caught counts with 0; whoever was absent, or refused without gates, keeps its standing.
        counted = sorted({*result.weights, *screened.reasons})
        for name in self._chosen:
            value, error = scores.get(name, (torch.zeros(0), None))
            spread = screened.spread(value, count)
            self._totals[name].update(spread[counted], counted)
            for row in result.record["participants"]:
                row[name] = spread[places[row["name"]]].item()
            if error is not None:
                spread = screened.spread(error, count)
                self._variances[name].update(spread[counted] ** 2, counted)
                for row in result.record["participants"]:
                    row[f"{name}_error"] = spread[places[row["name"]]].item()
        result.record["gates"] = screened.sentences
        if self._detector is not None:
            present = {*result.weights, *screened.reasons, *self._left_out}
            identities = screened.identities()
            self.gate_record.note(present, screened.reasons, left_out=self._left_out, identities=identities)
            self._detector.end_round(run)

    def values(self, run: Run) -> dict[str, list[float]]:
        """Return every measure as it stands, (N,) each."""
        standalone = None
        if run.standalone is not None:
            standalone = [result.validation_accuracy for result in run.standalone.all]
        fixed = values_without_rounds(run.samples, standalone)
        return fixed | {name: total.values.nan_to_num().tolist() for name, total in self._totals.items()}

    def paid(self, run: Run, name: str) -> list[float]:
        """Return a measure as it is paid for, (N,)."""
        return self.gate_record.paid(self.values(run)[name])

    @property
    def unpaid(self) -> frozenset[int]:
        """Those who were caught in most of the rounds that they took part in so far."""
        return self.gate_record.unpaid

    def standard_errors(self) -> dict[str, list[float]]:
        """Return the standard errors of measures that were sampled, (N,) each."""
        errors = {name: total.values.sqrt().tolist() for name, total in self._variances.items()}
        return {name: values for name, values in errors.items() if any(values)}

    def remarks(self) -> list[str] | None:
        """Return what the gates caught each participant at, in words, empty where nothing was; None without gates."""
        if not self.assessment.gates:
            return None
        return self.gate_record.remarks()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {
            "totals": {name: total.state_dict() for name, total in self._totals.items()},
            "variances": {name: total.state_dict() for name, total in self._variances.items()},
            "gate_record": self.gate_record.state_dict(),
            "detector": self._detector and self._detector.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned.

        Raises:
            InputError: Something is to be measured that was not measured in the rounds so far.
        """
        missing = [name for name in self._chosen if name not in state["totals"]]
        if missing:
            fixed = [name for name, measure in MEASURES.items() if measure.accumulate is None]
            raise InputError(
                f"measure {missing[0]!r} was not taken in this run's rounds, only "
                f"{', '.join([*fixed, *state['totals']])}; choose among these, or begin a new run."
            )
        for name, total in self._totals.items():
            total.load_state_dict(state["totals"][name])
        for name, total in self._variances.items():
            total.load_state_dict(state["variances"][name])
        self.gate_record.load_state_dict(state["gate_record"])
        if self._detector is not None:
            if state["detector"] is None:
                raise InputError(
                    "trainer.assessment.gates=true, but this run's rounds so far had no gates to compare with; "
                    "set it to false, or begin a new run."
                )
            self._detector.load_state_dict(state["detector"])

    def _score(self, run: Run, result: RoundResult) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Return score and standard error (None: exact) of each player by every measure; nothing without players."""
        if not self._screened.participants:
            return {}
        evidence = RoundEvidence(
            run,
            result,
            self._screened,
            start=self._start,
            earlier={name: total.values for name, total in self._totals.items()},
            gram=self._gram,
            utility=self.assessment.utility,
            budget=self.assessment.budget,
            update_length=self._update_length,
            clip=self._clip,
        )
        if "likeness" in self._needs:
            self.likeness = evidence.likeness_of_participants.tolist()
        scores: dict[str, tuple[Tensor, Tensor | None]] = {}
        for name, measure in self._chosen.items():
            found = measure.score(*evidence.needed_by(measure))
            if isinstance(found, Values):
                errors = torch.from_numpy(found.standard_errors) if found.standard_errors.any() else None
                scores[name] = torch.from_numpy(found.values), errors
            else:
                scores[name] = found, None
        return scores
