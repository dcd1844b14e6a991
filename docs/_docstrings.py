"""For mkdocstrings: our docstrings have two habits that griffe does not know."""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod):`(~?)([\w.]+)`")


class Habits(griffe.Extension):
    """Reads `Example:` as a section of code, which griffe takes for a note, and the roles of Sphinx as names."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite a docstring before it is parsed."""
        if obj.docstring is not None:
            text = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
            obj.docstring.value = _ROLE.sub(lambda role: f"`{role[2].split('.')[-1] if role[1] else role[2]}`", text)
