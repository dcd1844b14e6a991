"""Which networks a checkpoint may name: those of this project, and the one that the caller names too."""

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
    """Refuse, within the block, to import a backbone other than the one that the caller has given.

    Args:
        given: Import path ``package.module:function``; None: nothing is imported.
    """
    token = _given.set(given or "")
    try:
        yield
    finally:
        _given.reset(token)


def check_import(name: str) -> None:
    """Prove that a backbone's import path comes from the caller, not from a file that is being loaded.

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
        """Load a module as of Lightning, with ``weights_only``; what the file names is not imported.

        Args:
            checkpoint_path: The checkpoint.
            map_location: As of Lightning.
            hparams_file: As of Lightning.
            strict: As of Lightning.
            weights_only: As of Lightning.
            **kwargs: Arguments of the module in the place of those of the file. ``backbone`` has to be given where it
                is an import path.

        Raises:
            InputError: The file names a backbone by an import path that the caller has not given.
        """
        with importing_only(kwargs.get("backbone")):
            return super().load_from_checkpoint(
                checkpoint_path, map_location, hparams_file, strict, weights_only, **kwargs
            )
