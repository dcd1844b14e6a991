"""A federation of real processes on this machine: SuperLink, SuperNodes with keys of their own, TLS."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests.helpers.command import aequa, events

pytest.importorskip("flwr", reason="the extra flower is not installed")

from tests.helpers.local_grid import write_npz

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(900)]
NAMES = ("lyon", "oslo", "rome")


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "it has ended"
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens on port {port}")


def certify(folder: Path) -> None:
    """Write a certificate authority, and the certificate of a server on this machine."""
    ca, server = str(folder / "ca"), str(folder / "server")
    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=ca", "-keyout", f"{ca}.key", "-out", f"{ca}.pem"
    )
    openssl(
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=localhost",
        "-keyout",
        f"{server}.key",
        "-out",
        f"{server}.csr",
    )
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    openssl(
        *("x509", "-req", "-in", f"{server}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial"),
        *("-extfile", str(folder / "names"), "-out", f"{server}.pem"),
    )  # fmt: skip


@pytest.fixture
def federation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Start server and nodes, and return the folder of the federation."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    if not all(shutil.which(program) for program in ("flower-superlink", "flower-supernode", "openssl", "ssh-keygen")):
        pytest.skip("Flower's programs, openssl or ssh-keygen are not on the path")
    certify(tmp_path)
    port = free_port()
    (tmp_path / ".flwr").mkdir()
    (tmp_path / ".flwr" / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "127.0.0.1:{port}"\n'
        f'root-certificates = "{tmp_path}/ca.pem"\n'
    )
    running: list[subprocess.Popen[bytes]] = []

    def start(name: str, *words: str) -> subprocess.Popen[bytes]:
        with (tmp_path / f"{name}.log").open("wb") as log:
            running.append(subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, start_new_session=True))
        return running[-1]

    tls = ("--ssl-ca-certfile", "ca.pem", "--ssl-certfile", "server.pem", "--ssl-keyfile", "server.key")
    link = start(
        "superlink",
        *("flower-superlink", *tls, "--enable-supernode-auth", "--disable-runtime-dependency-installation"),
        *("--port", str(port)),
    )  # fmt: skip
    try:
        await_port(port, link)
        for name in NAMES:
            subprocess.run(["ssh-keygen", "-t", "ecdsa", "-b", "384", "-N", "", "-q", "-f", f"key-{name}"], check=True)
            subprocess.run(
                ["flwr", "supernode", "register", f"key-{name}.pub", "here"], check=True, capture_output=True
            )
            node = f'participant="{name}" data="{tmp_path}/{name}.npz" rewards="{tmp_path}/rewards-{name}"'
            start(
                name,
                *("flower-supernode", "--root-certificates", "ca.pem", "--superlink", f"127.0.0.1:{port}"),
                *("--auth-supernode-private-key", f"key-{name}", "--port", str(free_port()), "--node-config", node),
            )  # fmt: skip
        yield tmp_path
    finally:
        for process in running:
            os.killpg(process.pid, 9)
            process.wait()


def test_three_nodes_with_keys_and_tls_end_with_their_rewards(federation: Path) -> None:
    digits = load_digits()
    images, classes = digits.images.astype(np.uint8), digits.target
    for name, rows in {"server": slice(900, 1500), "lyon": slice(0, 400), "oslo": slice(400, 800)}.items():
        write_npz(federation / f"{name}.npz", (images[rows], classes[rows]), (images[1500:], classes[1500:]))
    write_npz(federation / "rome.npz", (images[800:850], classes[800:850]), (images[1500:], classes[1500:]))
    assert aequa("federate", "new", "clinics") == 0
    config = federation / "clinics" / "config.yaml"
    config.write_text(config.read_text().replace("max_rounds: 10", "max_rounds: 2"))
    told = subprocess.run(["flwr", "run", "clinics", "here", "--stream"], capture_output=True, text=True, timeout=800)
    run_dir = federation / "runs" / "clinics"
    assert len(events(run_dir, "round")) == 2, told.stdout
    assert events(run_dir, "absent") == events(run_dir, "undelivered") == []
    assert len(set(events(run_dir, "start")[0]["data"]["node_keys"])) == 3
    for name in NAMES:
        sent = (run_dir / "rewards" / f"{name}.ckpt").read_bytes()
        assert (federation / f"rewards-{name}" / f"{name}.ckpt").read_bytes() == sent
    kinds = [json.loads(line)["kind"] for line in (run_dir / "messages.jsonl").read_text().splitlines()]
    assert {kind: kinds.count(kind) for kind in kinds} == {"train.alone": 3, "train.round": 6, "query.reward": 3}
    assert aequa("audit", "--run_dir", run_dir) == 0
