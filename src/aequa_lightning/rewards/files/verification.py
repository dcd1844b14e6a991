"""Proof, before anything is built, that a configuration is the one that a run's manifest vouches for."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aequa_lightning.errors import InputError
from aequa_lightning.rewards.files.configuration import describe_configuration
from aequa_lightning.rewards.files.manifest import NAME, read_manifest, verify_reward

# Prefixes of classes that run no code of others.
OWN = ("aequa_lightning.", "torch.optim.")


def verify_run(run_dir: Path, *, public_key: Path | None = None) -> None:
    """Prove that the configuration of a run folder is the one that its manifest vouches for, before it is built.

    Without a key a manifest need not be there.

    Args:
        run_dir: The run folder.
        public_key: PEM file of the Ed25519 key that must have signed the manifest; None: any may have.

    Raises:
        InputError: The configuration was changed, or the manifest is not what was signed.
    """
    rewards = run_dir / "rewards"
    if public_key is None and not (rewards / NAME).is_file():
        return
    manifest = read_manifest(rewards, public_key=public_key)
    _compare(run_dir / "config.yaml", manifest, rewards / NAME, signed=public_key is not None)


def verify_words(words: Sequence[str]) -> None:
    """Verify what ``aequa test --public_key`` and its like are given, before the configuration is built.

    The reward file must be one of the signed manifest beside it. A configuration that lies with the reward, or in the
    folder of its run, must be the signed one; one from elsewhere is the reader's own.

    Args:
        words: The verb and its options.

    Raises:
        InputError: The reward, its manifest or the configuration is not what was signed.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--public_key", default=_variable(words, "PUBLIC_KEY"))
    parser.add_argument("--ckpt_path", default=_variable(words, "CKPT_PATH"))
    parser.add_argument("--config", "-c", action="append", default=[])
    given, _ = parser.parse_known_args(words[1:])
    if given.public_key is None:
        return
    key = Path(given.public_key)
    if given.ckpt_path == "last":
        raise InputError("public_key verifies rewards, but ckpt_path='last' is none; leave the key out.")
    reward = None if given.ckpt_path is None else Path(given.ckpt_path)
    if reward is not None and reward.is_file():  # a missing one is told of where it is read
        verify_reward(reward, public_key=key)
    for config in map(Path, [*given.config, *filter(None, [_variable(words, "CONFIG")])]):
        beside = config.resolve().parent
        folder = beside / "rewards" if reward is None else reward.resolve().parent
        if folder in (beside, beside / "rewards") and config.is_file() and (folder / NAME).is_file():
            _compare(config, read_manifest(folder, public_key=key), folder / NAME, signed=True)


def _variable(words: Sequence[str], option: str) -> str | None:
    return os.environ.get(f"AEQUA_{words[0].upper()}__{option}") if words else None


def _compare(config: Path, manifest: dict[str, Any], path: Path, *, signed: bool) -> None:
    """Compare a configuration with what a manifest says of it.

    A run's owner may change it, such as the number of processes, but an unsigned manifest vouches for no new code.
    """
    vouched = manifest.get("configuration") or {}
    if not signed and not isinstance(vouched.get("code"), list):
        return
    found = describe_configuration(config)
    if signed and found != vouched:
        raise InputError(
            f"{config} is not the configuration that was signed with {path}, and building it could run foreign code; "
            "bring the original back."
        )
    foreign = [name for name in found["code"] if name not in vouched["code"] and not name.startswith(OWN)]
    if foreign:
        raise InputError(
            f"{config} names {foreign[0]!r:.80}, which it did not when {path} was written; bring the original back, or "
            "let `aequa fit --ckpt_path last` write both again."
        )
