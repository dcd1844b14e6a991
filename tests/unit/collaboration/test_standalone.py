from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric

from aequa_lightning.collaboration.local import LocalTrainer
from aequa_lightning.collaboration.local_work import LocalWork
from aequa_lightning.collaboration.standalone import Standalone, StandaloneRecords, standalone_key
from aequa_lightning.data import DigitsData, Dirichlet
from aequa_lightning.training import SlimmableClassifier


def key(**changes: object) -> str:
    options = {"seed": 0, "backbone": "mlp", "widths": (1.0, 0.5), "rate": 0.1, "work": LocalWork(3), "batch": 32}
    options |= {"data": {}, "compiled": False} | changes
    torch.manual_seed(options["seed"])
    data = DigitsData(**{"participants": 3, "train_samples": 200, "batch_size": options["batch"], **options["data"]})
    hidden = {"hidden": (8,)} if options["backbone"] == "mlp" else {}
    model = SlimmableClassifier(
        10, data.input_shape, backbone=options["backbone"], backbone_options=hidden, widths=options["widths"]
    )
    model.configure_optimizers = lambda: torch.optim.SGD(model.parameters(), lr=options["rate"])
    fabric = Fabric(accelerator="cpu", devices=1)
    local = LocalTrainer(
        fabric, model, batch_size=data.batch_size, seed=options["seed"], augmentation=data.augmentation
    )
    return standalone_key(local, data, work=options["work"], compiled=options["compiled"])


def test_the_key_is_that_of_the_content() -> None:
    assert key() == key()
    assert key(widths=(1.0, 0.25)) == key()  # alone, everybody trains the full width


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"backbone": "cnn3"},
        {"rate": 0.2},
        {"work": LocalWork(4)},
        {"compiled": True},
        {"batch": 16},
        {"data": {"partition_seed": 1}},
        {"data": {"partition": Dirichlet(alpha=1.0)}},
        {"data": {"augment": True}},
        {"data": {"label_noise": 0.5}},
        {"data": {"validation_share": 0.3}},
    ],
)
def test_whatever_decides_the_result_is_in_the_key(change: dict[str, object]) -> None:
    assert key(**change) != key()


def test_a_record_that_is_damaged_is_missing(tmp_path: Path) -> None:
    records = StandaloneRecords(tmp_path, ("a", "b", "c", "d"))
    results = [Standalone(name, 9, 0.5, 0.25, seconds=1.0) for name in "abc"]
    for result in results:
        records.save(result)
    assert records.missing() == [3]
    assert records.load(0) == results[0]
    (tmp_path / "a.json").write_text((tmp_path / "a.json").read_text().replace("0.5", "0.7"))
    (tmp_path / "b.json").write_text("[]")
    assert records.missing() == [0, 1, 3]
