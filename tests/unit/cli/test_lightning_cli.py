"""Seeds that are taken, and those that could not be recorded and repeated."""

import pytest

from aequa_lightning.cli.lightning_cli import whole_number
from aequa_lightning.errors import InputError


def test_only_seeds_that_can_be_repeated_are_taken() -> None:
    assert [whole_number(seed) for seed in (0, 2**32 - 1)] == [0, 2**32 - 1]
    for seed in (True, False):
        with pytest.raises(InputError, match=f"seed_everything={str(seed).lower()} cannot be repeated"):
            whole_number(seed)
    for seed in (-1, 2**32):
        with pytest.raises(InputError, match=rf"seed_everything={seed} is outside \[0, 2\*\*32\)"):
            whole_number(seed)
