"""The help of a verb: one sentence for each option."""

import re
import shutil
from argparse import SUPPRESS, Action
from collections.abc import Iterable
from textwrap import wrap
from typing import Any

from jsonargparse import DefaultHelpFormatter
from typing_extensions import override

# Room for the longest option, `--trainer.participants_per_round`.
OPTION = 34


class ShortHelp(DefaultHelpFormatter):
    """Shows each option's name, the first sentence of its description and its default.

    Types, environment variables and the rest of the text stand in the reference of the documentation;
    ``--model.help``, ``--data.help`` and the like show the options of a class in full.
    """

    @override
    def add_usage(self, usage: str | None, actions: Iterable[Action], *args: Any, **kwargs: Any) -> None:
        verb = self._prog.split()[-1]
        example = usage or (
            "--config configs/digits.yaml --trainer.max_rounds 5"
            if verb == "fit"
            else "--config runs/demo/config.yaml --ckpt_path last"
        )
        needed = example.split()[0]
        argument = "--config FILE" if needed == "--config" else f"{needed} DIR" if needed[0] == "-" else "DIR [DIR ...]"
        lines = f"usage: aequa {verb} {argument} [options]\nexample: aequa {verb} {example}\n\n"
        self._add_item(lambda: lines, [])

    @override
    def start_section(self, heading: str | None) -> None:
        # Titles of groups would repeat docstrings of classes.
        super().start_section(None)

    @override
    def _format_action(self, action: Action) -> str:
        names = [name for name in action.option_strings if name.startswith("-") and not name.endswith("+")]
        # `--trainer FILE` and `--model.help` would double the list; links between options have no name of their own.
        doubled = action.dest.endswith(".help") or action.help == "Path to a configuration file."
        if not names or doubled or action.help == SUPPRESS:
            return ""
        columns = max(shutil.get_terminal_size().columns, 80) - OPTION - 3
        first, *rest = wrap(self._summary(action), columns) or [""]
        return "".join([f"  {', '.join(names):{OPTION}} {first}\n", *(f"{'':{OPTION + 3}}{line}\n" for line in rest)])

    def _summary(self, action: Action) -> str:
        text = re.sub(
            r"\s*\((required, )?type: .*\)$", "", self._expand_help(action) if action.help else "", flags=re.S
        )
        if text.startswith("One or more arguments specifying"):
            return f"A class and its options; --{action.dest}.help lists them"
        if action.required:
            return f"{first_sentence(text)} (required)"
        if action.nargs != 0 and action.default not in (None, SUPPRESS, {}, []):
            return f"{first_sentence(text)} ({action.default})"
        return first_sentence(text)


def first_sentence(text: str) -> str:
    """Return the first sentence of a docstring, without markup.

    Example:
        >>> first_sentence("``cpu``, ``cuda`` ... or ``auto``, as of Lightning. More follows.")
        'cpu, cuda ... or auto, as of Lightning'
    """
    return re.split(r"(?<!\.)\.(?:\s|$)", text.replace("`", ""), maxsplit=1)[0].strip()
