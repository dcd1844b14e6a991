"""The validation accuracy of each width, measured until the curve is fine enough."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from aequa_lightning.engine.run import Run
from aequa_lightning.modules.score import Scored
from aequa_lightning.rewards.allocation.curve import fills_a_gap, offered_widths, refine
from aequa_lightning.rewards.files.checkpoint import check_width
from aequa_lightning.slimmable import Width

# Widths that are measured to refine a curve, at most. A network of thousands of widths on few validation samples would
# be measured for hours, since noise makes every neighbour differ.
MAX_MEASURED = 200


@dataclass
class MeasuredCurve:
    """What widths of the shared model reach on the validation part.

    Attributes:
        accuracy: Accuracy in [0, 1] of each width, by its number in (0, 1].
        layers: Of widths whose layers differ: the share of each layer, by its name.
    """

    accuracy: dict[float, float] = field(default_factory=dict)
    layers: dict[float, dict[str, float]] = field(default_factory=dict)
    _scored: dict[float, Scored] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of_allocation(cls, content: Mapping[str, Any]) -> "MeasuredCurve":
        """Return what ``allocation.json`` holds of it.

        Raises:
            KeyError: Something is missing; TypeError, ValueError or AttributeError: something is of another kind.
        """
        accuracy, layers = content["accuracy_by_width"], content["layers"]
        for key, value in accuracy.items():
            check_width(float(key), layers.get(key))
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise TypeError(f"the accuracy of width {key} is {value!r:.40}")
        return cls({float(key): value for key, value in accuracy.items()}, {float(key): layers[key] for key in layers})

    def width(self, number: float) -> Width:
        """Return the width behind a number."""
        return self.layers.get(number, number)

    def scores(self, run: Run, numbers: Sequence[float]) -> list[Scored]:
        """Return the score of each width on the validation part; a collective operation."""
        unknown = [number for number in numbers if number not in self._scored]
        before, after = len(self._scored), len(self._scored) + len(unknown)
        if unknown:
            run.show("measuring widths", before, after)
        scores = run.evaluator.scores(
            [self.width(number) for number in unknown],
            run.data.validation(),
            on_measured=lambda count: run.show("measuring widths", before + count, after),
        )
        self._scored |= dict(zip(unknown, scores, strict=True))
        return [self._scored[number] for number in numbers]


def measure_curve(run: Run, *, resolution: float) -> MeasuredCurve:
    """Measure the grid and what is held, then widths between where the curve is steep; a collective operation.

    At most ``MAX_MEASURED`` widths are measured besides the grid and what is held: the widest gaps are refined first.

    Args:
        run: A run whose model holds the server's parameters.
        resolution: Largest difference in accuracy that may stay between neighbours, in [0, 1]. A difference of one
            validation sample always may: what lies between is no better than one of the two.
    """
    network, measured = run.classifier.network, MeasuredCurve()
    wanted, candidates = sorted({*run.grid, *run.widths}), set(network.distinct_widths())
    left = MAX_MEASURED
    while wanted:
        measured.accuracy |= _accuracies(run, measured, wanted)
        wanted = _refine(run, measured.accuracy, candidates, resolution, limit=left)
        left -= len(wanted)
        candidates -= set(wanted)
    return measured


def per_layer_widths(run: Run, measured: MeasuredCurve, *, resolution: float) -> None:
    """Add widths of single layers where those of all layers leave a gap; a collective operation.

    At most ``MAX_MEASURED`` of them are measured.

    Args:
        run: A run whose model holds the server's parameters.
        measured: The refined curve; changed in place. What was on offer stays on offer.
        resolution: Largest difference in accuracy that may stay between neighbours; see :func:`measure_curve`.
    """
    network = run.classifier.network
    candidates: dict[float, dict[str, float]] = {}
    for narrow, wide in pairwise(sorted(measured.accuracy)):
        candidates |= network.widths_between(narrow, wide)
    left = MAX_MEASURED
    while wanted := _refine(run, offered_widths(measured.accuracy).by_width(), candidates, resolution, limit=left):
        left -= len(wanted)
        measured.layers |= {number: candidates.pop(number) for number in wanted}
        for number, accuracy in _accuracies(run, measured, wanted).items():
            if fills_a_gap(measured.accuracy, number, accuracy):
                measured.accuracy[number] = accuracy


def _refine(
    run: Run, accuracy: Mapping[float, float], candidates: Collection[float], resolution: float, *, limit: int
) -> list[float]:
    """Return the widths to measure next; a difference of one validation sample is no step."""
    # Accuracies are multiples of one sample; between one and two rounding decides nothing.
    finest = 1.5 / len(run.data.validation())
    return refine(accuracy, sorted(candidates), max(resolution, finest), limit=limit)


def _accuracies(run: Run, measured: MeasuredCurve, numbers: Sequence[float]) -> dict[float, float]:
    """Return the accuracies of those widths that the network can have."""
    legal = [number for number in numbers if run.classifier.network.has(measured.width(number))]
    scores = measured.scores(run, legal)
    return {number: scored.value for number, scored in zip(legal, scores, strict=True)}
