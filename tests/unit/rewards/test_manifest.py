"""The manifest of a payout: what its readers refuse, and in which words."""

from pathlib import Path

import pytest

from aequa_lightning.errors import InputError
from aequa_lightning.rewards.manifest import read_manifest, verify_reward


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("17", "cannot be read"),
        ("\0\0\0", "cannot be read"),
        ("{}", "lacks 'round'"),
        ('{"round": 1, "rewards": []}', "lacks 'downloads'"),
        ('{"round": 1, "rewards": [{"file": "a.ckpt", "participant": "a"}], "downloads": {}}', "lacks 'width'"),
    ],
)
def test_a_damaged_manifest_is_named_with_the_remedy(text: str, fault: str) -> None:
    Path("rewards").mkdir()
    Path("rewards/a.ckpt").touch()
    Path("rewards/manifest.json").write_text(text)
    with pytest.raises(InputError, match=rf"^rewards/manifest\.json {fault}.*; `aequa allocate` or .* again\.$"):
        read_manifest(Path("rewards"))
    with pytest.raises(InputError, match=fault):
        verify_reward(Path("rewards/a.ckpt"))
