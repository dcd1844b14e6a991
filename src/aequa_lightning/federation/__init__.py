"""The same mechanism on Flower: each participant on a machine of its own, its data never leaving it.

Running one needs the extra ``flower``; auditing one does not.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aequa_lightning.federation.participant import client_app
    from aequa_lightning.federation.server import server_app

__all__ = ["client_app", "server_app"]


def __getattr__(name: str) -> Any:
    """Import the apps when they are first asked for: they need Flower."""
    if name == "client_app":
        from aequa_lightning.federation.participant import client_app

        return client_app
    if name == "server_app":
        from aequa_lightning.federation.server import server_app

        return server_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
