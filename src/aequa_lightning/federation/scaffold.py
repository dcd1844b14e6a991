"""The folder of a federation: what `aequa federate new` writes for ``flwr run``. Imports no Flower."""

import re
from pathlib import Path

from aequa_lightning.errors import InputError
from aequa_lightning.run_folder.files import write_atomically

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "1.0.0"
description = "A federation that pays fair model rewards"
license = "Apache-2.0"
# aequa-lightning is installed on every machine beforehand: what runs there is what its owner has installed.
dependencies = []

[tool.hatch.build.targets.wheel]
packages = ["."]

[tool.flwr.app]
publisher = "{name}"

[tool.flwr.app.components]
serverapp = "app:server"
clientapp = "app:client"

[tool.flwr.app.config]
participants = "{participants}"
run-dir = "{run_dir}"
# Where Flower's simulation on one machine finds NAME.npz of each participant; SuperNodes are told their own file.
data-dir = "{data_dir}"
# Where is measured what each reaches alone: "home", on its own held-out part, or "server", which is sent the model.
standalone = "home"
# Fewest answers that a round is done with; seconds that an answer may take, and that the start waits for participants.
min-participants = {count}
timeout = 600
join-timeout = 600
"""

APP = '''\
"""The apps of the server and of the participants."""

from pathlib import Path

from aequa_lightning.federation import client_app, server_app

CONFIG = Path(__file__).with_name("config.yaml")
server = server_app(CONFIG)
client = client_app(CONFIG)
'''

CONFIG = """\
# The same for all: what `aequa fit` takes. Only the server reads the data that are named here: it measures and decides
# by their validation part, and reports on their test part.
seed_everything: 0
trainer:
  accelerator: cpu
  max_rounds: 10
  local_epochs: 1
  mechanism: AequaTraining
model:
  class_path: SlimmableClassifier
  init_args:
    backbone: mlp
    widths: [1.0, 0.75, 0.5, 0.25, 0.125]
data:
  class_path: NpzData
  init_args:
    path: {data}
    batch_size: 32
optimizer: {{class_path: torch.optim.Adam, init_args: {{lr: 0.003}}}}
"""

README = """\
# {name}

A federation of {participants}: each keeps its data, and receives a model as good as its contribution deserves.

1. `config.yaml`: choose the model, and the server's own data, by whose validation part it decides.
2. Everybody installs `aequa-lightning[flower]` and writes `NAME.npz` with `x_train`, `y_train`, `x_test`, `y_test`.
3. Server: `flower-superlink` with certificates. Participants: `flower-supernode` with a key of their own and
   `--node-config 'participant="NAME" data="/path/NAME.npz" rewards="/path/rewards"'`.
4. `flwr run . SUPERLINK --stream` starts the rounds, and goes on with them after a stop.
5. `aequa audit --run_dir RUN_DIR` on the server proves that nobody was sent more than it held or earned.
"""


def write_federation(folder: Path, participants: list[str]) -> Path:
    """Write the folder of a federation.

    Args:
        folder: The folder, which must not exist; its name is the app's.
        participants: Names of the participants, at least two.

    Returns:
        The folder.

    Raises:
        InputError: The folder exists, or a name is none.
    """
    name = folder.name
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise InputError(
            f"federate new {name!r}: an app is called by small letters, digits and hyphens, such as my-app"
        )
    if folder.exists():
        raise InputError(f"{folder} exists; choose another name, or remove it")
    for one in participants:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", one):
            raise InputError(f"--participants: {one!r:.80} is no name of letters, digits and hyphens")
    if len(set(participants)) < max(2, len(participants)):
        raise InputError(
            f"--participants={','.join(participants)}: name two at least, each once, such as lyon,oslo,rome"
        )
    given = {
        "name": name,
        "participants": ",".join(participants),
        "count": len(participants),
        "run_dir": (folder.resolve().parent / "runs" / name).as_posix(),
        "data": (folder.resolve().parent / "server.npz").as_posix(),
        "data_dir": folder.resolve().parent.as_posix(),
    }
    for file, content in {
        "pyproject.toml": PYPROJECT,
        "app.py": APP,
        "config.yaml": CONFIG,
        "README.md": README,
    }.items():
        text = content if file == "app.py" else content.format(**given)
        write_atomically(folder / file, text.encode())
    return folder
