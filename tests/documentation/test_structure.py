"""The pages that tell where things are name all of them, and nothing else."""

import importlib
import re
import tomllib
from pathlib import Path

from tests.helpers.command import REPOSITORY
from tests.helpers.markdown import blocks

DOCS = REPOSITORY / "docs"
PACKAGE = REPOSITORY / "src" / "aequa_lightning"
ARCHITECTURE = (DOCS / "architecture.md").read_text()


def _layers(container: str) -> list[str]:
    """Return the names of a container's layers in the contracts of import-linter, from top to bottom."""
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = (one for one in contracts if one.get("containers") == [container])
    return [name for row in contract["layers"] for name in row.split(" : ")]


def _first_column(title: str) -> list[str]:
    """Return the names in code type in the first column of the table of the architecture page with a title."""
    table = ARCHITECTURE[ARCHITECTURE.index(f"| {title} |") :].split("\n\n")[0]
    return [name for row in table.splitlines()[2:] for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


def test_the_index_and_the_navigation_name_every_page() -> None:
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    linked = set(re.findall(r"\]\(([\w/-]+\.md)", (DOCS / "index.md").read_text()))
    named = set(re.findall(r"[\w/-]+\.md", (REPOSITORY / "mkdocs.yml").read_text().split("\nnav:\n")[1]))
    assert linked == pages - {"index.md"}
    assert named == pages


def test_links_between_pages_lead_to_files_and_headings() -> None:
    broken = []
    for page in [*REPOSITORY.glob("*.md"), *DOCS.rglob("*.md")]:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)]+))?\)", page.read_text()):
            path = (page.parent / target).resolve() if target else page
            if not path.exists() or (anchor and anchor not in _anchors(path)):
                broken.append(f"{page.name}: {target}#{anchor}")
    assert not broken


def test_files_that_pages_name_exist() -> None:
    for page in [*REPOSITORY.glob("*.md"), *DOCS.rglob("*.md")]:
        for path in re.findall(r"\b((?:tests|configs|examples|docs|benchmarks)/[\w/-]+\.\w+)", page.read_text()):
            assert (REPOSITORY / path).is_file(), f"{page.name}: {path}"


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_contributing_and_the_architecture_name_the_folders_in_the_order_of_the_contract() -> None:
    (shown,) = (one.content for one in blocks((REPOSITORY / "CONTRIBUTING.md").read_text()) if one.language == "text")
    assert re.split(r", |\n", shown.strip()) == _layers("aequa_lightning")
    assert _first_column("folder of `src/aequa_lightning/`") == _layers("aequa_lightning")


def test_the_architecture_names_every_part_of_the_engine() -> None:
    named = [name.removesuffix("/").removesuffix(".py") for name in _first_column("file or folder of `engine/`")]
    assert sorted(named) == sorted(_layers("aequa_lightning.engine"))


def test_what_the_architecture_says_of_a_round_exists() -> None:
    shown = "".join(block.content for block in blocks(ARCHITECTURE) if block.language == "text")
    names = re.findall(r"\w+(?:\.\w+)+", shown)
    assert len(names) > 15
    for name in names:
        in_engine = not (PACKAGE / name.split(".")[0]).is_dir()
        _find(f"aequa_lightning.engine.{name}" if in_engine else f"aequa_lightning.{name}")
    for path in re.findall(r"`([\w/]+/\w+\.py)`", ARCHITECTURE):
        assert (PACKAGE / path).is_file(), path


def _find(name: str) -> object:
    """Import as much of a dotted name as is a module, and look the rest up."""
    parts = name.split(".")
    count = next(count for count in range(len(parts), 0, -1) if _is_module(parts[:count]))
    found: object = importlib.import_module(".".join(parts[:count]))
    for part in parts[count:]:
        found = getattr(found, part)
    return found


def _is_module(parts: list[str]) -> bool:
    path = PACKAGE.parent.joinpath(*parts)
    return path.is_dir() or path.with_suffix(".py").is_file()
