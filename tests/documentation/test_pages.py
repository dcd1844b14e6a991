"""What README and docs/ show is run, and what they name exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.command import REPOSITORY
from tests.helpers.markdown import Block, Reader, blocks

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]

# Pages whose blocks are fragments: they leave out what is around, and show alternatives one below the other.
FRAGMENTS = ("docs/networks.md",)


def _name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def _shown(path: Path) -> list[Block]:
    return [block for block in blocks(path.read_text()) if block.language in ("python", "bash", "yaml")]


@pytest.mark.parametrize("path", [path for path in PAGES if _shown(path) and _name(path) not in FRAGMENTS], ids=_name)
# Hints of Lightning's Trainer about loading speed and logging; the data are tensors in memory.
@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:The number of training batches")
@pytest.mark.filterwarnings("ignore:It is recommended to use `self.log")
@pytest.mark.filterwarnings("ignore:`broadcast_buffers` is deprecated")
def test_the_code_of_a_page_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader()
    monkeypatch.syspath_prepend(str(Path.cwd()))
    for block in _shown(path):
        if block.reason is None:
            try:
                reader.follow(block)
            except Exception as error:
                raise AssertionError(f"{_name(path)}, line {block.line}: {error}") from error


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_no_block_is_overlooked(path: Path) -> None:
    fences = re.findall(r"^ *```", path.read_text(), re.MULTILINE)
    assert 2 * len(list(blocks(path.read_text()))) == len(fences), "give every block a language, and close it"


def test_the_tutorial_shows_the_configuration_of_the_demonstration() -> None:
    shown = [block.content for block in blocks((REPOSITORY / "docs" / "tutorial.md").read_text())]
    assert (REPOSITORY / "configs" / "digits.yaml").read_text() in shown


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="needs the docs extra")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run([*words, "--config-file", str(REPOSITORY / "mkdocs.yml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "site" / "reference" / "configuration" / "index.html").read_text()
    assert "max_rounds" in reference
    assert "participants_per_round" in reference


def test_the_tests_that_the_table_of_features_names_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", (REPOSITORY / "docs" / "lightning.md").read_text()))
    tests = "".join(path.read_text() for path in (REPOSITORY / "tests").rglob("test_*.py"))
    assert named
    assert not [name for name in named if f"def {name}(" not in tests]


def test_a_block_that_fails_is_told() -> None:
    page = "text\n\n```python\nx = 1\n```\n\n<!-- not run: because -->\n```bash\nfalse\n```\n\n"
    first, second, third = blocks(page + "    ```bash\n    false\n    ```\n")
    assert [block.line for block in (first, second, third)] == [3, 8, 12]
    assert (second.reason, third.reason) == ("because", None)
    reader = Reader()
    reader.follow(first)
    with pytest.raises(Exception, match="false"):
        reader.follow(third)
    with pytest.raises(AssertionError, match="max_turns"):
        reader.follow(Block(1, "bash", None, "aequa fit --config configs/digits.yaml --trainer.max_turns=1", None))
