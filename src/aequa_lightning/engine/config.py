"""What a run is asked to do."""

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
    """What a run is asked to do, apart from model and data.

    Options of :class:`~aequa_lightning.trainer.trainer.CollaborativeTrainer` have the same names here and are described
    there; what may be null there has its default here.

    Attributes:
        work: A participant's work in one round: ``local_epochs`` or ``local_steps``.
        mechanism: How participants are paid; the loop asks it what they train.
        configuration: Text that repeats the run, for ``config.yaml``; None: there is none.
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

    @property
    def spending(self) -> dict[str, float | None] | None:
        """What decides how much privacy a round spends; None: it spends all."""
        if self.privacy is None:
            return None
        return {
            "noise_multiplier": self.privacy.noise_multiplier,
            "participants_per_round": self.participants_per_round,
        }

    @property
    def settings(self) -> str:
        """What decides the course of the rounds besides model, data and local work."""
        cheating = tuple(self.adversaries)
        parts = (self.aggregator, self.correction, self.participation, cheating, self.participant_state, self.privacy)
        return f"{parts} {self.participants_per_round} {self.mechanism!r}"

    @property
    def averages_all(self) -> bool:
        """Whether nobody may be left out of the average: else noise or corrections would not fit it."""
        return self.privacy is not None or isinstance(self.correction, Scaffold)

    @property
    def participants_remember(self) -> bool:
        """Whether participants keep anything at all between their rounds."""
        return self.participant_state == "keep" or self.correction.remembers
