"""Reading files that may be missing or damaged: one InputError that names the file, and strict JSON."""

import csv
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from aequa_lightning.errors import InputError

REMEDY = "write it again with `aequa fit --ckpt_path last`"


@contextmanager
def possibly_damaged(path: Path, remedy: str = REMEDY) -> Iterator[None]:
    """Raise an InputError for a missing or malformed file that the block reads.

    Args:
        path: The file.
        remedy: What the user can do.

    Raises:
        InputError: The file is missing or malformed.

    Example:
        >>> import json
        >>> with possibly_damaged(Path("a.json"), "leave it out"):
        ...     json.loads("{}")["widths"]
        Traceback (most recent call last):
        ...
        aequa_lightning.errors.InputError: a.json lacks 'widths'; leave it out.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; {remedy}.") from error
    except KeyError as error:
        raise InputError(f"{path} lacks {error}; {remedy}.") from error
    except (TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}); {remedy}.") from error


def read_json(path: Path) -> Any:
    """Return the content of a standard JSON file: without NaN and infinity, and without repeated keys.

    Args:
        path: The file.

    Raises:
        ValueError: The content is not standard JSON.
        RecursionError: It nests too deep.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "a.json").write_text('{"gain": NaN}')
        ...     read_json(Path(folder) / "a.json")
        Traceback (most recent call last):
        ...
        ValueError: NaN is no number of JSON
    """
    return parse_json(path.read_bytes())


def parse_json(text: bytes) -> Any:
    """Return the content of standard JSON; see :func:`read_json`.

    Example:
        >>> parse_json(b'{"seconds": 1e999}')
        Traceback (most recent call last):
        ...
        ValueError: 1e999 is beyond all numbers
    """
    return json.loads(text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_unique)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text:.40} is beyond all numbers")
    return number


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key stands there twice")
    return content
