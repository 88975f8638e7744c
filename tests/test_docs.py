"""The docs site builds without network, leads nowhere astray, and what it shows runs."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from mkdocs.exceptions import PluginError

from scripts import docs_docstrings, docs_hooks, docs_imports
from tests.conftest import SMALL_RUN
from tests.pages import ROOT, blocks, check_command, commands
from tests.test_imports import FOLDERS
from wsol.cli import main

PAGES = sorted((ROOT / "docs").rglob("*.md"))
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
SOURCES = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data" / "README.md"]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "object": "data"}
"""Attributes by which a page loads something. A link element does too, unless it only names a page."""


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# -- the site ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as scripts/docs does: mkdocs.yml is strict, so a warning is a failure."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = build("--site-dir", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def build(*words: str) -> subprocess.CompletedProcess:
    """Build the site; a proxy that refuses all stands for a missing network."""
    nowhere = {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https", "all")}
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", *words],
        cwd=ROOT,
        env={**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_warning_about_a_docstring_stops_the_build(tmp_path: Path) -> None:
    """A parameter without a type, in a package of its own that a site under this project's settings shows."""
    module = 'def f(x):\n    """Do.\n\n    Args:\n        x: no type.\n    """\n'
    (tmp_path / "planted.py").write_text(module, encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# Planted\n\n::: planted\n", encoding="utf-8")
    settings = {
        "INHERIT": str(ROOT / "mkdocs.yml"),
        "docs_dir": "docs",
        "hooks": [],
        "extra_css": [],
        "nav": [{"Start": "index.md"}],
        "plugins": {"mkdocstrings": {"handlers": {"python": {"paths": [str(tmp_path)]}}}},
    }
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    words = ("--config-file", str(tmp_path / "mkdocs.yml"), "--site-dir", str(tmp_path / "site"))
    assert "planted.py:5: No type or annotation for parameter 'x'" in (done := build(*words)).stderr
    assert done.returncode != 0
    (tmp_path / "planted.py").write_text(module.replace("f(x)", "f(x: int) -> None"), encoding="utf-8")
    assert (done := build(*words)).returncode == 0, done.stderr


class Loads(HTMLParser):
    """What a page loads, what it links to, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        if tag in LOADING and LOADING[tag] in found:
            self.loaded.append(found[LOADING[tag]])
        if tag == "link" and found.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(found["href"])
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        self.anchors |= {found[key] for key in ("id", "name") if key in found}


@pytest.fixture(scope="module")
def read(site: Path) -> dict[Path, Loads]:
    """All pages of the site but that for unknown addresses, which names its files from the root."""
    return {
        page: Loads(page.read_text(encoding="utf-8")) for page in sorted(site.rglob("*.html")) if page.stem != "404"
    }


def test_nothing_is_loaded_from_elsewhere(site: Path, read: dict[Path, Loads]) -> None:
    assert len(read) > 20
    for page, found in read.items():
        assert found.loaded
        for address in found.loaded:
            parts = urlsplit(address)
            assert not parts.scheme, f"{page}: {address}"
            assert not parts.netloc, f"{page}: {address}"
            assert (page.parent / unquote(parts.path)).is_file(), f"{page}: {address}"
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        for address in re.findall(r"url\(\s*[\"']?([^\"')]+)", text) + re.findall(r"@import\s+[\"']([^\"']+)", text):
            assert not re.match(r"(https?:)?//", address), f"{sheet}: {address}"
    for picture in site.rglob("*.svg"):
        assert not re.search(r"(href|src)=\"(https?:)?//", picture.read_text(encoding="utf-8")), picture


def test_every_link_inside_the_site_leads_to_a_page_and_its_anchor(read: dict[Path, Loads]) -> None:
    followed = 0
    for page, found in read.items():
        for address in found.links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert target.exists(), f"{page}: {address}"
            if parts.fragment and target in read:
                assert unquote(parts.fragment) in read[target].anchors | {"__skip"}, f"{page}: {address}"
            followed += 1
    assert followed > 1000


def test_the_search_index_has_pages_and_docstrings(site: Path) -> None:
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    assert "Where a threshold comes from" in index
    assert "api/protocols.html#wsol.protocols.LocalizationProtocol.evaluate" in index


def test_every_folder_and_file_of_the_package_is_in_the_reference() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "api").glob("*.md"))
    shown = set(re.findall(r"^::: wsol\.(\w+)$", text, re.M))
    parts = {path.stem for path in (ROOT / "wsol").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert parts - shown == {"__init__", "cli"}, "it needs a line in docs/api"
    assert shown - parts == set()


def test_docstrings_become_sections_and_examples(site: Path) -> None:
    page = (site / "api" / "functional.html").read_text(encoding="utf-8")
    assert "<blockquote>" not in page, "doctests must not become quotations"
    assert page.count("Examples:") > 20
    assert "Parameters:" in page
    assert "Raises:" in page


def test_a_link_to_nothing_stops_the_build() -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="tutorials/table.md"))
    rewritten = docs_hooks.on_page_markdown("[a](../../CONTRIBUTING.md) [b](../../wsol) [c](../tables.md#x)", page=page)
    assert rewritten == "[a](../contributing.md) b [c](../tables.md#x)"
    with pytest.raises(PluginError, match=r"docs/tutorials/table.md: the link to ../nothing.md leads nowhere"):
        docs_hooks.on_page_markdown("[a](../nothing.md)", page=page)


def test_docstrings_are_rewritten_as_their_example_says() -> None:
    assert doctest.testmod(docs_docstrings) == (0, 1)
    bar = "====  ====  ===="
    rows = [bar, "kind  what  why", bar, "a     one   two", bar]
    indented = [f"    {row}" for row in rows]
    text = docs_docstrings.as_markdown("\n".join(["These:", "", *rows, "", "and no other."]))
    assert text.splitlines() == ["These:", "", *indented, "", "and no other."]


@pytest.mark.parametrize("page", SOURCES, ids=name)
def test_links_are_right_in_the_repository_too(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        parts = urlsplit(target)
        if not parts.scheme and parts.path:
            assert (page.parent / parts.path).exists(), target


def test_the_picture_of_the_import_rule_is_current() -> None:
    """If not: python -m scripts.docs_imports."""
    drawn = docs_imports.FILE.read_text(encoding="utf-8")
    assert drawn == docs_imports.picture(FOLDERS)
    assert re.findall(r'class="name".*>(\w+)<', docs_imports.picture(["a", "b", "c", "d", "e", "f"])) == list("fabcde")


# -- what pages show ---------------------------------------------------------------------------------------------------

COMPOSED = [
    (page, command)
    for page in PAGES
    for command in commands(page.read_text(encoding="utf-8"))
    if "--config-dir" not in command  # those are of tutorials, and run below
]


@pytest.mark.parametrize(("page", "command"), COMPOSED, ids=[f"{name(page)}: {command}" for page, command in COMPOSED])
def test_commands_are_understood(page: Path, command: str) -> None:
    check_command(command)


def test_the_example_of_protocols_prints_what_stands_below_it(capsys) -> None:
    code, printed = blocks(ROOT / "docs" / "protocols.md")[:2]
    assert (code.language, printed.language) == ("python", "text")
    exec(compile(code.text, "protocols.md", "exec"), {})
    assert capsys.readouterr().out == printed.text


@pytest.mark.parametrize("page", TUTORIALS, ids=name)
def test_tutorials_run_from_top_to_bottom(
    page: Path, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are written where their titles say, shell lines and Python run in order, on small generated data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    small = [*(word for word in SMALL_RUN if "epochs" not in word), "trainer.max_epochs=1", f"data_dir={data_dir}"]
    extra = {"train": small, "sweep": small, "table": small, "eval": ["trainer.accelerator=cpu"]}
    ran = 0
    for block in blocks(page):
        if block.title:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.text, encoding="utf-8")
            if block.language == "yaml":
                assert yaml.safe_load(block.text)
        elif block.language == "bash":
            for command in commands(block.text):
                words = shlex.split(command)[1:]
                assert main([*words, *extra.get(words[0], [])]) == 0, command
                ran += 1
        elif block.language == "python":
            exec(compile(block.text, name(page), "exec"), {})
    assert ran > 2
    sys.modules.pop("my_net", None)  # of the tutorial that writes it
