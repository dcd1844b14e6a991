"""What a small run is asked to do, for tests that build the engine themselves."""

from pathlib import Path
from typing import Any

from aequa_lightning.engine.config import RunConfig
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.engine.server.aggregators import FedAvg
from aequa_lightning.mechanisms import Aequa


def small_config(run_dir: Path, **options: Any) -> RunConfig:
    """One round of one epoch by all participants, averaged by samples; options replace that."""
    defaults: dict[str, Any] = {"max_rounds": 1, "work": LocalWork(), "participants_per_round": None}
    defaults |= {"aggregator": FedAvg(), "checkpoint_every": 1, "seed": 0, "run_dir": run_dir, "mechanism": Aequa()}
    return RunConfig(**defaults | options)
