"""Allocation where some participants are not paid."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from aequa_lightning.mechanisms import PaidByWidth
from aequa_lightning.rewards.allocation.allocate import Allocation


def allocate_among(
    mechanism: PaidByWidth,
    contributions: Sequence[float],
    accuracy_by_width: dict[float, float],
    *,
    standalone: Sequence[float] | None,
    held: Sequence[float],
    unpaid: Collection[int],
) -> Allocation:
    """Let a mechanism allocate among those who are paid; the others receive the narrowest width on offer.

    Args:
        mechanism: Pays with widths.
        contributions: By the mechanism's measure, (N,); 0 for those who are not paid.
        accuracy_by_width: Validation accuracy in [0, 1] of every measured width.
        standalone: Validation accuracy in [0, 1] that each participant reaches alone, (N,); None: not known.
        held: Width that each participant held in the last round, (N,).
        unpaid: Indices of those who are not paid. If that is everybody, nobody is left out.

    Returns:
        The allocation of all N. Its figures are those of all; its certificate proves what the others receive.
    """
    paid = [index for index in range(len(contributions)) if index not in unpaid]
    if not paid or len(paid) == len(contributions):
        return mechanism.allocate(contributions, accuracy_by_width, standalone=standalone, held=held)
    found = mechanism.allocate(
        [contributions[index] for index in paid],
        accuracy_by_width,
        standalone=None if standalone is None else [standalone[index] for index in paid],
        held=[held[index] for index in paid],
    )
    widths = np.full(len(contributions), found.curve.widths[0])
    accuracies = np.full(len(contributions), found.curve.accuracies[0])
    widths[paid], accuracies[paid] = found.widths, found.accuracies
    floors = None
    if found.floors is not None:
        floors = np.zeros(len(contributions))
        floors[paid] = found.floors
    numbers = ", ".join(str(index) for index in sorted(unpaid))
    remark = f"participants {numbers} were caught in most rounds: they are not paid, and no part of the proof"
    return replace(
        found,
        contributions=np.array(contributions, dtype=np.float64),
        widths=widths,
        accuracies=accuracies,
        floors=floors,
        certificate={**found.certificate, "remarks": [*found.certificate.get("remarks", []), remark]},
    )
