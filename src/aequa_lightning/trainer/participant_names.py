"""Participants' names, which become names of files."""

import unicodedata
from collections.abc import Sequence

from aequa_lightning.errors import InputError

# Bytes: file systems take 255, and endings and names of unfinished files need some of them.
MAX_BYTES = 150
# Names of devices on Windows, and of a file beside the participants' own.
RESERVED = {"con", "prn", "aux", "nul", "manifest", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(1, 10))}


def check_names(names: Sequence[str], participants: int) -> None:
    """Check that each participant's name can be the name of a file, on any file system, and of one that no other has.

    Args:
        names: Names of the participants, in their order.
        participants: Number of participants.

    Raises:
        InputError: A name cannot, or two would share a file.

    Example:
        >>> check_names(["Ann", "Bob"], 2)
    """
    if len(names) != participants:
        raise InputError(f"data.names holds {len(names)} names for {participants} participants; give each one.")
    seen: dict[str, str] = {}
    for name in names:
        reason = _reason(name)
        if reason:
            raise InputError(f"data.names: {name[:60]!r} {reason}; files are called by it, choose another.")
        # Some file systems ignore case and compose accents.
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFKC", name).casefold())
        if folded in seen:
            raise InputError(
                f"data.names: {seen[folded]!r} and {name!r} would share files where case or accents are not told "
                "apart; choose different names."
            )
        seen[folded] = name


def _reason(name: str) -> str | None:
    """Return why a name cannot be the name of a file; None if it can."""
    if not isinstance(name, str) or not name.strip():
        return "is empty"
    if any(character in '/\\:*?"<>|' or not character.isprintable() for character in name):
        return "holds a separator or another character that file names may not hold"
    if name[0] in ".-~ " or name[-1] in ". ":
        return "begins with a dot, hyphen, tilde or blank, or ends with a dot or blank"
    if len(name.encode(errors="surrogatepass")) > MAX_BYTES:
        return f"is longer than {MAX_BYTES} bytes"
    if name.partition(".")[0].casefold() in RESERVED:
        return "is reserved"
    return None
