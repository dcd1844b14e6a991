"""``rewards/manifest.json``: what the reward files are, by hash, signed if there is a key."""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch

from aequa_lightning.errors import InputError
from aequa_lightning.rewards.files.checkpoint import check_width
from aequa_lightning.rewards.files.configuration import IMPORT_PATH, describe_configuration
from aequa_lightning.rewards.files.signing import load_private_key, sign_file, signature_of, verify_file
from aequa_lightning.run_folder.damaged_files import possibly_damaged, read_json
from aequa_lightning.run_folder.files import sha256, write_json

NAME = "manifest.json"

REMEDY = "`aequa allocate` or `aequa fit --ckpt_path last` writes it again"


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= 1


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_held(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict)
        and value.keys() == {"validation_accuracy", "round", "width"}
        and _is_share(value["validation_accuracy"])
        and _is_count(value["round"])
        and _is_share(value["width"])
    )


def _is_version(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9][0-9a-z.+]{0,40}", value) is not None


def _is_configuration(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"sha256", "code"}
        and _is_digest(value["sha256"])
        and isinstance(value["code"], list)
        and all(isinstance(name, str) and IMPORT_PATH.fullmatch(name) for name in value["code"])
    )


Kinds = Mapping[str, Callable[[Any], bool]]
# All that a manifest may hold; `width`, `layers` and the sums over rows are looked at one by one.
KINDS: Kinds = {
    "round": _is_count,
    "rewards": lambda value: isinstance(value, list),
    "downloads": lambda value: isinstance(value, dict) and all(map(_is_digest, value.values())),
    "configuration": lambda value: value is None or _is_configuration(value),
    "versions": lambda value: (
        isinstance(value, dict) and value.keys() == {"torch", "lightning"} and all(map(_is_version, value.values()))
    ),
}
ROW_KINDS: Kinds = {
    "file": _is_text,
    "participant": _is_text,
    "width": _is_share,
    "layers": lambda value: isinstance(value, dict),
    "validation_accuracy": _is_share,
    "test_accuracy": _is_share,
    "best_held": _is_held,
    "bytes": _is_count,
    "sha256": _is_digest,
    "program": _is_text,
    "program_sha256": _is_digest,
    "card": _is_text,
    "card_sha256": _is_digest,
}
OPTIONAL = ("layers", "program", "program_sha256", "card", "card_sha256")


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
    configuration = folder.parent / "config.yaml"
    content = {
        "round": number,
        "rewards": list(rows),
        "downloads": dict(downloads),
        # What the audit builds; without the command line there is none.
        "configuration": describe_configuration(configuration) if configuration.is_file() else None,
        "versions": {"torch": str(torch.__version__), "lightning": lightning.__version__},
    }
    write_json(folder / NAME, content)
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
    with possibly_damaged(path, REMEDY):
        content = read_json(path)
        if not isinstance(content, dict):
            raise TypeError("it holds no keys")
        for key in ("round", "rewards", "downloads", *(content.keys() & {"configuration", "versions"})):
            if not KINDS[key](content[key]):
                raise TypeError(f"its {key!r} is no such thing")
    return content


def manifest_faults(content: Mapping[str, Any], *, size: int) -> Iterator[str]:
    """Yield what is wrong with a manifest, but for its rows.

    Args:
        content: From :func:`read_manifest`.
        size: Bytes of the file.

    Example:
        >>> list(manifest_faults({"round": 1, "rewards": [], "downloads": {}, "note": "x"}, size=0))
        ["manifest.json lacks 'configuration'", "manifest.json lacks 'versions'", "manifest.json holds 'note'"]
    """
    yield from (f"{NAME} {fault}" for fault in _key_faults(content, KINDS, ()))
    names = [row.get("participant") for row in content["rewards"] if isinstance(row, dict)]
    for name in sorted({str(name) for name in names if names.count(name) > 1}):
        yield f"{NAME} names {name:.80} twice"
    if size > len(json.dumps(content, indent=2)) + 1:
        yield f"{NAME} is longer than what it says"


def row_faults(row: Any) -> list[str]:
    """Return what is wrong with the row of a reward in a manifest.

    Example:
        >>> row_faults(None)
        ['manifest.json holds a row without keys']
    """
    if not isinstance(row, dict):
        return [f"{NAME} holds a row without keys"]
    who = f"{NAME}, row of {row.get('participant')!r:.80}"
    faults = [f"{who}: {fault}" for fault in _key_faults(row, ROW_KINDS, OPTIONAL)]
    if not faults:
        try:
            check_width(row["width"], row.get("layers"))
        except TypeError as error:
            faults.append(f"{who}: {error}")
        for key, ending in (("file", "ckpt"), ("program", "pt2"), ("card", "md")):
            if key in row and row[key] != f"{row['participant']}.{ending}":
                faults.append(f"{who}: its {key} is {row[key]!r:.80}")
        for key in ("program", "card"):
            if (key in row) != (f"{key}_sha256" in row):
                faults.append(f"{who}: of {key} and {key}_sha256 one is missing")
    return faults


def _key_faults(content: Mapping[str, Any], kinds: Kinds, optional: Iterable[str]) -> Iterator[str]:
    yield from (f"lacks {key!r}" for key in kinds if key not in content and key not in optional)
    yield from (f"holds {key!r:.80}" for key in content if key not in kinds)
    yield from (f"{key!r} is {content[key]!r:.80}" for key in kinds if key in content and not kinds[key](content[key]))


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
    rows = read_manifest(path.parent, public_key=public_key)["rewards"]
    with possibly_damaged(path.with_name(NAME), REMEDY):
        digests = {row["file"]: row["sha256"] for row in rows}
    if path.name not in digests and public_key is not None:
        raise InputError(f"ckpt_path={str(path)!r} is none of the files that {path.with_name(NAME)} describes.")
    if digests.get(path.name, sha256(path)) != sha256(path):
        raise InputError(
            f"ckpt_path={str(path)!r} is not the file that {path.with_name(NAME)} describes: its SHA-256 differs."
        )
