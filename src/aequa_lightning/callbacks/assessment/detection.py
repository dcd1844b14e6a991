"""Detection of cheating: compares the updates of a round with earlier rounds and with each other."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from aequa_lightning.callbacks.assessment.effects import claimed_effects
from aequa_lightning.callbacks.assessment.screening import Detected
from aequa_lightning.contributions.evidence import Evidence
from aequa_lightning.contributions.label_check import is_worse_than_guessing
from aequa_lightning.contributions.likeness import Likeness
from aequa_lightning.contributions.novelty import new_parts, novelty, random_sign_cosines
from aequa_lightning.contributions.sketch import LENGTH, Sketch
from aequa_lightning.engine.processes.seeding import derive_generator
from aequa_lightning.engine.run import Run

# Past aggregates that are remembered; older ones have nothing in common with what is new in a round.
REMEMBERED = 64
# Known directions are at most this share of all, else any update would lie in their span.
MOST_KNOWN = 0.25
# Numbers of a round's sketches, 128 MiB, and the shortest sketch that is of use.
TABLE, SHORTEST = 2**24, 251
# Participants of which all pairs are compared over the rounds, 64 MB; in larger populations none is.
MOST_COMPARED = 1000


class CheatDetector:
    """Keeps what every participant can know, and compares with it what each of them sends.

    Everything is kept as sketches of at most 16,381 numbers: the last 64 steps of the shared model, 4 MiB for each
    width that participants may hold. All pairs of up to 1,000 participants are compared over the rounds.

    Args:
        run: The run.
        widths: Widths that participants may hold, with 1 among them.
    """

    def __init__(self, run: Run, *, widths: Sequence[float]) -> None:
        players = run.config.participants_per_round or run.data.participants
        length = max(SHORTEST, min(LENGTH, TABLE // players))
        generator = derive_generator(run.config.seed, "sketch")
        self._sketch = Sketch(run.parameters.numel(), generator, run.topology.device, length=length)
        self._widths = sorted(widths)
        self._steps: dict[float, list[Tensor]] = {width: [] for width in self._widths}
        self._initial, self._start = self._of_server(run), self._of_server(run)
        self._evidence = Evidence(run.data.participants)
        self._likeness: Likeness | None = None
        if run.data.participants <= MOST_COMPARED:
            self._likeness = Likeness(run.data.participants, length=self._sketch.length)
            self._traits = _traits(run)

    def start_round(self, run: Run) -> None:
        """Take in what everybody receives."""
        self._start = self._of_server(run)

    def compare(self, run: Run, accepted: Sequence[int], gram: Tensor, square_gram: Tensor) -> Detected:
        """Compare a round's updates; a collective operation.

        Args:
            run: The run, whose server has taken in the updates of this group, and has not moved.
            accepted: Indices of those whose update may enter the average, K of them.
            gram: Inner products of all pairs of their updates, (K, K).
            square_gram: Those of the updates squared entry by entry, (K, K).
        """
        sketches = torch.zeros(len(accepted), self._sketch.length, dtype=torch.float64)
        for place, index in enumerate(accepted):
            if index in run.server.updates:
                sketches[place] = self._sketch(run.server.updates[index])
        sketches = run.topology.merge(sketches)
        effects = claimed_effects(run, run.server.updates)[list(accepted)]
        new = torch.zeros_like(sketches)
        held = [self._known_as(run.widths[index]) for index in accepted]
        for width in sorted(set(held)):
            places = [place for place, one in enumerate(held) if one == width]
            new[places] = new_parts(sketches[places], self._known(width))
        squares = sketches.square().sum(dim=1)
        shares = torch.where(squares > 0, new.square().sum(dim=1) / squares, 0.0)
        chance = random_sign_cosines(gram, square_gram, error=self._sketch.error)
        self._evidence.add(novelty(sketches, new, chance), effects, accepted)
        same: list[tuple[int, int]] = []
        if self._likeness is not None:
            self._likeness.add(sketches, accepted)
            same = self._likeness.same(accepted, self._traits)
        riders, harmful = self._evidence.riders(accepted), self._evidence.harmful(accepted)
        return Detected(shares, riders, harmful, _false_labels(run), same)

    def end_round(self, run: Run) -> None:
        """Take in how the server has moved."""
        most = int(min(REMEMBERED, max(1, MOST_KNOWN * self._sketch.length - 2)))
        for width, sketch in self._of_server(run).items():
            # Kept in single precision, so that a resumed run compares with the same numbers.
            step = (sketch - self._start[width]).float()
            self._steps[width] = [*self._steps[width], step][-most:]

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        steps = {width: torch.stack(steps) for width, steps in self._steps.items() if steps}
        likeness = self._likeness and self._likeness.state_dict()
        return {
            "steps": steps,
            "initial": self._initial,
            "evidence": self._evidence.state_dict(),
            "likeness": likeness,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self._steps = {width: [] for width in self._widths} | {w: list(steps) for w, steps in state["steps"].items()}
        self._initial = state["initial"]
        self._evidence.load_state_dict(state["evidence"])
        if self._likeness is not None:
            self._likeness.load_state_dict(state["likeness"])

    def _known_as(self, width: float) -> float:
        """Return the narrowest of the followed widths that holds a width."""
        return next(known for known in self._widths if known >= width)

    def _known(self, width: float) -> Tensor:
        """Return what everybody knows at a width: the parameters, their drift, and the latest steps, (T, m)."""
        start = self._start[width]
        return torch.stack([start, start - self._initial[width], *(step.double() for step in self._steps[width])])

    def _of_server(self, run: Run) -> dict[float, Tensor]:
        """Return sketches of the part of the server's parameters that each width holds, on the CPU."""
        return {
            width: self._sketch(run.parameters if width == 1 else run.parameters * run.masks.mask(width)).cpu()
            for width in self._widths
        }


def _false_labels(run: Run) -> list[int]:
    """Return whose network alone does worse on the validation part than guessing; nobody without such networks."""
    samples = len(run.data.validation())
    return [
        index
        for index, alone in enumerate(run.standalone.all if run.standalone is not None else [])
        if alone.class_accuracy is not None
        and alone.guessing_accuracy is not None
        and is_worse_than_guessing(alone.class_accuracy, alone.guessing_accuracy, samples)
    ]


def _traits(run: Run) -> Tensor:
    """Return the cosine of each pair's class counts and the ratio of their numbers of samples, (2, N, N)."""
    classes = torch.nn.functional.normalize(torch.from_numpy(run.data.class_counts()).double(), dim=1)
    samples = torch.tensor(run.samples, dtype=torch.float64)
    pairs = samples[:, None], samples[None]
    ratio = torch.minimum(*pairs) / torch.maximum(*pairs).clamp(min=1)
    return torch.stack([classes @ classes.T, ratio])
