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
class Plan:
    """What a run does, apart from model and data.

    Attributes:
        max_rounds: Number of rounds.
        work: A participant's work in one round.
        participants_per_round: How many take part in a round; None: all.
        aggregator: How updates become one.
        checkpoint_every: Rounds between checkpoints.
        seed: Decides everything random.
        run_dir: The run folder.
        mechanism: How participants are paid; the loop asks it what they train.
        participation: Who takes part in a round, and what may go wrong.
        adversaries: Who cheats, and how.
        correction: What is added to the participants' gradients.
        privacy: What the shared model may tell of a participant; None: anything.
        participant_state: Whether participants keep their optimizer's memory from round to round.
        keep_checkpoints: How many rounds' checkpoints stay.
        compile: Whether widths of the grid train compiled.
        stacking: Most participants of a stack, ``off``, or ``auto``.
        standalone: Whether every participant first trains alone.
        standalone_dir: Folder in which runs share what participants reach alone; None: they do not.
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
