"""Whole runs on a GPU that is not there: nothing mixes devices, also after a resume."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric

from aequa_lightning.callbacks import Rewards
from aequa_lightning.callbacks.assessment.measures import Assessment
from aequa_lightning.data import DigitsData
from aequa_lightning.engine.checkpoint import load_last
from aequa_lightning.engine.config import RunConfig
from aequa_lightning.engine.local.corrections import Scaffold
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.engine.loop import Collaboration
from aequa_lightning.engine.server.aggregators import FedAdam
from aequa_lightning.engine.stacking.schedule import Job
from aequa_lightning.engine.stacking.trainer import StackedTrainer
from aequa_lightning.mechanisms import CGSV, AequaTraining, Mechanism
from aequa_lightning.modules.classifier import SlimmableClassifier
from tests.helpers.pretended_gpu import GPU, PretendedGPU
from tests.helpers.run_config import small_config

MEASURES = Assessment(measures=("cosine", "class_cosine", "alignment", "loo", "cffl"), utility="accuracy")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> PretendedGPU:
    return PretendedGPU(monkeypatch)


def _config(folder: Path, **options: Any) -> RunConfig:
    return small_config(folder, **{"work": LocalWork(steps=2), "aggregator": FedAdam(), "standalone": False} | options)


def _run(config: RunConfig) -> Collaboration:
    data = DigitsData(participants=3, train_samples=120, test_samples=30, augment=True)
    torch.manual_seed(0)
    model = SlimmableClassifier(
        10,
        data.input_shape,
        backbone="mlp",
        backbone_options={"hidden": [8]},
        widths=(1.0, 0.5),
        distillation=0.5,
        num_random_widths=1,
    )
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric._strategy._root_device = GPU  # type: ignore[attr-defined]
    callbacks = [Rewards(config.mechanism, MEASURES, export_programs=False)]
    return Collaboration(fabric, model, data, config=config, callbacks=callbacks)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mechanism", "options"),
    [
        (AequaTraining(contribution="cosine", resolution=1.0), {"correction": Scaffold(), "participant_state": "keep"}),
        (CGSV(), {"stacking": 2}),
    ],
    ids=["widths", "models"],
)
def test_a_run_and_its_resume_mix_no_devices(
    gpu: PretendedGPU, tmp_path: Path, mechanism: Mechanism, options: dict[str, Any]
) -> None:
    config = _config(tmp_path, mechanism=mechanism, **options)
    with gpu:
        first = _run(config)
        assert first.fit()
        assert gpu.holds(first.run.parameters)
        resumed = _run(replace(config, max_rounds=2))
        state = load_last(tmp_path / "checkpoints")
        assert state is not None
        resumed.load_state_dict(state)
        assert resumed.fit()


def test_no_step_waits_for_the_gpu(gpu: PretendedGPU, tmp_path: Path) -> None:
    with gpu:
        run = _run(_config(tmp_path, mechanism=CGSV())).run

        def alone(work: LocalWork) -> None:
            run.local.train(run.parameters, run.participant(0), work=work, keys=("trial",), grid=(1.0, 0.5))

        def stacked(work: LocalWork) -> None:
            jobs = [Job(*run.participant(index), work, keys=("trial", index)) for index in (0, 1)]
            StackedTrainer(run.local).train(run.parameters.expand(2, -1), jobs, grid=(1.0, 0.75, 0.625, 0.5))

        for train in (alone, stacked):
            waits = []
            for steps in (1, 1, 4):
                before = gpu.waits
                train(LocalWork(steps=steps))
                waits.append(gpu.waits - before)
            assert waits[1] == waits[2]
