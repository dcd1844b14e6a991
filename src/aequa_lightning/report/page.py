"""The HTML page of one run, or of several side by side, with its figures."""

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from scipy.stats import pearsonr

from aequa_lightning.errors import InputError
from aequa_lightning.report import formatting, glossary, sentences
from aequa_lightning.report.comparison import COMPARISONS, comparison_name, run_names
from aequa_lightning.report.quantities import PARTICIPANT, RUN
from aequa_lightning.report.reading import read_run
from aequa_lightning.report.records import RunRecord, ScoreRecord
from aequa_lightning.report.reward_figures import accuracy_by_width, contributions, fairness, front, gains
from aequa_lightning.report.style import Picture, drawn, house_style
from aequa_lightning.report.training_figures import partition, time, training
from aequa_lightning.report.vector import css_variables, inline_svg
from aequa_lightning.report.what_if import what_if_data
from aequa_lightning.run_folder.files import is_full_disk, refuse_links, write_atomically
from aequa_lightning.runtime.terminal import printable

FIGURES = (fairness, gains, accuracy_by_width, training, partition, contributions, front, time)


def build_report(run_dirs: Sequence[Path], *, output: Path | None = None) -> Path:
    """Write the page of one run, or a page that compares several, and the figures beside it.

    Args:
        run_dirs: Folders that `aequa fit` wrote.
        output: The page. Default: ``report.html`` in the one run folder, or a page beside the first of several, called
            by their names (:func:`comparison_name`). Figures go beside the page, into ``figures`` or, of several runs,
            into a folder called by the page, as PNG and PDF.

    Returns:
        The page that was written: one HTML file that loads nothing else.

    Raises:
        InputError: When there is no run, a folder is none, or the page cannot be written.
        OSError: The disk is full; it names the file.
    """
    folders = [Path(folder) for folder in run_dirs]
    for folder in folders:
        refuse_links(folder)
    if not folders:
        raise InputError("No run to report on: give at least one run folder.")
    runs = [read_run(folder) for folder in folders]
    with house_style(), formatting.writing_of(common_score(runs)):
        if len(runs) == 1:
            page = output or folders[0] / "report.html"
            pictures = [picture for draw in FIGURES if (picture := draw(runs[0])) is not None]
            content = _run_page(runs[0], pictures)
            figures = page.parent / "figures"
        else:
            page = output or folders[0].resolve().parent / f"{comparison_name(runs)}.html"
            pictures = [picture for compare in COMPARISONS if (picture := compare(runs)) is not None]
            content = _comparison_page(runs, pictures, page)
            figures = page.parent / f"{page.stem}-figures"
        try:
            for picture in pictures:
                for format in ("png", "pdf"):
                    write_atomically(figures / f"{picture.name}.{format}", drawn(picture.figure, format))
            write_atomically(page, content.encode())
        except OSError as error:
            if is_full_disk(error):
                raise
            raise InputError(
                f"The report cannot be written to {page} ({error}); give another place to `aequa report --output`."
            ) from error
    return page


def _run_page(run: RunRecord, pictures: Sequence[Picture]) -> str:
    hover = {p.number: sentences.describe(p) for p in run.participants}
    return _environment().get_template("run.html.j2").render(
        run=run,
        start=run.start,
        summary=sentences.summarise(run),
        truncation_note=sentences.truncation_note(run),
        interruption=_interruption(run),
        pictures={picture.name: picture for picture in pictures},
        svg={picture.name: inline_svg(picture, hover) for picture in pictures},
        agreement=_agreement(run),
        rejected=_rejected(run),
        what_if=what_if_data(run),
    )  # fmt: skip


def _comparison_page(runs: Sequence[RunRecord], pictures: Sequence[Picture], page: Path) -> str:
    names = run_names(runs)
    reports = [run.folder / "report.html" for run in runs]
    links = [_link(report, page.parent) if report.is_file() else None for report in reports]
    return _environment().get_template("comparison.html.j2").render(
        runs=list(zip(names, runs, links, strict=True)),
        verdict=sentences.verdict(names, runs),
        pictures={picture.name: picture for picture in pictures},
        svg={picture.name: inline_svg(picture, dict(enumerate(names))) for picture in pictures},
    )  # fmt: skip


def _link(file: Path, folder: Path) -> str:
    """Return the link to a file from a page in a folder; it names no scheme, whatever the folders are called.

    Example:
        >>> _link(Path("/runs/javascript:alert(1)/report.html"), Path("/runs"))
        'javascript%3Aalert%281%29/report.html'
    """
    return quote(os.fsencode(os.path.relpath(file, folder)))


def _shown(value: Any) -> Any:
    """Return what the page shows of a value; figures are markup already, drawn from printable names."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("aequa_lightning.report"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = (
        "percent", "score", "points", "ratio", "width_of", "coefficient", "duration", "size", "plural", "call",
        "interval", "format_width", "in_words",
    )  # fmt: skip
    environment.filters.update({name: getattr(formatting, name) for name in names})
    environment.filters["shell"] = lambda path: shlex.quote(str(path))
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    environment.filters["json"] = lambda value: json.dumps(value, indent=2)
    environment.globals.update(light=css_variables("light"), dark=css_variables("dark"))
    environment.globals.update(objectives=glossary.OBJECTIVES, partitions=glossary.PARTITIONS)
    environment.globals.update(quantity={**PARTICIPANT, **RUN}, score_name=formatting.score_name)
    return environment


def common_score(runs: Sequence[RunRecord]) -> ScoreRecord:
    """Return what runs are scored by; where they differ, a score without a name of its own."""
    kinds = {run.score for run in runs}
    return kinds.pop() if len(kinds) == 1 else ScoreRecord("score", "")


def _interruption(run: RunRecord) -> str | None:
    """Say how a run or its payout ended that has not finished; None for a finished one."""
    if run.ending is None:
        done = f"round {len(run.rounds)} of {run.start['max_rounds']}"
        return f"No end is recorded after {done}: the run is going on, or it was killed."
    if run.ending["event"] == "stop":
        return f"Stopped by {run.ending['signal']} after round {run.ending['round']} of {run.start['max_rounds']}."
    if run.payout_unfinished:
        return "The payout is unfinished, for rewards/manifest.json is missing; aequa allocate writes it again."
    return None


def _agreement(run: RunRecord) -> dict[str, float | None]:
    """Return each estimator's Pearson coefficient with the standalone accuracy; None where it is undefined."""
    reference = run.scores.get("standalone")
    if reference is None or len(reference) < 2:
        return {}
    return {
        name: float(pearsonr(reference, scores).statistic) if len({*scores}) > 1 < len({*reference}) else None
        for name, scores in run.scores.items()
        if name != "standalone"
    }


def _rejected(run: RunRecord) -> dict[str, list[int]]:
    """Return, for every participant of which an update was rejected, the rounds in which it was."""
    rounds: dict[str, list[int]] = {}
    for r in run.rounds:
        for name in r.rejected:
            rounds.setdefault(name, []).append(r.number)
    return rounds
