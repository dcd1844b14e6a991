"""Signed manifests: what is refused, and in which words."""

import sys
from pathlib import Path

import pytest

from aequa_lightning.errors import InputError
from aequa_lightning.rewards.files.manifest import read_manifest, verify_reward, write_manifest
from aequa_lightning.rewards.files.signing import load_private_key, load_public_key

pytest.importorskip("cryptography", reason="needs the extra 'signing'")
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)


def _write(name: str, key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey, *, passphrase: bytes = b"") -> Path:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    path = Path(f"{name}.pem")
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    Path(f"{name}-public.pem").write_bytes(public)
    return path


@pytest.fixture
def public_key() -> Path:
    """The key that has signed a manifest in ``rewards``, of which one file exists."""
    private = _write("ours", ed25519.Ed25519PrivateKey.generate())
    Path("rewards").mkdir()
    Path("rewards/a.ckpt").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of "abc", FIPS 180-4
    row = {"file": "a.ckpt", "participant": "a", "width": 1.0, "sha256": digest}
    write_manifest(Path("rewards"), [row], {}, number=1, signing_key=private)
    return Path("ours-public.pem")


def test_what_was_signed_is_accepted(public_key: Path) -> None:
    assert read_manifest(Path("rewards"), public_key=public_key)["rewards"][0]["file"] == "a.ckpt"
    verify_reward(Path("rewards/a.ckpt"), public_key=public_key)
    # The same content has the same signature: a run that is repeated writes the same files.
    before = Path("rewards/manifest.sig").read_bytes()
    rows = read_manifest(Path("rewards"))["rewards"]
    write_manifest(Path("rewards"), rows, {}, number=1, signing_key=Path("ours.pem"))
    assert Path("rewards/manifest.sig").read_bytes() == before
    assert len(before) == 64


def test_changed_files_another_key_and_missing_signatures_are_refused(public_key: Path) -> None:
    _write("theirs", ed25519.Ed25519PrivateKey.generate())
    with pytest.raises(InputError, match=r"no signature of manifest\.json"):
        read_manifest(Path("rewards"), public_key=Path("theirs-public.pem"))
    Path("rewards/b.ckpt").write_bytes(b"abc")
    with pytest.raises(InputError, match=r"none of the files"):
        verify_reward(Path("rewards/b.ckpt"), public_key=public_key)
    Path("rewards/a.ckpt").write_bytes(b"abd")
    with pytest.raises(InputError, match="SHA-256 differs"):
        verify_reward(Path("rewards/a.ckpt"), public_key=public_key)
    # Written anew without a key, it does not keep the signature of what it was.
    write_manifest(Path("rewards"), read_manifest(Path("rewards"))["rewards"], {}, number=1)
    with pytest.raises(InputError, match="is not signed"):
        read_manifest(Path("rewards"), public_key=public_key)
    Path("rewards/manifest.json").unlink()
    verify_reward(Path("rewards/a.ckpt"))
    with pytest.raises(InputError, match=r"holds no manifest\.json"):
        verify_reward(Path("rewards/a.ckpt"), public_key=public_key)


def test_files_that_hold_no_such_key_are_refused_with_the_remedy() -> None:
    Path("empty.pem").write_text("")
    _write("curve", ec.generate_private_key(ec.SECP256R1()))
    _write("locked", ed25519.Ed25519PrivateKey.generate(), passphrase=b"word")
    for name, fault in (
        ("nowhere", "is no file"),
        ("empty", "holds no such key"),
        ("curve", "another kind than Ed25519"),
    ):
        for load, file in ((load_private_key, f"{name}.pem"), (load_public_key, f"{name}-public.pem")):
            path = Path("empty.pem" if name == "empty" else file)
            with pytest.raises(InputError, match=rf"{fault}.*openssl"):
                load(path)
    with pytest.raises(InputError, match="without a passphrase"):
        load_private_key(Path("locked.pem"))


def test_without_the_extra_one_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    for load in (load_private_key, load_public_key):
        with pytest.raises(InputError, match=r"aequa-lightning\[signing\]"):
            load(Path("key.pem"))
