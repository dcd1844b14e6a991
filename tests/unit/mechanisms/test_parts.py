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
    Downloading,
    LastLayers,
    Masking,
    Mixing,
    Neurons,
    OwnAndMasked,
    OwnModel,
    Ranked,
    RollingSubmodels,
    ServerModel,
    SubsetAveraging,
)
from aequa_lightning.mechanisms.targets import Everything, Portion, Relative, Tanh


@pytest.mark.parametrize(
    ("mechanism", "measure", "parts"),
    [
        (CFFL(clip=0.5, aggregate="sum"), "cffl", (Relative(), Downloading(0.5, "sum"))),
        (CGSV(beta=2.0, length=0.3), "cosine", (Tanh(2.0), Masking(0.3, weighing="contributions", withholds_one=True))),
        (
            FedAVE(beta=3.0, length=0.3),
            "fedave",
            (Tanh(3.0, times_likeness=True), Masking(0.3, after=1, withholds_one=True)),
        ),
        (FedRAC(beta=9.0, steps=3), "standalone", (Relative(), RollingSubmodels(9.0, 3))),
        (FedSAC(), "standalone", (Relative(), Neurons())),
        (FineTuning(epochs=3), "standalone", (Everything(), ServerModel(final_epochs=3))),
        (IAFL(kappa=0.5, reset=0.25), "standalone", (Relative(), SubsetAveraging(kappa=0.5, reset=0.25))),
        (LGFedAvg(layers=2), "standalone", (Everything(), LastLayers(2))),
        (RFFL(length=0.3), "rffl", (Relative(), OwnAndMasked(0.3, withholds_one=True))),
        (Rank(), "local_accuracy", (Relative(), Ranked())),
        (ShapFed(), "class_cosine", (Portion(), Mixing())),
        (ShapFed(full_for_top=True), "class_cosine", (Relative(), Mixing())),
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
