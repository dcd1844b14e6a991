"""Configuration of a run, apart from model and data."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from aequa_lightning.adversaries import Adversary
from aequa_lightning.engine.local.corrections import LocalCorrection, NoCorrection, Scaffold
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.engine.participation import Participation
from aequa_lightning.engine.server.aggregators import Aggregator
from aequa_lightning.engine.server.privacy import Privacy
from aequa_lightning.mechanisms import Mechanism


@dataclass(frozen=True)
class RunConfig:
    """Configuration of a run, apart from model and data.

    Options of :class:`~aequa_lightning.trainer.trainer.CollaborativeTrainer` have the same names here and are described
    there; options that are null there have their default value here.

    Attributes:
        work: A participant's work in one round: ``local_epochs`` or ``local_steps``.
        mechanism: Determines rewards, and whether participants train models of their own.
        configuration: Content of ``config.yaml``; None: no such file is written.
        unwritten: Why not, where a run from Python was given what no file can name.
    """

    max_rounds: int
    work: LocalWork
    participants_per_round: int | None
    aggregator: Aggregator
    checkpoint_every: int
    seed: int
    run_dir: Path
    mechanism: Mechanism
    participation: Participation = field(default_factory=Participation)
    adversaries: Sequence[Adversary] = ()
    correction: LocalCorrection = field(default_factory=NoCorrection)
    privacy: Privacy | None = None
    participant_state: Literal["reset", "keep"] = "reset"
    keep_checkpoints: int = 2
    compile: bool = False
    stacking: Literal["auto", "off"] | int = "off"
    standalone: bool = True
    standalone_dir: Path | None = None
    configuration: str | None = None
    unwritten: str | None = None

    @property
    def privacy_per_round(self) -> dict[str, float | None] | None:
        """The options that determine the epsilon of a round; None: the run is not private."""
        if self.privacy is None:
            return None
        return {
            "noise_multiplier": self.privacy.noise_multiplier,
            "participants_per_round": self.participants_per_round,
        }

    @property
    def settings(self) -> str:
        """Text of all options that influence updates and aggregation, besides model, data and local work."""
        adversaries = tuple(self.adversaries)
        parts = (
            self.aggregator,
            self.correction,
            self.participation,
            adversaries,
            self.participant_state,
            self.privacy,
        )
        return f"{parts} {self.participants_per_round} {self.mechanism!r}"

    @property
    def requires_all_updates(self) -> bool:
        """Whether every update must be averaged: noise and control variates assume that none is excluded."""
        return self.privacy is not None or isinstance(self.correction, Scaffold)

    @property
    def keeps_participant_state(self) -> bool:
        """Whether participants keep state between rounds."""
        return self.participant_state == "keep" or self.correction.keeps_state
