"""On the documentation site, `Example:` of our docstrings is a block of code; it would be a quotation."""

from __future__ import annotations

import inspect
from typing import Any

import griffe


class DocstringExamples(griffe.Extension):
    """`Example:` is our last section, and an `Example:` is either a session of Python or a flow."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is None:
            return
        text, heading, example = inspect.cleandoc(obj.docstring.value).partition("\nExample:\n")
        if heading:
            language = "pycon" if ">>>" in example else "python"
            code = inspect.cleandoc(example)
            obj.docstring.value = f"{text}\n\n**Example:**\n\n```{language}\n{code}\n```\n"
