from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser

from aequa_lightning.errors import InputError
from aequa_lightning.sweep.options import add_options, part_index, read_matrix


def parse(content: dict[str, object], *words: str):
    path = Path("sweep.yaml")
    path.write_text(yaml.safe_dump(content))
    parser = ArgumentParser(exit_on_error=False)
    add_options(parser)
    return parser.parse_args(["--config", str(path), *words])


def test_blocks_with_classes_stay_as_they_were_written() -> None:
    """Filled up with defaults, they would override each other with what nobody wrote."""
    block = {"data": {"class_path": "aequa_lightning.data.DigitsData"}}
    content = {"sweep_dir": "out", "base": block, "axes": {"data": {"digits": block}, "seed": [3]}}
    content["adjust"] = [{"data": "digits", "set": block}]
    matrix = read_matrix(parse(content, "--sweep_dir=other"))
    assert (matrix.folder, matrix.base, matrix.seeds) == (Path("other"), block, [3])
    assert matrix.axes["data"] == {"digits": block}
    assert matrix.adjust == content["adjust"]


def test_which_part_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    content: dict[str, object] = {"sweep_dir": "out", "base": {}}
    assert part_index(parse(content)) == (0, 1)
    assert part_index(parse(content, "--index=2", "--count=5")) == (2, 5)
    for name, value in (("ID", "9"), ("MIN", "3"), ("STEP", "2"), ("COUNT", "4")):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    assert part_index(parse(content)) == (3, 4)
    assert part_index(parse(content, "--index=0", "--count=1")) == (0, 1)
    for words in (["--index=1"], ["--count=2"], ["--index=2", "--count=2"], ["--index=-1", "--count=2"]):
        with pytest.raises(InputError, match="give both"):
            part_index(parse(content, *words))
