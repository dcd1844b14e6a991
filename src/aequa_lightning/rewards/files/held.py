"""The best model that each participant received in the rounds, whatever its reward is: it may have kept the file."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aequa_lightning.rewards.allocation.fairness import gain_figures, pearson

Event = Mapping[str, Any]

# Widths are recorded with six digits.
ROUNDING = 1e-6


def best_held(rounds: Iterable[Event], *, last: int) -> dict[str, dict[str, float]]:
    """Return the best model that each participant received in a round.

    A round starts from the model of the round before, whose validation accuracy is known for every width of the grid.
    Whoever holds a width holds all narrower ones, too. The untrained model of the first round does not count, nor does
    what participants make of a model by training.

    Args:
        rounds: The events of the rounds, in their order, each once.
        last: Number of the last round; events of later ones are left out.

    Returns:
        For each participant that has received a trained model: its ``validation_accuracy``, the ``round`` in which it
        was received, and its ``width``; of equally good ones the first. Nothing if the event of a round is missing,
        because something better may have been received in it.

    Example:
        >>> first = {
        ...     "round": 1,
        ...     "participants": [{"name": "a", "width": 1.0}],
        ...     "validation_accuracy": {"0.5": 0.6, "1": 0.75},
        ... }
        >>> second = {"round": 2, "participants": [{"name": "a", "width": 0.5}], "validation_accuracy": {}}
        >>> best_held([first], last=1), best_held([first, second], last=2)
        ({}, {'a': {'validation_accuracy': 0.6, 'round': 2, 'width': 0.5}})
        >>> best_held([second], last=2)
        {}
    """
    known = [event for event in rounds if event["round"] <= last]
    if [event["round"] for event in known] != list(range(1, last + 1)):
        return {}
    best: dict[str, dict[str, float]] = {}
    curve: dict[float, float] = {}
    for event in known:
        for name, held in widths_received(event).items():
            within = {width: accuracy for width, accuracy in curve.items() if width <= held + ROUNDING}
            width = max(within, key=lambda width: (within[width], -width), default=None)
            if width is not None and within[width] > best.get(name, {}).get("validation_accuracy", -1.0):
                best[name] = {"validation_accuracy": within[width], "round": event["round"], "width": width}
        curve = {float(width): accuracy for width, accuracy in event["validation_accuracy"].items()}
    return best


def widths_received(event: Event) -> dict[str, float]:
    """Return the width that each participant received in a round, also those that dropped out of it afterwards.

    Example:
        >>> row = {"name": "a", "width": 0.5}
        >>> widths_received({"participants": [row], "dropped": ["b"], "dropped_widths": [1.0]})
        {'a': 0.5, 'b': 1.0}
    """
    received = {row["name"]: row["width"] for row in event["participants"]}
    # Older records do not say what was received by those who dropped out.
    return received | dict(zip(event.get("dropped", ()), event.get("dropped_widths", ()), strict=False))


def held_faults(rows: Iterable[Mapping[str, Any]], best: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return where a manifest states another best model than the record of the rounds.

    Args:
        rows: Sound rows of the manifest.
        best: From :func:`best_held`.

    Example:
        >>> held_faults(
        ...     [{"participant": "a", "best_held": None}], {"a": {"validation_accuracy": 0.5, "round": 2, "width": 1}}
        ... )
        ['manifest.json, row of a: best_held is None, the rounds say 0.5 in round 2']
    """
    faults = []
    for row in rows:
        who, told, true = row["participant"], row["best_held"], best.get(row["participant"])
        if told != true:
            said = "nothing" if true is None else f"{true['validation_accuracy']:.6g} in round {true['round']}"
            faults.append(f"manifest.json, row of {who}: best_held is {told!r:.80}, the rounds say {said}")
    return faults


def held_figures(
    contributions: Sequence[float],
    accuracies: Sequence[float],
    held: Sequence[Mapping[str, float] | None],
    *,
    standalone: Sequence[float] | None,
) -> dict[str, float | None] | None:
    """Return how fair it is if everybody keeps the better of its reward and the best model that it received in a round.

    Args:
        contributions: What was paid for, (N,).
        accuracies: Validation accuracy of each reward, in [0, 1], (N,).
        held: From :func:`best_held`, (N,); None: nothing is known.
        standalone: Validation accuracy of each participant alone, (N,); None: not known, and nor are gains.

    Returns:
        ``mcg``, ``cgs``, ``minimum_gain`` and ``pearson``; None where nothing is known of anybody.

    Example:
        >>> held = [{"validation_accuracy": 0.75, "round": 2, "width": 0.5}, None]
        >>> held_figures([0.25, 0.5], [0.5, 0.75], held, standalone=[0.25, 0.5])
        {'mcg': 0.375, 'cgs': 0.125, 'minimum_gain': 0.25, 'pearson': None}
    """
    if not any(held):
        return None
    kept = [
        accuracy if best is None else max(accuracy, best["validation_accuracy"])
        for accuracy, best in zip(accuracies, held, strict=True)
    ]
    return {**gain_figures(standalone, kept), "pearson": pearson(contributions, kept)}
