"""Checks of ``allocation.json``: its figures are computed again, and its certificate is proven."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from aequa_lightning.rewards.allocation.allocate import Allocation
from aequa_lightning.rewards.allocation.certificate import check_payout
from aequa_lightning.rewards.allocation.curve import offered_widths
from aequa_lightning.rewards.allocation.fairness import gain_figures, pearson
from aequa_lightning.rewards.allocation.problem import claimed_floors
from aequa_lightning.rewards.files.held import held_figures

# Another machine rounds otherwise, and now and then a sample falls into another class.
SAMPLES, SHARE = 1, 0.002


def accuracy_deviates(told: float, reached: float, samples: float) -> bool:
    """Tell whether an accuracy is another one than a network reaches.

    Args:
        told: What a file says, in [0, 1].
        reached: What the network reaches, in [0, 1].
        samples: Number of samples that it was measured on.

    Example:
        >>> accuracy_deviates(0.80, 0.81, 100), accuracy_deviates(0.80, 0.83, 100)
        (False, True)
    """
    return abs(told - reached) > SAMPLES / samples + SHARE


def allocation_faults(
    allocation: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    *,
    contributions: Sequence[float] | None,
    standalone: Sequence[float] | None,
    samples: float = math.inf,
) -> Iterator[str]:
    """Yield what ``allocation.json`` says otherwise than the manifest and the run's record.

    Args:
        allocation: Its content.
        rows: Those of the manifest, N of them.
        contributions: What was paid for, (N,); None: not known.
        standalone: Accuracy of each participant alone, (N,); None: not known, and nor are gains.
        samples: Number of samples that accuracies were measured on, where that is known.

    Raises:
        KeyError: The allocation lacks something; TypeError, ValueError and AttributeError likewise.

    Example:
        >>> rows = [
        ...     {
        ...         "participant": "a",
        ...         "width": 1.0,
        ...         "validation_accuracy": 0.9,
        ...         "test_accuracy": 0.8,
        ...         "best_held": None,
        ...     }
        ... ]
        >>> person = {
        ...     "name": "a",
        ...     "width": 0.5,
        ...     "accuracy": 0.9,
        ...     "test_accuracy": 0.8,
        ...     "gain": 0.3,
        ...     "contribution": 0.5,
        ...     "best_held": None,
        ... }
        >>> told = {
        ...     "participants": [person],
        ...     "mcg": 0.3,
        ...     "cgs": 0.0,
        ...     "minimum_gain": 0.3,
        ...     "pearson": None,
        ...     "held": None,
        ... }
        >>> for fault in allocation_faults(told, rows, contributions=[0.5], standalone=[0.5]):
        ...     print(fault)
        a: width is 0.5, not 1
        a: gain is 0.3, not 0.4
        mcg is 0.3, not 0.4
        minimum_gain is 0.3, not 0.4
    """
    people = allocation["participants"]
    if [person["name"] for person in people] != [row["participant"] for row in rows]:
        yield "names other participants than the manifest"
        return
    accuracies = [person["accuracy"] for person in people]
    for index, (person, row) in enumerate(zip(people, rows, strict=True)):
        true: dict[str, float | None] = {"width": row["width"], "test_accuracy": row["test_accuracy"]}
        true["gain"] = None if standalone is None else accuracies[index] - standalone[index]
        if contributions is not None:
            true["contribution"] = contributions[index]
        for key, value in true.items():
            if _differ(person[key], value):
                yield f"{row['participant']}: {key} is {person[key]!r:.40}, not {_short(value)}"
        if accuracy_deviates(person["accuracy"], row["validation_accuracy"], samples):
            yield f"{row['participant']}: accuracy is {person['accuracy']!r:.40}, not {row['validation_accuracy']}"
        if person["best_held"] != row["best_held"]:
            yield f"{row['participant']}: best_held is {person['best_held']!r:.80}, not {row['best_held']}"
    whole = gain_figures(standalone, accuracies)
    if contributions is not None:
        whole["pearson"] = pearson(contributions, accuracies)
    for key, value in whole.items():
        if _differ(allocation[key], value):
            yield f"{key} is {allocation[key]!r:.40}, not {_short(value)}"
    brought = [person["contribution"] for person in people]
    kept = held_figures(brought, accuracies, [row["best_held"] for row in rows], standalone=standalone)
    if (allocation["held"] is None) != (kept is None):
        yield f"held is {allocation['held']!r:.80}, not {kept}"
    for key, value in (kept or {}).items():
        if allocation["held"] is not None and _differ(allocation["held"][key], value):
            yield f"held: {key} is {allocation['held'][key]!r:.40}, not {_short(value)}"


def certificate_faults(allocation: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return why ``allocation.json`` does not prove its widths to be the best by the recorded rules.

    Args:
        allocation: Its content.
        events: The run's record, which tells the rules and what each participant reaches alone. Without a payout in it
            nothing can be proven, and there are no faults.

    Raises:
        KeyError: The allocation or an event lacks something; TypeError, ValueError and AttributeError likewise.
    """
    recorded = list(events)
    payouts = [event for event in recorded if event["event"] == "contributions"]
    if not payouts:
        return []
    alone = {
        event["participant"]: float(event["validation_accuracy"])
        for event in recorded
        if event["event"] == "standalone"
    }
    people = allocation["participants"]
    curve = {float(width): accuracy for width, accuracy in allocation["accuracy_by_width"].items()}
    brought, widths, accuracies = (
        np.array([person[key] for person in people], dtype=np.float64) for key in ("contribution", "width", "accuracy")
    )
    rules, floors = payouts[-1]["rules"], payouts[-1]["rules"]["floors"]
    unpaid = [index for index, person in enumerate(people) if person["name"] in allocation["unpaid"]]
    told = Allocation(
        contributions=brought,
        widths=widths,
        accuracies=accuracies,
        objective=allocation["objective"],
        objective_value=math.nan,
        slope=float(allocation["slope"]),
        certificate=allocation["certificate"],
        curve=offered_widths(curve),
        floors=None if floors is None else np.array(floors, dtype=np.float64),
        pin_top=rules["pin_top"],
        lam=rules["lam"],
    )
    faults = check_payout(told, curve, unpaid=unpaid)
    if rules["individually_rational"] and alone:
        claims = claimed_floors([alone[person["name"]] for person in people], brought.tolist())
        granted = zip(floors or [0.0] * len(people), claims, strict=True)
        if any(floor < claim for index, (floor, claim) in enumerate(granted) if index not in unpaid):
            faults.append("the rules grant somebody less than it reaches alone")
    return [f"certificate: {fault}" for fault in faults]


def _differ(told: Any, true: float | None) -> bool:
    if told is None or true is None:
        return told is not true
    return bool(abs(told - true) > 1e-9)


def _short(value: float | None) -> str:
    return "null" if value is None else f"{value:.6g}"
