"""Files of ``torch.save`` from anybody: read as data, once the archive is known to be what it seems."""

from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, is_zipfile

import torch


def load_archive(path: Path, *, sums: bool = True) -> Any:
    """Return the content of a file of ``torch.save``: tensors on the CPU and plain values, nothing that runs code.

    Args:
        path: The file; one of torch's older kind, which is no archive, is read too.
        sums: Whether the check sum of every part is compared, at which torch itself does not look.

    Raises:
        Exception: The file is damaged or something else. What torch raises then is of many kinds.
    """
    if is_zipfile(path):
        _verify(path, sums=sums)
    return torch.load(path, weights_only=True, map_location="cpu")


def _verify(path: Path, *, sums: bool) -> None:
    """Prove that an archive is no larger inside than outside, and that its parts are sound.

    Raises:
        BadZipFile: It is not.
    """
    with ZipFile(path) as archive:
        parts = archive.infolist()
        # torch packs nothing; a few bytes that unpack to gigabytes are somebody else's.
        if any(part.compress_type != ZIP_STORED for part in parts):
            raise BadZipFile("a part of it is compressed")
        if sum(part.file_size for part in parts) > path.stat().st_size:
            raise BadZipFile("its parts are larger than the whole")
        if sums and (damaged := archive.testzip()) is not None:
            raise BadZipFile(damaged)
