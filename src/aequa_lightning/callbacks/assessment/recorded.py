"""The contributions that a checkpoint says were paid for."""

from collections.abc import Mapping, Sequence
from typing import Any

from aequa_lightning.callbacks.assessment.gate_record import GateRecord
from aequa_lightning.contributions.measures import MEASURES, values_without_rounds


def paid_in_state(state: Mapping[str, Any], measure: str, *, standalone: Sequence[float] | None) -> list[float] | None:
    """Return a measure as it was paid for when a checkpoint was written, (N,); None where the checkpoint does not tell.

    Args:
        state: A checkpoint of a run.
        measure: Its name.
        standalone: Validation accuracy of each participant alone, (N,), which is in no checkpoint; None: not known.
    """
    kept, count = state["callbacks"].get("Rewards", {}).get("measures", {}), len(state["samples"])
    totals = kept.get("totals", {})
    values = values_without_rounds(state["samples"], standalone).get(measure)
    if measure in MEASURES and measure in totals:
        # How values go on in later rounds does not matter to where they stand.
        total = MEASURES[measure].accumulator(count, run_rounds=1)
        total.load_state_dict(totals[measure])
        values = total.values.nan_to_num().tolist()
    if values is None:
        return None
    gate_record = GateRecord(count)
    if "gate_record" in kept:
        gate_record.load_state_dict(kept["gate_record"])
    return gate_record.paid(values)
