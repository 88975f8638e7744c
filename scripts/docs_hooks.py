"""What mkdocs.yml adds to MkDocs: pages from outside docs/, and links as right as on GitHub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"CONTRIBUTING.md": "contributing.md", "data/README.md": "data.md"}
"""Files of the repository that are pages of the site, by their place there."""

LINK = re.compile(r"\[([^\]]+)\]\(((?!https?:|#|mailto:)[^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add `PAGES`."""
    for source, place in PAGES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **kwargs: Any) -> str:
    """Turn links to files outside docs/ into links to the site's page of them, or into their names alone.

    Raises:
        PluginError: there is no such file.
    """
    sources = {place: source for source, place in PAGES.items()}
    place = page.file.src_uri
    file = ROOT / sources.get(place, f"docs/{place}")

    def corrected(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        wanted = (file.parent / target).resolve()
        if not wanted.exists():
            raise PluginError(f"{file.relative_to(ROOT)}: the link to {target} leads nowhere")
        inside = wanted.relative_to(ROOT).as_posix()
        if inside in PAGES:
            return f"[{text}]({'../' * place.count('/')}{PAGES[inside]}{anchor})"
        if inside.startswith("docs/"):
            return f"[{text}]({'../' * place.count('/')}{inside.removeprefix('docs/')}{anchor})"
        return text

    return LINK.sub(corrected, markdown)
