"""``rewards/manifest.json``: what the reward files are, by hash, signed if there is a key."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aequa_lightning.damage import reading
from aequa_lightning.errors import InputError
from aequa_lightning.files import sha256, write_json
from aequa_lightning.rewards.signing import load_private_key, sign_file, signature_of, verify_file

NAME = "manifest.json"

REMEDY = "`aequa allocate` or `aequa fit --ckpt_path last` writes it again"

# What a reader cannot do without in the row of a reward.
ROW = ("file", "participant", "width", "sha256")


def write_manifest(
    folder: Path,
    rows: Sequence[dict[str, Any]],
    downloads: Mapping[str, str],
    *,
    number: int,
    signing_key: Path | None = None,
) -> None:
    """Write the manifest, and its signature if there is a key.

    Args:
        folder: The ``rewards`` folder.
        rows: One for each participant.
        downloads: SHA-256 of every recorded download of the rounds, by file.
        number: The round after which was paid.
        signing_key: PEM file of an Ed25519 key; None: the manifest is not signed.

    Raises:
        InputError: The key cannot be used; nothing was written.
    """
    key = None if signing_key is None else load_private_key(signing_key)
    # A signature of another content must not outlive it.
    signature_of(folder / NAME).unlink(missing_ok=True)
    write_json(folder / NAME, {"round": number, "rewards": list(rows), "downloads": dict(downloads)})
    if key is not None:
        sign_file(folder / NAME, key)


def remove_manifest(folder: Path) -> None:
    """Remove the manifest and its signature: without them a payout is unfinished.

    Args:
        folder: The ``rewards`` folder; it may be missing.
    """
    for path in (folder / NAME, signature_of(folder / NAME)):
        path.unlink(missing_ok=True)


def read_manifest(folder: Path, *, public_key: Path | None = None) -> dict[str, Any]:
    """Return the content of a manifest, verified if there is a key.

    Args:
        folder: The ``rewards`` folder.
        public_key: PEM file of the Ed25519 key that must have signed; None: the signature is not looked at.

    Raises:
        InputError: The manifest is missing or damaged, or is not what the owner of the key signed.
    """
    path = folder / NAME
    if not path.is_file():
        raise InputError(f"{folder} holds no {NAME}, so its payout is unfinished; {REMEDY}.")
    if public_key is not None:
        verify_file(path, public_key)
    with reading(path, REMEDY):
        content: dict[str, Any] = json.loads(path.read_bytes())
        missing = [key for key in ("round", "rewards", "downloads") if key not in content]
        missing += [key for row in content.get("rewards", ()) for key in ROW if key not in row]
        if missing:
            raise KeyError(missing[0])
    return content


def verify_reward(path: Path, *, public_key: Path | None = None) -> None:
    """Compare a reward file with the manifest beside it.

    Without a key the manifest need not be there, but where the file lies in the folder of its run.

    Args:
        path: The reward file.
        public_key: PEM file of the Ed25519 key that must have signed the manifest.

    Raises:
        InputError: The file is not the one that the manifest describes, or the manifest is not what was signed, or the
            run has not written it yet.
    """
    in_its_run = (path.absolute().parent.parent / "events.jsonl").is_file()
    if public_key is None and not in_its_run and not path.with_name(NAME).is_file():
        return
    digests = {row["file"]: row["sha256"] for row in read_manifest(path.parent, public_key=public_key)["rewards"]}
    if path.name not in digests and public_key is not None:
        raise InputError(f"ckpt_path={str(path)!r} is none of the files that {path.with_name(NAME)} describes.")
    if digests.get(path.name, sha256(path)) != sha256(path):
        raise InputError(
            f"ckpt_path={str(path)!r} is not the file that {path.with_name(NAME)} describes: its SHA-256 differs."
        )
