"""What the command line takes: seeds, options of Lightning's Trainer, environment variables."""

import inspect

import pytest
from lightning import Trainer

from aequa_lightning.cli.lightning_cli import AequaCLI, whole_number
from aequa_lightning.cli.lightning_options import INSTEAD
from aequa_lightning.errors import InputError
from aequa_lightning.trainer.trainer import CollaborativeTrainer
from tests.helpers.command import DIGITS


def test_only_seeds_that_can_be_repeated_are_taken() -> None:
    assert [whole_number(seed) for seed in (0, 2**32 - 1)] == [0, 2**32 - 1]
    for seed in (-1, 2**32):
        with pytest.raises(InputError, match=rf"seed_everything={seed} is outside \[0, 2\*\*32\)"):
            whole_number(seed)


def test_every_option_of_lightning_s_trainer_exists_or_has_a_sentence() -> None:
    theirs = set(inspect.signature(Trainer.__init__).parameters) - {"self"}
    ours = set(inspect.signature(CollaborativeTrainer.__init__).parameters)
    assert theirs - ours == set(INSTEAD)


def test_the_variables_of_options_are_known() -> None:
    cli = AequaCLI(["fit", "--config", str(DIGITS)], execute=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AEQUA_FIT__TRAINER_MAX_ROUNDS", "3")
        with pytest.raises(InputError, match=r"did you mean AEQUA_FIT__TRAINER__MAX_ROUNDS\?"):
            AequaCLI(["fit", "--config", str(DIGITS)], execute=False)
        patch.delenv("AEQUA_FIT__TRAINER_MAX_ROUNDS")
        patch.setenv("AEQUA_FIT__TRAINER__MECHANISM__SLOPE", "1")
        with pytest.raises(InputError, match="AEQUA_FIT__TRAINER__MECHANISM__SLOPE fills no option"):
            AequaCLI(["fit", "--config", str(DIGITS)], execute=False)
    assert cli.trainer.config.max_rounds > 0
