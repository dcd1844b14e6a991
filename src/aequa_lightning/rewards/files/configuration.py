"""What a manifest says of ``config.yaml``, which names classes and functions whose code is run when it is built."""

import hashlib
import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from aequa_lightning.errors import InputError

# Bytes of JSON; aliases can make a few lines of YAML many times as long.
LONGEST = 10_000_000
# An import path: package.module.Class, or package.module:function.
IMPORT_PATH = re.compile(r"[^\W\d]\w*(?:[.:][^\W\d]\w*)+")


def describe_configuration(path: Path) -> dict[str, Any]:
    r"""Return the digest of what a configuration says, and which code it names.

    Neither depends on ``trainer.run_dir``: a run folder may be moved.

    Args:
        path: A YAML file.

    Returns:
        ``sha256``, and ``code``: the import paths in it, sorted.

    Raises:
        InputError: The file cannot be read.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     one, other = Path(folder) / "one.yaml", Path(folder) / "other.yaml"
        ...     _ = one.write_text("trainer: {run_dir: a, mechanism: aequa_lightning.mechanisms.Aequa}")
        ...     _ = other.write_text("trainer:\n  mechanism: aequa_lightning.mechanisms.Aequa")
        ...     describe_configuration(one) == describe_configuration(other), describe_configuration(one)["code"]
        (True, ['aequa_lightning.mechanisms.Aequa'])
    """
    digest, length = hashlib.sha256(), 0
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise TypeError("it holds no keys")
        if isinstance(content.get("trainer"), dict):
            content["trainer"].pop("run_dir", None)
        for part in json.JSONEncoder(sort_keys=True, default=str).iterencode(content):
            digest.update(part.encode())
            length += len(part)
            if length > LONGEST:
                raise ValueError("it is too long")
        return {"sha256": digest.hexdigest(), "code": sorted(set(_import_paths(content)))}
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{path} cannot be read ({first}); give the config.yaml of the run.") from error


def _import_paths(value: Any) -> Iterator[str]:
    """Yield the strings that name something in a package that is there; it is looked for, but not imported."""
    if isinstance(value, dict):
        for part in value.values():
            yield from _import_paths(part)
    elif isinstance(value, list):
        for part in value:
            yield from _import_paths(part)
    elif isinstance(value, str) and IMPORT_PATH.fullmatch(value) and _is_package(re.split("[.:]", value)[0]):
        yield value


def _is_package(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # a module that is there, but was not imported as others are
        return True
