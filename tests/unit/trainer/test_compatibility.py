"""Parts and checkpoints that do not go together, each refused with its own words."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from aequa_lightning.callbacks.assessment.measures import Assessment
from aequa_lightning.engine.checkpoint import FORMAT
from aequa_lightning.engine.config import RunConfig
from aequa_lightning.engine.local.corrections import Scaffold
from aequa_lightning.engine.server.robust import Median
from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms import CGSV, AequaTraining, Mechanism, SharedModel, Slimming
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.run_folder.files import check_writable
from aequa_lightning.trainer.checkpoints import check_state, state_to_resume
from aequa_lightning.trainer.compatibility import check_components
from tests.helpers.run_config import small_config


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return small_config(tmp_path)


def test_a_measure_of_what_everybody_reaches_alone_needs_that_somebody_trains_alone(config: RunConfig) -> None:
    config, mechanism = replace(config, standalone=False), SharedModel(contribution="data_share")
    check_components(mechanism, config, Assessment())
    with pytest.raises(InputError, match=r"trainer\.assessment\.measures names 'standalone'; leave it out"):
        check_components(mechanism, config, Assessment(("standalone", "cosine")))


@pytest.mark.parametrize("mechanism", [AequaTraining(), Slimming()])
def test_parts_of_updates_are_not_compared_with_whole_ones(config: RunConfig, mechanism: Mechanism) -> None:
    robust = replace(config, aggregator=Median())
    check_components(SharedModel(), robust, Assessment())
    with pytest.raises(InputError, match=r"trainer\.aggregator=Median compares whole updates"):
        check_components(mechanism, robust, Assessment())


@pytest.mark.parametrize("mechanism", [AequaTraining(), Slimming(), CGSV()])
def test_gradients_of_different_models_are_not_corrected_by_each_other(config: RunConfig, mechanism: Mechanism) -> None:
    scaffold = replace(config, correction=Scaffold())
    check_components(SharedModel(), scaffold, Assessment())
    with pytest.raises(InputError, match="Scaffold compares gradients of one model"):
        check_components(mechanism, scaffold, Assessment())


def test_a_file_that_is_no_checkpoint_of_a_run_or_of_another_format_is_no_start() -> None:
    model = SlimmableClassifier(10, (1, 8, 8), backbone="mlp", widths=[1.0, 0.5])
    state = {
        "kind": "collaboration",
        "format": FORMAT,
        "samples": [1, 1],
        "state_dict": {name: value.detach() for name, value in model.named_parameters()},
    }
    check_state(model, 2, state)
    with pytest.raises(InputError, match="holds no state of a run"):
        check_state(model, 2, state | {"kind": "reward"})
    for other in (FORMAT - 1, FORMAT + 1):
        with pytest.raises(InputError, match=f"has format {other}, this version reads {FORMAT}"):
            check_state(model, 2, state | {"format": other})


def test_a_run_s_folder_takes_its_own_checkpoints_only(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "events.jsonl").touch()
    for checkpoint in (tmp_path / "other" / "round-0001.ckpt", tmp_path / "run-2" / "round-0001.ckpt"):
        with pytest.raises(InputError, match="already holds a run"):
            state_to_resume(tmp_path / "run", str(checkpoint))


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads and writes whatever it likes")
def test_a_umask_that_takes_files_away_from_their_owner_is_refused(tmp_path: Path) -> None:
    for mask in (0o777, 0o477, 0o277):
        before = os.umask(mask)
        try:
            with pytest.raises(InputError, match="cannot be written and read"):
                check_writable(tmp_path / f"{mask:o}")
        finally:
            os.umask(before)
