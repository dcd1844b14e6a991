"""Proof from the record of a federation's messages that nobody was sent more than it held or earned."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aequa_lightning.rewards.files.downloads import file_of
from aequa_lightning.rewards.files.held import widths_received
from aequa_lightning.slimmable import SlimmableModel

RECORD = "messages.jsonl"
# Sent with every reward.
MANIFEST = ("manifest.json", "manifest.sig")


def message_faults(
    run_dir: Path,
    events: Sequence[Mapping[str, Any]],
    *,
    downloads: Mapping[str, str],
    rewards: Mapping[str, str],
    network: SlimmableModel,
) -> Iterator[str]:
    """Yield which recorded messages hold something else than the participant's width, or than its reward.

    Args:
        run_dir: The run folder.
        events: The events of the rounds.
        downloads: SHA-256 of what each participant is to receive in each round, by file, as the manifest names them.
        rewards: SHA-256 of the reward files, by name.
        network: The shared model.
    """
    path = run_dir / RECORD
    if not path.is_file():
        return
    widths = {(event["round"], name): width for event in events for name, width in widths_received(event).items()}
    unsaid = {(event["round"], row["name"]) for event in events for row in event["participants"]}
    frozen = any(not parameter.requires_grad for parameter in network.full.parameters())
    trainable = [name for name, parameter in network.full.named_parameters() if parameter.requires_grad]
    for place, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            kind, participant, number = row["kind"], row["participant"], row["round"]
            held = row.get("entries", 0)
        except (ValueError, KeyError, TypeError):
            yield f"{RECORD} line {place} is damaged"
            continue
        named = f"{RECORD} line {place}: {kind} to {participant}"
        for file, digest in row.get("files", {}).items():
            owner = Path(file).stem
            own = file in MANIFEST if owner == "manifest" else owner == participant and rewards.get(file) == digest
            if not own:
                yield f"{named} holds {file}, which is not its reward"
        unsaid -= {(number, participant)} if kind == "train.round" else set()
        width = widths.get((number, participant)) if kind == "train.round" else None
        if width is None:
            # A round that was begun and not finished is repeated; the message must fit the width that it names.
            width = row["width"] if kind == "train.round" else None
        shapes = {} if width is None else network.plan(width).shapes
        entries = sum(math.prod(shapes[name]) for name in trainable) if shapes else 0
        if held != entries:
            yield f"{named} in round {number} holds {held} entries, its width has {entries}"
        expected = downloads.get(file_of(number, participant))
        if kind == "train.round" and not frozen and expected is not None and row["sha256"] != expected:
            yield f"{named} in round {number} holds other values than the server recorded for it"
    yield from (f"{RECORD} names no message to {name} in round {number}" for number, name in sorted(unsaid))
