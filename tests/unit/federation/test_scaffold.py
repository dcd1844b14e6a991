"""The folder of a federation, written without Flower."""

import ast
import tomllib
from pathlib import Path

import pytest
import yaml

from aequa_lightning.errors import InputError
from aequa_lightning.federation.scaffold import write_federation


def test_the_files_can_be_read(tmp_path: Path) -> None:
    folder = write_federation(tmp_path / "clinics", ["lyon", "oslo"])
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["tool"]["flwr"]["app"]["components"] == {"serverapp": "app:server", "clientapp": "app:client"}
    assert project["tool"]["flwr"]["app"]["config"]["participants"] == "lyon,oslo"
    # Flower would install them from an index, over what a participant has verified.
    assert project["project"]["dependencies"] == []
    assert {node.id for node in ast.walk(ast.parse((folder / "app.py").read_text())) if isinstance(node, ast.Name)} >= {
        "client",
        "server",
    }
    assert yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["mechanism"] == "AequaTraining"


@pytest.mark.parametrize(
    ("name", "participants", "message"),
    [
        ("My App", ["a", "b"], "small letters"),
        ("app", ["a"], "name two at least"),
        ("app", ["a", "a"], "name two at least"),
        ("app", ["a", "../b"], "no name of letters"),
    ],
)
def test_bad_names_are_refused(tmp_path: Path, name: str, participants: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_federation(tmp_path / name, participants)
    assert not (tmp_path / name).exists()


def test_an_existing_folder_is_not_touched(tmp_path: Path) -> None:
    folder = tmp_path / "clinics"
    folder.mkdir()
    with pytest.raises(InputError, match="exists"):
        write_federation(folder, ["a", "b"])
    assert not list(folder.iterdir())
