"""What-if questions: other models, another contribution, or money besides; for the page and the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from aequa_lightning.errors import InputError
from aequa_lightning.report.formatting import is_in_percent, points, score, score_name, width_of
from aequa_lightning.report.glossary import OBJECTIVES
from aequa_lightning.report.records import Participant, RunRecord
from aequa_lightning.rewards.allocation.allocate import allocate_widths
from aequa_lightning.rewards.allocation.curve import offered_widths
from aequa_lightning.rewards.allocation.problem import claimed_floors
from aequa_lightning.rewards.allocation.transfers import transfers
from aequa_lightning.run_folder.csv_files import csv_of
from aequa_lightning.run_folder.files import write_atomically
from aequa_lightning.runtime.terminal import verbatim

# Objectives that the page offers besides the run's own allocation.
OFFERED = ("cv", "proportional", "full")


@dataclass(frozen=True)
class Settlement:
    """What one participant received, and the money that settles it.

    Attributes:
        participant: As the report knows it.
        transfer: Money that it receives, in the unit of the price; negative: it pays.
        worth: The accuracy that model and money are worth together, in [0, 1] or beyond.
    """

    participant: Participant
    transfer: float
    worth: float


def why_no_money(run: RunRecord) -> str | None:
    """Say why a run's rewards cannot be settled in money; None: they can."""
    if run.allocation is None:
        return "it has not paid yet"
    if not run.paid_by_accuracy:
        return f"it is paid by the measure {run.paid_by!r}, which is no accuracy and has no price; pay by standalone"
    if any(p.standalone is None for p in run.participants):
        return "nobody trained alone, so no gain is known"
    if run.own_models:
        return "its mechanism gives everybody a model of its own, not a width"
    return None


def settle(run: RunRecord, price: float) -> list[Settlement]:
    """Return the payments between participants at a price; who was caught cheating has no part in them.

    Args:
        run: A run that has paid.
        price: Money for one point of accuracy, > 0.

    Raises:
        InputError: The price is out of range, or the run cannot be settled.
    """
    reason = why_no_money(run)
    if reason is not None or run.allocation is None:
        raise InputError(f"--price: the run {run.folder} cannot be settled in money, for {reason}.")
    taking_part = [p for p in run.participants if p.name not in run.allocation.unpaid]
    amounts = transfers(
        [p.contribution or 0.0 for p in taking_part],
        [p.received or 0.0 for p in taking_part],
        standalone=[p.standalone or 0.0 for p in taking_part],
        slope=run.allocation.slope,
        price=price,
    )
    by_number = {p.number: float(amount) for p, amount in zip(taking_part, amounts, strict=True)}
    return [
        Settlement(p, amount := by_number.get(p.number, 0.0), (p.received or 0.0) + amount / (100 * price))
        for p in run.participants
    ]


def write_transfers(run_dir: Path, settlements: Sequence[Settlement], price: float) -> Path:
    """Write ``transfers.csv``, a row a participant, and return its path.

    Args:
        run_dir: The run folder.
        settlements: Result of :func:`settle`.
        price: The price that they were made at.
    """
    rows = [
        {
            "participant": one.participant.name,
            "contribution": one.participant.contribution,
            "accuracy": one.participant.received,
            "transfer": one.transfer,
            "price": price,
            "worth": one.worth,
        }
        for one in settlements
    ]
    path = run_dir / "transfers.csv"
    write_atomically(path, csv_of(rows).encode())
    return path


def transfers_table(run: RunRecord, settlements: Sequence[Settlement], price: float) -> Table:
    """Return the payments for the terminal, the largest contributor first, at most 80 columns wide."""
    table = Table(box=SIMPLE_HEAD, padding=0)
    table.title = Text(f"Payments at {price:g} a point of {score_name()}", "bold")
    table.title_style, table.title_justify = "", "left"
    for heading in ("participant", "contribution", "width", "received", "payment", "gain with it"):
        table.add_column(heading, no_wrap=True, justify="left" if heading == "participant" else "right")
    by_number = {one.participant.number: one for one in settlements}
    for p in run.listed:
        one = by_number[p.number]
        amount = f"{one.transfer:+,.2f}".replace("-", "−") if abs(one.transfer) >= 0.005 else "0.00"
        gain = points(one.worth - (p.standalone or 0.0))
        table.add_row(verbatim(p.name), score(p.contribution), width_of(p), score(p.received), amount, gain)
    return table


def what_if_data(run: RunRecord) -> dict[str, Any] | None:
    """Return what the page's own computation needs, as plain values; None where there is nothing to ask.

    Args:
        run: A run.

    Returns:
        ``names``, ``alone`` (contribution and accuracy alone, (N,)), ``widths`` and ``accuracies`` of the widths on
        offer, ascending, ``slope``, and ``models``: for each way to choose them its title and the place among the
        widths that each participant receives, the run's own first.
    """
    allocation = run.allocation
    if allocation is None or why_no_money(run) or run.truncated or allocation.unpaid or len(run.participants) < 2:
        return None
    if allocation.by_layer or any(p.contribution != p.standalone for p in run.participants):
        return None
    alone = [p.standalone or 0.0 for p in run.participants]
    curve = offered_widths(allocation.accuracy_by_width)
    places = {width: place for place, width in enumerate(curve.widths.tolist())}
    if any(p.width not in places for p in run.participants):
        return None
    models = [{"title": "as paid in this run", "levels": [places[p.width or 1.0] for p in run.participants]}]
    floors = claimed_floors(alone, alone)
    for objective in OFFERED:
        chosen = allocate_widths(alone, allocation.accuracy_by_width, objective, slope=allocation.slope, floors=floors)
        levels = [places[width] for width in chosen.widths.tolist()]
        models.append({"title": OBJECTIVES[objective], "levels": levels})
    return {
        "names": [p.name for p in run.participants],
        "alone": alone,
        "widths": curve.widths.tolist(),
        "accuracies": curve.accuracies.tolist(),
        "slope": allocation.slope,
        "in_percent": is_in_percent(),
        "models": models,
    }
