"""The list of all contribution measures: a new one is defined in a file of its own and named here."""

from collections.abc import Collection, Sequence
from typing import Any

from aequa_lightning.contributions.alignment import ALIGNMENT, CLASS_COSINE
from aequa_lightning.contributions.cosine import COSINE
from aequa_lightning.contributions.games import BANZHAF, BETA_SHAPLEY, FEDSV, LOO
from aequa_lightning.contributions.gtg_shapley import GTG_SHAPLEY
from aequa_lightning.contributions.measure import Measure
from aequa_lightning.contributions.own_models import FEDAVE, LOCAL_ACCURACY
from aequa_lightning.contributions.reputation import CFFL, RFFL
from aequa_lightning.contributions.without_rounds import DATA_SHARE, STANDALONE
from aequa_lightning.errors import InputError

_ALL = (
    STANDALONE,
    DATA_SHARE,
    COSINE,
    CLASS_COSINE,
    ALIGNMENT,
    FEDSV,
    BANZHAF,
    BETA_SHAPLEY,
    LOO,
    GTG_SHAPLEY,
    CFFL,
    RFFL,
    FEDAVE,
    LOCAL_ACCURACY,
)
MEASURES: dict[str, Measure] = {measure.name: measure for measure in _ALL}


def check_measures(names: Collection[str], key: str) -> None:
    """Check that measures are known by their names.

    Args:
        names: The names.
        key: Key of the configuration that gives them.

    Raises:
        InputError: One of them is not known.

    Example:
        >>> check_measures(["cosin"], "trainer.mechanism.contribution")
        Traceback (most recent call last):
        ...
        aequa_lightning.errors.InputError: trainer.mechanism.contribution names the measure 'cosin', which is unknown; \
choose among standalone, data_share, cosine, class_cosine, alignment, fedsv, banzhaf, beta_shapley, loo, gtg_shapley, \
cffl, rffl, fedave, local_accuracy.
    """
    for name in names:
        if name not in MEASURES:
            raise InputError(
                f"{key} names the measure {name!r:.80}, which is unknown; choose among {', '.join(MEASURES)}."
            )


def values_without_rounds(samples: Sequence[int], standalone: Sequence[float] | None = None) -> dict[str, list[float]]:
    """Return the measures that need no round, (N,) each, by name.

    Args:
        samples: Training samples of each participant, (N,).
        standalone: Validation accuracy in [0, 1] that each participant reaches alone, (N,); None: not known.

    Example:
        >>> values_without_rounds([30, 10]), list(values_without_rounds([30, 10], [0.5, 0.25]))
        ({'data_share': [0.75, 0.25]}, ['standalone', 'data_share'])
    """
    known: dict[str, Any] = {"samples": samples}
    if standalone is not None:
        known["standalone"] = standalone
    return {
        name: measure.score(*(known[need] for need in measure.needs)).tolist()
        for name, measure in MEASURES.items()
        if measure.accumulate is None and known.keys() >= set(measure.needs)
    }
