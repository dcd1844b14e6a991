"""The sweeps that are shipped: their cells, their partitions, and every block of them parsed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser

from aequa_lightning.cli.lightning_cli import AequaCLI
from aequa_lightning.sweep.matrix import AXES, Cell, Matrix
from aequa_lightning.sweep.options import add_options, read_matrix
from tests.helpers.command import DIGITS

FOLDER = DIGITS.parent / "paper"
FILES = sorted(FOLDER.glob("*.yaml"))
PARTITIONS = DIGITS.parent / "partitions"


def read(path: Path) -> Matrix:
    parser = ArgumentParser(exit_on_error=False)
    add_options(parser)
    return read_matrix(parser.parse_args(["--config", str(path)]))


def one_cell_each(matrix: Matrix) -> Iterator[Cell]:
    """Yield the fewest cells in which every value of every axis and every adjustment occurs."""
    values = [matrix.values(axis) for axis in AXES]
    for place in range(max(map(len, values))):
        yield Cell(*(some[place % len(some)] for some in values))
    for rule in matrix.adjust:
        yield matrix.select({axis: value for axis, value in rule.items() if axis != "set"})[0]


@pytest.fixture(scope="module")
def cli() -> AequaCLI:
    return AequaCLI(["fit", "--config", str(DIGITS)], execute=False)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_block_of_a_sweep_is_a_configuration(path: Path, cli: AequaCLI) -> None:
    matrix = read(path)
    for cell in one_cell_each(matrix):
        parsed = cli.parser.parse_object({"subcommand": "fit", "fit": matrix.runnable(cell)})
        assert parsed.fit.trainer.seed == parsed.fit.data.init_args.partition_seed == cell.seed


@pytest.mark.parametrize(("name", "data_sets"), [("full", 6), ("small", 4)])
def test_the_papers_cells(name: str, data_sets: int) -> None:
    matrix = read(FOLDER / f"{name}.yaml")
    assert len({cell.setting for cell in matrix.cells()}) == data_sets * 9
    assert len(matrix.values("mechanism")) == 15
    assert matrix.values("seed") == [0, 1, 2]
    for cell in matrix.select({"mechanism": "aequa", "seed": 0}):
        wanted = "label-skew-30" if cell.data == "cifar100" and cell.partition == "label-skew-3" else cell.partition
        expected = yaml.safe_load((PARTITIONS / f"{wanted}.yaml").read_text())
        partition = matrix.configuration(cell)["data"]["init_args"]["partition"]
        assert partition["class_path"] == expected["class_path"].rpartition(".")[2]
        # SST-2 has two classes, of which a participant of label-skew-3 has one.
        two_classes = name == "small" and (cell.data, cell.partition) == ("sst", "label-skew-3")
        assert partition.get("init_args", {}) == ({"classes": 1} if two_classes else expected.get("init_args", {}))


def test_the_hyperparameters_of_the_full_size() -> None:
    matrix = read(FOLDER / "full.yaml")
    expected = {
        "mnist": (0.01, 50, "cnn"),
        "fashion-mnist": (0.01, 50, "cnn"),
        "svhn": (0.001, 50, "cnn"),
        "cifar10": (0.001, 100, "cnn"),
        "cifar100": (0.001, 100, "cnn"),
        "sst5": (0.001, 100, "text_cnn"),
    }
    for cell in matrix.select({"mechanism": "aequa", "seed": 0}):
        found = matrix.configuration(cell)
        data = found["data"]["init_args"]
        assert expected[cell.data] == (
            found["optimizer"]["init_args"]["lr"],
            found["trainer"]["max_rounds"],
            found["model"]["init_args"]["backbone"],
        )
        assert (data["participants"], data["batch_size"], found["trainer"]["local_epochs"]) == (10, 64, 1)
        assert found["lr_scheduler"]["init_args"] == {"gamma": 0.977}
