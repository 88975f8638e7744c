"""Docstrings as the site wants them: examples by the name that the parser knows, reST blocks as Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe

TABLE = re.compile(r"(?m)^=+ +=[= ]*\n(?:.+\n)*=+ +=[= ]*$")
"""A table between bars of equal signs, from the first bar to the last."""


class Docstrings(griffe.Extension):
    """Rewrites what Google style and Markdown understand otherwise than people do."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    r"""Return the docstring with Markdown's blocks.

    Example:
        >>> as_markdown("The sum::\n\n    a + b\n\nExample:\n    >>> 1")
        'The sum:\n\n    a + b\n\nExamples:\n    >>> 1'
    """
    text = re.sub(r"(?m)^Example:$", "Examples:", text)
    text = re.sub(r"(?m)(?<=\S)::$", ":", text)
    text = re.sub(r"(?m)^::\n", "", text)
    return TABLE.sub(lambda match: "\n".join(f"    {line}" for line in match[0].splitlines()), text)
