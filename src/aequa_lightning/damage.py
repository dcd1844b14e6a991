"""What a damaged file raises, as one sentence about that file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aequa_lightning.errors import InputError

REMEDY = "write it again with `aequa fit --ckpt_path last`"


@contextmanager
def reading(path: Path, remedy: str = REMEDY) -> Iterator[None]:
    """Tell of a file that is missing or malformed, where its content is read and taken apart.

    Args:
        path: The file.
        remedy: What to do then.

    Raises:
        InputError: It is.

    Example:
        >>> import json
        >>> with reading(Path("a.json"), "leave it out"):
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
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} cannot be read ({error}); {remedy}.") from error
