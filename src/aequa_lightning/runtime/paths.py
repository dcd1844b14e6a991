"""Paths as users write them in configurations and on the command line."""

from pathlib import Path

from aequa_lightning.errors import InputError


def user_path(text: str | Path, key: str) -> Path:
    """Return a path, its ``~`` replaced by the home folder: no shell does that within a configuration.

    Args:
        text: The path in a configuration or on the command line.
        key: The key of the option, for the message.

    Raises:
        InputError: It is empty, holds a NUL, or names the home of an unknown user.

    Example:
        >>> user_path("~/runs", "trainer.run_dir") == Path.home() / "runs"
        True
    """
    if not str(text) or "\0" in str(text):
        raise InputError(f"{key}={str(text)!r} is no path; name a file or folder, or leave it out.")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise InputError(f"{key}={str(text)!r} names no home folder: {error}") from error
