"""The import rule of the design: a file imports only from rooms above its own; siblings do not import one another."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "wsol"

FOLDERS = [
    "errors",
    "extras",
    "files",
    "process_memory",
    "tensor_files",
    "types",
    "functional",
    "data",
    "backbones",
    "heads",
    "edits",
    "batch_transforms",
    "protocols",
    "box_evaluation",
    "metrics",
    "models",
    "explain",
    "interop",
    "config",
    "runs",
    "loggers",
    "callbacks",
    "engine",
    "features",
    "patterns",
    "tables",
    "sweeps",
    "report",
    "cli",
    "api",
]
"""From the ground up: a file imports only from folders before its own."""

BASES = {
    "backbones": {"base", "fixed_size", "rescaled", "timm_structure", "vit", "weights"},
    "heads": {"base", "branch", "erasing", "tscam"},
    "metrics": {"_per_image", "_curves", "_box_accuracy", "_table_rows", "_localization_functions"},
    "callbacks": {"run_logger"},
    "batch_transforms": set(),
    "edits": set(),
}
"""Files of a room that its other files may import; rooms not named here are composed freely inside."""

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def folder(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, ...]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (tuple(name.split(".")[1:]) for name in names if name.startswith("wsol."))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_a_file_imports_only_from_folders_before_its_own(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts
    for target in imports(path):
        if folder(target) == "__version__":
            continue
        assert FOLDERS.index(folder(target)) <= FOLDERS.index(folder(own)), (
            f"{'.'.join(target)} lies below {folder(own)}"
        )
        inside_own_room = folder(target) == folder(own) and len(own) > 1 and own[-1] != "__init__.py"
        if inside_own_room and folder(own) in BASES and len(target) > 1:
            assert target[1] in BASES[folder(own)], f"siblings must not import one another: {'.'.join(target)}"


def test_public_modules_are_strictly_typed() -> None:
    """`mypy` in scripts/test holds them to what --strict asks; a new public folder belongs into pyproject.toml."""
    settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    (strict,) = (each for each in settings["overrides"] if each.get("disallow_untyped_defs"))
    named = {name.removeprefix("wsol.").removesuffix(".*") for name in strict["module"]}
    assert {"api", "backbones", "heads", "edits", "batch_transforms", "explain", "metrics", "models"} <= named


def test_wandb_is_imported_in_one_file() -> None:
    users = [path.name for path in FILES if "import wandb" in path.read_text(encoding="utf-8")]
    assert users == ["wandb.py"]


def test_nothing_but_the_command_line_imports_the_command_line() -> None:
    for path in FILES:
        if folder(path.relative_to(PACKAGE).parts) != "cli":
            text = path.read_text(encoding="utf-8")
            found = re.findall(r"^\s*(?:from|import) wsol\.cli.*|^\s*from wsol import .*\bcli\b.*", text, re.MULTILINE)
            assert not found, f"{path}: {found[0].strip()}"


def test_the_screen_belongs_to_the_command_line() -> None:
    """Progress goes through a callback, tables are returned: only what draws on a terminal knows `rich`."""
    users = {
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        if re.search(r"^\s*(?:from|import) rich\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert {user for user in users if not user.startswith("cli/")} == {"tables/render.py"}  # one of its formats
    assert "cli/screen.py" in users


def test_only_the_command_line_prints() -> None:
    """Standard output belongs to the verbs; a sweep's workers speak on standard error."""
    for path in FILES:
        if folder(path.relative_to(PACKAGE).parts) == "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                to = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}.get("file")
                assert node.func.id != "print" or to == "sys.stderr", (
                    f"{path}:{node.lineno} prints; return it, or tell a callback"
                )


@pytest.mark.parametrize("package", ["hydra", "omegaconf"])
def test_hydra_is_used_by_few(package: str) -> None:
    users = (
        {"config", "cli"}
        if package == "hydra"
        else {"api", "config", "cli", "runs", "engine", "loggers", "report", "sweeps", "features", "patterns", "tables"}
    )
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        if f"from {package}" in text or f"import {package}" in text:
            assert folder(path.relative_to(PACKAGE).parts) in users, path


def test_hydra_builds_nothing() -> None:
    """Its `instantiate` resolves a config again, and what it refuses differs from version to version."""
    for path in FILES:
        assert "hydra.utils" not in path.read_text(encoding="utf-8"), path


def test_no_method_or_backbone_is_named_in_an_if() -> None:
    """Methods, backbones and datasets are chosen in YAML; code that asks for one by name breaks the one-file rule."""
    names = {
        choice.stem
        for group in ("backbone", "method", "data")
        for choice in (PACKAGE.parent / "configs" / group).rglob("*.yaml")
    }
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.If | ast.IfExp):
                words = {
                    c.value for c in ast.walk(node.test) if isinstance(c, ast.Constant) and isinstance(c.value, str)
                }
                assert not words & names, f"{path}:{node.lineno} asks for {words & names}"
