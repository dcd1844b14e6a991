import numpy as np
import pytest

from aequa_lightning.data.partition import Dirichlet, Homogeneous, LabelSkew, QuantityImbalance
from aequa_lightning.data.splits import dirichlet, homogeneous, label_skew, quantity_imbalance
from aequa_lightning.errors import InputError

# Uneven classes in scrambled order: 103, 80, 57 and 40 samples.
LABELS = np.random.default_rng(7).permutation(np.repeat([0, 1, 2, 3], [103, 80, 57, 40]))


def test_partition_classes_draw_the_same_partition_as_the_functions():
    for partition, parts in [
        (Homogeneous(), homogeneous(LABELS, 5, 2)),
        (Dirichlet(2.0), dirichlet(LABELS, 5, 2, alpha=2.0)),
        (QuantityImbalance(0.3, 2), quantity_imbalance(LABELS, 5, 2, share=0.3, owners=2)),
        (LabelSkew(2), label_skew(LABELS, 5, 2, classes=2)),
    ]:
        assert all(np.array_equal(a, b) for a, b in zip(partition.split(LABELS, 5, 2), parts, strict=True))


@pytest.mark.parametrize(
    ("construct", "message"),
    [
        (lambda: Dirichlet(0.0), r"partition.alpha is 0.0"),
        (lambda: Dirichlet(float("nan")), r"partition.alpha is nan"),
        (lambda: QuantityImbalance(0.5, 2), r"leaves nothing for the others"),
        (lambda: QuantityImbalance(1.2, 1), r"partition.share 1.2"),
        (lambda: QuantityImbalance(0.1, 0), r"owners be at least 1"),
        (lambda: LabelSkew(0), r"partition.classes is 0"),
    ],
)
def test_partition_settings_out_of_range(construct, message):
    with pytest.raises(InputError, match=message):
        construct()


@pytest.mark.parametrize(
    ("partition", "participants", "message"),
    [
        (Homogeneous(), 0, r"data.participants is 0"),
        (Homogeneous(), 60, r"participant \d+ of 60 would hold 4 of 280 samples.*\(5\); use fewer participants"),
        (QuantityImbalance(0.1, 4), 4, r"partition.owners is 4 of 4 participants"),
        (QuantityImbalance(0.45, 2), 12, r"participant \d+ of 12 would hold \d of 280.*smaller partition.share"),
        (LabelSkew(5), 5, r"the data hold 4 classes"),
        (LabelSkew(1), 3, r"cannot hold all 4 classes; raise partition.classes to 2"),
        (LabelSkew(1), 100, r"would hold \d of 280.*larger partition.classes"),
    ],
)
def test_partitions_that_do_not_fit(partition, participants, message):
    with pytest.raises(InputError, match=message):
        partition.split(LABELS, participants, 0, min_samples=5)


def test_partition_describe_names_rule_and_settings():
    assert QuantityImbalance(0.15, 6).describe() == {"name": "QuantityImbalance", "share": 0.15, "owners": 6}


def test_partition_dirichlet_gives_up_with_advice():
    with pytest.raises(InputError, match=r"would hold \d+ of 280 samples, fewer than data.min_samples \(56\).*alpha"):
        Dirichlet(0.1).split(LABELS, 5, 0, min_samples=56)
