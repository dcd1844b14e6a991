"""Signatures of a file by its author: Ed25519 (RFC 8032), with keys as openssl writes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aequa_lightning.errors import InputError
from aequa_lightning.run_folder.files import write_atomically

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MAKE_KEYS = "`openssl genpkey -algorithm ed25519 -out private.pem` makes one"
MAKE_PUBLIC = "`openssl pkey -in private.pem -pubout -out public.pem` makes it from the private one"


def signature_of(path: Path) -> Path:
    """Return where the signature of a file lies.

    Example:
        >>> signature_of(Path("manifest.json")).name
        'manifest.sig'
    """
    return path.with_suffix(".sig")


def sign_file(path: Path, key: Ed25519PrivateKey) -> None:
    """Write the signature of a file beside it, 64 bytes.

    Args:
        path: The file.
        key: From :func:`load_private_key`.
    """
    write_atomically(signature_of(path), key.sign(path.read_bytes()))


def verify_file(path: Path, public_key: Path) -> None:
    """Prove that a file is the one that the owner of a key signed.

    Args:
        path: The file; its signature lies beside it.
        public_key: PEM file of the key.

    Raises:
        InputError: The file is not signed, it was changed or signed by another, or the key cannot be used.
    """
    key, signature = load_public_key(public_key), signature_of(path)
    from cryptography.exceptions import InvalidSignature

    if not signature.is_file():
        raise InputError(f"{path} is not signed: {signature.name} is missing; sign with trainer.signing_key.")
    try:
        key.verify(signature.read_bytes(), path.read_bytes())
    except InvalidSignature as error:
        raise InputError(
            f"{signature} is no signature of {path.name} by public_key={str(public_key)!r}: one of the two files was "
            "changed, or another key signed."
        ) from error


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """Read the key that signs.

    Args:
        path: PEM file without a passphrase.

    Raises:
        InputError: The file is missing or holds something else, or the extra ``signing`` is not installed.
    """
    key = _load("trainer.signing_key", path, "load_pem_private_key", {"password": None}, remedy=MAKE_KEYS)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"trainer.signing_key={str(path)!r} holds a key of another kind than Ed25519; {MAKE_KEYS}.")
    return key


def load_public_key(path: Path) -> Ed25519PublicKey:
    """Read the key that verifies.

    Args:
        path: PEM file.

    Raises:
        InputError: The file is missing or holds something else, or the extra ``signing`` is not installed.
    """
    key = _load("public_key", path, "load_pem_public_key", {}, remedy=MAKE_PUBLIC)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"public_key={str(path)!r} holds a key of another kind than Ed25519; {MAKE_PUBLIC}.")
    return key


def _load(option: str, path: Path, function: str, arguments: dict[str, Any], *, remedy: str) -> Any:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        raise InputError(
            f"{option}={str(path)!r} needs the package cryptography; pip install 'aequa-lightning[signing]'."
        ) from error
    if not path.is_file():
        raise InputError(f"{option}={str(path)!r} is no file; {remedy}.")
    try:
        return getattr(serialization, function)(path.read_bytes(), **arguments)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(f"{option}={str(path)!r} holds no such key in PEM without a passphrase; {remedy}.") from error
