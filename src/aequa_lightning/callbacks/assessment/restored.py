"""What was paid for, as a checkpoint tells."""

from collections.abc import Mapping, Sequence
from typing import Any

from aequa_lightning.callbacks.assessment.conviction import Conviction
from aequa_lightning.callbacks.assessment.measures import ACCUMULATORS
from aequa_lightning.contributions import data_shares


def paid_in_state(state: Mapping[str, Any], measure: str, *, standalone: Sequence[float] | None) -> list[float] | None:
    """Return a measure as it was paid for when a checkpoint was written, (N,); None where the checkpoint does not tell.

    Args:
        state: A checkpoint of a run.
        measure: Its name.
        standalone: Validation accuracy of each participant alone, (N,), which is in no checkpoint; None: not known.
    """
    kept, count = state["callbacks"].get("Rewards", {}).get("measures", {}), len(state["samples"])
    totals = kept.get("totals", {})
    values: Sequence[float]
    if measure == "standalone" and standalone is not None:
        values = standalone
    elif measure == "data_share":
        values = data_shares(state["samples"]).tolist()
    elif measure in totals and measure in ACCUMULATORS:
        total = ACCUMULATORS[measure](count)
        total.load_state_dict(totals[measure])
        values = total.values.nan_to_num().tolist()
    else:
        return None
    conviction = Conviction(count)
    if "conviction" in kept:
        conviction.load_state_dict(kept["conviction"])
    return conviction.paid(values)
