"""Reading back what W&B wrote offline: the only place that knows the private layout of ``run-ID.wandb``.

The file is a LevelDB log (https://github.com/google/leveldb/blob/main/doc/log_format.md) behind a header of seven
bytes: blocks of 32 KiB hold chunks of a checksum, a length and a type, and a record is the join of its chunks.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # chosen at run time by protobuf version

BLOCK, FILE_HEADER, CHUNK_HEADER = 32 * 1024, 7, 7
FULL, FIRST, LAST = 1, 2, 4


@dataclass
class WandbRun:
    """One offline run.

    Attributes:
        folder: ``offline-run-...``.
        about: The run's record: ``run_id``, ``project``, ``run_group``, ``display_name`` ...
        config: Its configuration.
        history: One dictionary per call of ``log``, without W&B's own keys; what is nested is joined by slashes.
        summary: What its code has put into the summary.
        metrics: Axis (``step_metric``) of each defined metric or pattern.
        artifacts: Logged artifacts by name: type, aliases and the names of the files.
        exit_code: Of the run.
    """

    folder: Path
    about: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None

    def series(self, key: str) -> dict[int, Any]:
        """Return the values of one key by round."""
        return {row["round"]: row[key] for row in self.history if key in row}

    def table(self, key: str, number: int | None = None) -> tuple[list[str], list[list[Any]]]:
        """Return columns and rows of a table that was logged once, or once in the round of a number."""
        rows = [row for row in self.history if number is None or row.get("round") == number]
        (path,) = (row[f"{key}/path"] for row in rows if f"{key}/path" in row)
        content = json.loads((self.folder / "files" / path).read_text())
        return content["columns"], content["data"]


def read_runs(run_dir: Path) -> list[WandbRun]:
    """Read all offline runs in a run folder, oldest first."""
    return [_read(folder) for folder in sorted((run_dir / "wandb").glob("offline-run-*"))]


def _read(folder: Path) -> WandbRun:
    (path,) = folder.glob("run-*.wandb")
    run = WandbRun(folder)
    for content in _records(path.read_bytes()):
        record = Record.FromString(content)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.about = record.run
            run.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "config":
            run.config |= {_key(item): json.loads(item.value_json) for item in record.config.update}
        elif kind == "history":
            row = {_key(item): json.loads(item.value_json) for item in record.history.item}
            run.history.append({key: value for key, value in row.items() if not key.startswith("_")})
        elif kind == "summary":
            run.summary |= {_key(item): json.loads(item.value_json) for item in record.summary.update}
        elif kind == "metric":
            run.metrics[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind == "artifact":
            files = sorted(entry.path for entry in record.artifact.manifest.contents)
            about = {"type": record.artifact.type, "aliases": list(record.artifact.aliases), "files": files}
            run.artifacts[record.artifact.name] = about
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def _records(content: bytes) -> Iterator[bytes]:
    position, record = FILE_HEADER, b""
    while position + CHUNK_HEADER <= len(content):
        left = BLOCK - position % BLOCK
        if left < CHUNK_HEADER:  # the end of a block is padded
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        position += CHUNK_HEADER
        record = (b"" if kind in (FULL, FIRST) else record) + content[position : position + length]
        position += length
        if kind in (FULL, LAST):
            yield record
