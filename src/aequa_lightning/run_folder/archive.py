"""Reads files of ``torch.save`` as data only, after a check of the archive."""

from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, is_zipfile

import torch


def load_archive(path: Path, *, sums: bool = True) -> Any:
    """Return the content of a file of ``torch.save``: tensors on the CPU and plain values, nothing that runs code.

    Args:
        path: The file; one of torch's older kind, which is no archive, is read too.
        sums: Whether the checksum of every part is compared, which torch does not do.

    Raises:
        Exception: The file is damaged or of another format; torch raises many kinds.
    """
    if is_zipfile(path):
        _verify(path, sums=sums)
    return torch.load(path, weights_only=True, map_location="cpu")


def _verify(path: Path, *, sums: bool) -> None:
    """Check that an archive is not compressed, and the checksums of its parts.

    Raises:
        BadZipFile: A check fails.
    """
    with ZipFile(path) as archive:
        parts = archive.infolist()
        # torch stores without compression; a compressed part could be a zip bomb.
        if any(part.compress_type != ZIP_STORED for part in parts):
            raise BadZipFile("a part of it is compressed")
        if sum(part.file_size for part in parts) > path.stat().st_size:
            raise BadZipFile("its parts are larger than the whole")
        if sums and (damaged := archive.testzip()) is not None:
            raise BadZipFile(damaged)
