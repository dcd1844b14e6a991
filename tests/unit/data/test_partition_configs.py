from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import LightningArgumentParser

import aequa_lightning.data
from aequa_lightning.data import Dirichlet, Homogeneous, LabelSkew, Partition, QuantityImbalance

FOLDER = Path(__file__).parents[3] / "configs" / "partitions"
EXPECTED = {
    "homogeneous": Homogeneous(),
    "dirichlet-0.1": Dirichlet(0.1),
    "dirichlet-0.5": Dirichlet(0.5),
    "dirichlet-1": Dirichlet(1.0),
    "dirichlet-2": Dirichlet(2.0),
    "dirichlet-5": Dirichlet(5.0),
    "imbalance-0.15-6": QuantityImbalance(0.15, 6),
    "imbalance-0.4-2": QuantityImbalance(0.4, 2),
    "label-skew-3": LabelSkew(3),
    "label-skew-30": LabelSkew(30),
}


@pytest.fixture
def parse():
    parser = LightningArgumentParser()
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    return lambda *words: parser.instantiate(parser.parse_args(list(words))).data


def test_partition_every_file_is_expected():
    assert {path.stem for path in FOLDER.iterdir()} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_partition_file_names_the_partition(parse, name):
    data = parse("--data", "DigitsData", "--data.partition", str(FOLDER / f"{name}.yaml"))
    assert data.partition == EXPECTED[name]


@pytest.mark.parametrize("name", sorted(set(EXPECTED) - {"label-skew-30"}))
def test_partition_papers_nine_partitions_fit_ten_participants_on_digits(parse, name):
    data = parse("--data", "DigitsData", "--data.partition", str(FOLDER / f"{name}.yaml"))
    counts = data.class_counts()
    assert counts.sum() == len(data.pooled())
    assert counts.sum(axis=1).min() >= data.min_samples


def test_partition_by_name(parse):
    data = parse("--data=DigitsData", "--data.partition=QuantityImbalance", "--data.partition.share=0.3",
                 "--data.partition.owners=2", "--data.participants=4", "--data.label_noise=[0, 0, 0, 0.5]")  # fmt: skip
    assert data.partition == QuantityImbalance(0.3, 2)
    assert data.label_noise == [0, 0, 0, 0.5]


def test_partition_options_of_the_base_reach_every_data_set(parse, tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x_train=np.zeros((40, 3)), y_train=np.arange(40) % 2, x_test=np.zeros((4, 3)), y_test=[0, 1, 0, 1])
    data = parse("--data=NpzData", f"--data.path={path}", "--data.participants=3", "--data.validation_share=0.5")
    assert (data.participants, data.validation_share, data.input_shape) == (3, 0.5, (3,))


def test_partitions_are_exported():
    exported = {value for value in vars(aequa_lightning.data).values() if isinstance(value, type)}
    assert {cls for cls in Partition.__subclasses__() if cls.__module__.startswith("aequa_lightning")} <= exported
