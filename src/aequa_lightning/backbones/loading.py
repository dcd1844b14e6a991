"""Loading checkpoints without running code that they name: only the caller may name a backbone to import."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, Any, Self

from lightning import LightningModule
from lightning.fabric.utilities.types import _MAP_LOCATION_TYPE, _PATH
from typing_extensions import override

from aequa_lightning.errors import InputError

# While a checkpoint is loaded: the import path that the caller has given, or "" where it has given none.
_given: ContextVar[str | None] = ContextVar("given", default=None)


@contextmanager
def importing_only(given: str | None) -> Iterator[None]:
    """Within the block, allow no import of a backbone but the one that the caller has given.

    Args:
        given: Import path ``package.module:function``; None: nothing is imported.
    """
    token = _given.set(given or "")
    try:
        yield
    finally:
        _given.reset(token)


def check_import(name: str) -> None:
    """Check that a backbone's import path comes from the caller, not from a file that is being loaded.

    Args:
        name: Import path ``package.module:function``.

    Raises:
        InputError: It comes from a file.

    Example:
        >>> with importing_only("mine:net"):
        ...     check_import("mine:net")
        ...     check_import("theirs:net")
        Traceback (most recent call last):
        ...
        aequa_lightning.errors.InputError: The checkpoint names 'theirs:net', and no file may say which code is run; \
give backbone='theirs:net' yourself if you trust it.
    """
    if _given.get() not in (None, name):
        raise InputError(
            f"The checkpoint names {name!r}, and no file may say which code is run; give backbone={name!r} yourself if "
            "you trust it."
        )


class LoadsOnlyData(LightningModule):
    """A module whose checkpoints are data: loading one runs no code that the file names."""

    @classmethod
    @override
    def load_from_checkpoint(
        cls,
        checkpoint_path: _PATH | IO[bytes],
        map_location: _MAP_LOCATION_TYPE = None,
        hparams_file: _PATH | None = None,
        strict: bool | None = None,
        weights_only: bool | None = True,
        **kwargs: Any,
    ) -> Self:
        """Load a module as Lightning does, with ``weights_only``; backbones that the file names are not imported.

        Args:
            checkpoint_path: The checkpoint.
            map_location: See Lightning.
            hparams_file: See Lightning.
            strict: See Lightning.
            weights_only: See Lightning.
            **kwargs: Arguments of the module that replace those of the file. ``backbone`` must be given if it is an
                import path, or was given from Python.

        Raises:
            InputError: The file names a backbone by an import path that the caller has not given.
        """
        given = kwargs.get("backbone")
        with importing_only(given if isinstance(given, str) else None):
            return super().load_from_checkpoint(
                checkpoint_path, map_location, hparams_file, strict, weights_only, **kwargs
            )
