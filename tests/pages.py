"""What pages show, as a reader would use it: Python blocks, files to write, lines for the shell."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from omegaconf import OmegaConf

from wsol.cli import help as help_text
from wsol.cli.app import parse
from wsol.cli.call import composed
from wsol.cli.multirun import single_calls
from wsol.cli.verbs import VERBS
from wsol.config.compose import compose

ROOT = Path(__file__).parents[1]


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    title: str | None
    """The file that it is to be written to."""
    text: str


def blocks(page: Path | str) -> list[Block]:
    """The fenced blocks of a page, or of a part of its text, in order."""
    text = page.read_text(encoding="utf-8") if isinstance(page, Path) else page
    found = re.findall(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", text, re.M | re.S)
    return [Block(language, title or None, text) for language, title, text in found]


def commands(text: str) -> list[str]:
    """The lines that begin with ``wsol``, those continued in one piece, without comments."""
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [line.partition(" #")[0].strip() for line in lines if line.startswith("wsol ")]


def check_command(command: str) -> None:
    """Compose what a line says, without looking for its runs: names in angle brackets, and dots, stand for anything."""
    line = re.sub(r"<[^>]*>", "x", command).partition(" > ")[0].replace("...", "x")
    words = shlex.split(line)[1:]
    if words == ["--help"]:
        assert all(verb in help_text.overview() for verb in VERBS)
        return
    call = parse(words)
    for one in single_calls(call) if call.multirun else [call]:
        config = composed(one)
        if one.verb.passes_on:
            compose("train", OmegaConf.select(config, one.verb.passes_on), one.config_dirs)
