"""For mkdocstrings: the docstrings say `Example:`, which griffe takes for a note; under `Examples:` it shows code."""

from typing import Any

import griffe


class Examples(griffe.Extension):
    """Reads the singular as the plural."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the heading before the docstring is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
