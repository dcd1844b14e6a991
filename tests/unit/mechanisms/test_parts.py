"""What each rival hands to its target and its means, as its own options say."""

from typing import Any

import pytest

from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms import (
    CFFL,
    CGSV,
    IAFL,
    RFFL,
    Composed,
    FedAVE,
    FedRAC,
    FedSAC,
    FineTuning,
    LGFedAvg,
    PaidInRounds,
    Rank,
    ShapFed,
    Standalone,
)
from aequa_lightning.mechanisms.payment import (
    LastLayers,
    Masking,
    Mixing,
    Neurons,
    OwnModel,
    Ranked,
    ServerModel,
    SubsetAveraging,
)
from aequa_lightning.mechanisms.targets import Everything, Relative, Surviving, Tanh


@pytest.mark.parametrize(
    ("mechanism", "measure", "parts"),
    [
        (CFFL(threshold=0.5), "standalone", (Surviving(0.5, after=0), Masking())),
        (CGSV(beta=2.0, length=0.3), "cosine", (Tanh(2.0), Masking(0.3))),
        (FedAVE(beta=2.0), "standalone", (Tanh(2.0, imbalance=True), Masking())),
        (FedRAC(), "standalone", (Relative(), Neurons(rolling=True))),
        (FedSAC(), "standalone", (Relative(), Neurons())),
        (FineTuning(epochs=3), "standalone", (Everything(), ServerModel(final_epochs=3))),
        (IAFL(kappa=0.5, reset=0.25), "standalone", (Relative(), SubsetAveraging(kappa=0.5, reset=0.25))),
        (LGFedAvg(layers=2), "standalone", (Everything(), LastLayers(2))),
        (RFFL(threshold=0.5, after=2, length=0.3), "cosine", (Surviving(0.5, 2), Masking(0.3))),
        (Rank(), "standalone", (Relative(), Ranked())),
        (ShapFed(), "class_cosine", (Relative(), Mixing())),
        (Standalone(), "standalone", (Everything(), OwnModel())),
        (Composed(), "standalone", (Relative(), ServerModel())),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, PaidInRounds) else "",
)
def test_a_mechanism_is_put_together_from_its_options(mechanism: PaidInRounds, measure: str, parts: Any) -> None:
    assert mechanism.contribution == measure
    assert mechanism.parts() == parts


def test_a_negative_power_and_a_length_of_zero_are_refused() -> None:
    with pytest.raises(InputError, match=r"target\.power=-1"):
        Relative(-1)
    with pytest.raises(InputError, match=r"mechanism\.length=0"):
        RFFL(length=0)
