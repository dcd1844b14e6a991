"""Creates a virtual environment for each peer.

PyTorch is what this project's environment has, seen through a path file: the same library for everybody, and 5 GB saved
for each of them. Whatever else a peer asks for is installed into its own environment, and counts there before ours.
"""

import subprocess
import sys
import sysconfig
from pathlib import Path

REQUIREMENTS = {
    "pfl": ["pfl[pytorch]==0.6.0"],
    "flower": ["flwr[simulation]==1.41.0"],
    "fedlab": ["fedlab==1.3.0"],
    "fluke": ["fluke-fl==0.8.1"],
    "fedjax": ["fedjax==0.0.17", "jax==0.10.2"],
}


class CannotInstall(RuntimeError):  # noqa: N818  it is a finding, not a fault
    """A peer could not be installed here."""


def python_of(peer: str, folder: Path) -> Path:
    """Return the interpreter of a peer's environment, made on first use.

    Args:
        peer: A key of ``REQUIREMENTS``.
        folder: Holds all environments.

    Raises:
        CannotInstall: With the last lines of what pip said.
    """
    environment = folder / peer
    python = environment / "bin" / "python"
    complete = environment / "complete"
    wanted = " ".join(REQUIREMENTS[peer])
    if complete.is_file() and complete.read_text() == wanted:
        return python
    print(f"installing {wanted} into {environment}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
    library = environment / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (library / "shared.pth").write_text(sysconfig.get_paths()["purelib"])
    words = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS[peer]]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise CannotInstall("\n".join(done.stdout.strip().splitlines()[-5:]))
    complete.write_text(wanted)
    return python
