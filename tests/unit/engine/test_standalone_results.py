from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric
from torch.utils.data import TensorDataset

from aequa_lightning.data import DigitsData, Dirichlet
from aequa_lightning.engine.local.cache_key import training_key
from aequa_lightning.engine.local.trainer import LocalTrainer
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.engine.standalone_results import StandaloneResult, StandaloneStore, standalone_store
from aequa_lightning.modules.classifier import SlimmableClassifier
from tests.helpers.run_config import small_config


def key(**changes: object) -> str:
    options = {
        "seed": 0,
        "backbone": "mlp",
        "widths": (1.0, 0.5),
        "rate": 0.1,
        "decay": 1.0,
        "work": LocalWork(3),
        "rounds": 2,
        "batch": 32,
    }
    options |= {"data": {}, "compiled": False, "precision": "32-true", "replicas": 1, "threads": 1} | changes
    torch.manual_seed(options["seed"])
    data = DigitsData(**{"participants": 3, "train_samples": 200, "batch_size": options["batch"], **options["data"]})
    hidden = {"hidden": (8,)} if options["backbone"] == "mlp" else {}
    model = SlimmableClassifier(
        10, data.input_shape, backbone=options["backbone"], backbone_options=hidden, widths=options["widths"]
    )
    model.configure_optimizers = lambda: torch.optim.SGD(model.parameters(), lr=options["rate"])
    fabric = Fabric(accelerator="cpu", devices=1, precision=options["precision"])
    local = LocalTrainer(
        fabric, model, batch_size=data.batch_size, seed=options["seed"], augmentation=data.augmentation
    )
    local.topology.replicas = options["replicas"]
    before = torch.get_num_threads()
    torch.set_num_threads(options["threads"])
    try:
        schedule = [[{"lr": options["rate"] * (options["decay"] ** number)}] for number in range(options["rounds"])]
        return training_key(local, data, work=options["work"], schedule=schedule, compiled=options["compiled"])
    finally:
        torch.set_num_threads(before)


def test_training_key_is_that_of_the_content() -> None:
    assert key() == key()
    assert key(widths=(1.0, 0.25)) == key()  # alone, everybody trains the full width


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"backbone": "cnn3"},
        {"rate": 0.2},
        {"decay": 0.5},
        {"work": LocalWork(4)},
        {"rounds": 3},
        {"compiled": True},
        {"batch": 16},
        {"data": {"partition_seed": 1}},
        {"data": {"partition": Dirichlet(alpha=1.0)}},
        {"data": {"augment": True}},
        {"data": {"label_noise": 0.5}},
        {"data": {"validation_share": 0.3}},
        {"data": {"test_samples": 50}},
        {"precision": "bf16-mixed"},
        {"replicas": 2},
        {"threads": 2},
    ],
)
def test_training_key_holds_everything_that_determines_the_result(change: dict[str, object]) -> None:
    assert key(**change) != key()


def test_training_key_holds_who_has_which_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    before, participant = key(), DigitsData.participant

    def cut_elsewhere(self: DigitsData, number: int) -> TensorDataset:
        sizes = [len(participant(self, index)) for index in range(self.participants)]
        start = sum(sizes[:number]) - (number > 0)
        end = sum(sizes[: number + 1]) - (number < self.participants - 1)
        return TensorDataset(*(tensor[start:end] for tensor in self.pooled().tensors))

    monkeypatch.setattr(DigitsData, "participant", cut_elsewhere)
    assert key() != before


def test_standalone_results_are_shared_by_runs_of_as_many_rounds(tmp_path: Path) -> None:
    data = DigitsData(participants=3, train_samples=200)
    model = SlimmableClassifier(10, data.input_shape, backbone="mlp", widths=(1.0,))
    local = LocalTrainer(Fabric(accelerator="cpu", devices=1), model, batch_size=32, seed=0)

    def folder(rounds: int, shared: Path | None) -> Path:
        config = small_config(tmp_path / "run", max_rounds=rounds, standalone_dir=shared)
        return standalone_store(config, local, data, [[{"lr": 0.1}]] * rounds).folder

    assert folder(1, tmp_path) == folder(1, tmp_path) != folder(2, tmp_path)
    assert folder(2, tmp_path).parent == tmp_path
    assert folder(1, None) == folder(2, None) == tmp_path / "run" / "standalone"


def test_standalone_results_that_are_damaged_are_missing(tmp_path: Path) -> None:
    records = StandaloneStore(tmp_path, ("a", "b", "c", "d"), key="k")
    results = [StandaloneResult(name, 9, 0.5, 0.25, 0.5, 0.1, seconds=1.0) for name in "abc"]
    for result in results:
        records.save(result)
    assert records.missing() == [3]
    assert records.load(0) == results[0]
    (tmp_path / "a.json").write_text((tmp_path / "a.json").read_text().replace("0.5", "0.7"))
    (tmp_path / "b.json").write_text("[]")
    assert records.missing() == [0, 1, 3]


def test_standalone_results_of_other_work_are_missing(tmp_path: Path) -> None:
    StandaloneStore(tmp_path, ("a",), key="two rounds").save(StandaloneResult("a", 9, 0.5, 0.25, 0.5, 0.1, seconds=1.0))
    assert StandaloneStore(tmp_path, ("a",), key="two rounds").missing() == []
    assert StandaloneStore(tmp_path, ("a",), key="four rounds").missing() == [0]


def test_standalone_results_of_a_finished_run_count_whatever_the_model_starts_from(tmp_path: Path) -> None:
    result = StandaloneResult("a", 9, 0.5, 0.25, 0.5, 0.1, seconds=1.0)
    StandaloneStore(tmp_path / "worknow", ("a",), key="worknow").save(result)
    for key, found in {"worknew": True, "restnow": False}.items():
        store = StandaloneStore(tmp_path / "worknow", ("a",), key=f"{key}!")
        assert store.missing() == [0]
        store.accept_any_start()
        assert (store.missing() == []) == found
    # Of a shared folder, the folder of that work is found.
    store = StandaloneStore(tmp_path / "worknew!", ("a",), key="worknew!")
    store.accept_any_start()
    assert store.all == [result]
