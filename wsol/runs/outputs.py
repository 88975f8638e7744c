"""The output folder of a verb: written completely or not at all, and never over other files.

A verb prepares its folder under a hidden name. A new folder appears with one rename. If the folder exists, the results
are moved into it at the end. So a verb that is stopped or killed leaves nothing that blocks the same command.

A finished folder has a marker file, `MARKER`, which names the verb and every file that it wrote. ``force=true``
replaces an earlier output of the same verb, and nothing else.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from wsol.errors import InputError
from wsol.files import atomic_file, flush_all, flush_folder, hidden, remove_leftovers
from wsol.runs.folder import RUN_DIR_VARIABLE, is_first_process, shared_folder, started_from_outside

MARKER = ".wsol-output.json"
"""Name of the file in an output folder that names the verb and the files it wrote."""

_OLD = ".replaced"
_WITHOUT_SPACE = (errno.ENOSPC, errno.EDQUOT)


class OutputFolder:
    """The output folder of one command; it is checked at once, before any work is done.

    Args:
        verb: name of the verb, such as ``predict``.
        out: the folder; None for a new one named by date and time, see `writing`.
        force: replace an earlier output of the same verb.

    Raises:
        InputError: ``out`` is not a folder, or it contains files, unless an earlier run of the same verb wrote all
            of them and ``force`` is set.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     output = OutputFolder("score", Path(place) / "out")
        ...     with output.writing(Path(place)) as folder:
        ...         _ = (folder / "results.json").write_text("{}")
        ...     sorted(file.name for file in output.folder.iterdir())
        ['.wsol-output.json', 'results.json']
    """

    def __init__(self, verb: str, out: str | Path | None, force: bool = False) -> None:
        self.verb, self.force = verb, force
        self._out = None if out is None else Path(out)
        self._given = os.environ.get(RUN_DIR_VARIABLE)
        self._final = self._out
        if self._out is not None and not self._given:
            _check(verb, self._out, force)

    @property
    def folder(self) -> Path:
        """The finished folder; if named by date and time, it is known when `writing` has ended."""
        assert self._final is not None
        return self._final

    @contextlib.contextmanager
    def writing(self, parent: Path) -> Iterator[Path]:
        """Yield a hidden folder to write to; it becomes the output folder when the block succeeds.

        All processes that Lightning starts get the folder of the first one. Processes started externally each get a
        folder of their own, and only that of the first one becomes the output folder.

        Args:
            parent: parent of a folder named by date and time, if ``out`` is None.

        Raises:
            InputError: the folder cannot be written, or files have appeared in it meanwhile; nothing is replaced then.
        """
        if self._given:
            self._final = Path(self._given)
            yield self._final
            return
        if self._out is None and (shared := shared_folder(parent)):
            _check(self.verb, shared, self.force)
            self._out = self._final = shared
        target = None if self._out is None else self._out.resolve()
        place = (parent.resolve() / "output") if target is None else target
        if target is not None and target.is_dir():
            place = target / "output"
        with _hidden_folder(place) as prepared:
            try:
                yield prepared
            except InputError as error:  # name the user's folder instead of the hidden one
                raise InputError(str(error).replace(str(prepared), str(self._out or parent))) from error
            if not started_from_outside() or is_first_process():
                self._publish(prepared, target, parent)

    def _publish(self, prepared: Path, target: Path | None, parent: Path) -> None:
        _relink(prepared)
        marker = _marker(self.verb, _entries(prepared), finished=True)
        (prepared / MARKER).write_text(marker, encoding="utf-8")
        flush_all(prepared)
        if target is None:
            self._final = _rename_to_date(prepared, parent)
        elif prepared.parent == target:
            _check(self.verb, target, self.force)
            _move_into(prepared, target, self.verb)
        else:
            try:
                os.rename(prepared, target)
            except OSError as error:
                raise InputError(f"{target}: files have appeared in it meanwhile; choose another out=...") from error
            flush_folder(target.parent)


def written_by(folder: Path) -> str | None:
    """Return the verb that wrote an output folder, from its marker file; None without a marker."""
    verb = _read_marker(folder).get("verb")
    return verb if isinstance(verb, str) else None


def check_file(file: Path, force: bool) -> None:
    """Refuse to write a single file over an existing one without ``force``.

    Raises:
        InputError: the file exists and ``force`` is not set, or a folder has its name.
    """
    if file.is_dir():
        raise InputError(f"{file} is a folder; expected the name of a file: choose another out=...")
    if file.exists() and not force:
        raise InputError(f"{file} exists already: replace it with force=true, or choose another out=...")


@contextlib.contextmanager
def _hidden_folder(place: Path) -> Iterator[Path]:
    """Yield a hidden folder beside ``place`` and remove it at the end, with empty parents created for it."""
    made = [folder for folder in place.parents if not folder.exists()]
    prepared = hidden(place)
    try:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(place)
            prepared.mkdir()
        except OSError as error:
            raise InputError(f"{place.parent}: cannot be written ({error.strerror}); choose another out=...") from error
        yield prepared
    except OSError as error:
        if error.errno in _WITHOUT_SPACE or str(error.filename or "").startswith(str(prepared)):
            raise InputError(
                f"{place.parent}: the results cannot be written ({error.strerror}); free some disk space, or choose "
                "another folder with out=..."
            ) from error
        raise
    finally:
        shutil.rmtree(prepared, ignore_errors=True)
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _check(verb: str, folder: Path, force: bool) -> None:
    """Refuse a folder whose content may not be replaced."""
    if not folder.is_dir():
        if folder.exists() or folder.is_symlink():
            raise InputError(f"{folder}: not a folder; choose another out=...")
        return
    remove_leftovers(folder / "output")
    entries = _entries(folder)
    if not entries and not (folder / MARKER).exists():
        return
    earlier = _read_marker(folder)
    if earlier.get("verb") != verb:
        raise InputError(
            f"{folder} is not an empty folder, and not an earlier output of `wsol {verb}`, and only those may be "
            "replaced: choose another out=..."
        )
    if added := sorted(set(entries) - set(earlier["files"])):
        more = f" and {len(added) - 3} more" if len(added) > 3 else ""
        raise InputError(
            f"{folder} is not an empty folder: an earlier `wsol {verb}` wrote it, but not {', '.join(added[:3])}{more}"
            "; move what is yours elsewhere, or choose another out=..."
        )
    if earlier["finished"] and not force:
        raise InputError(
            f"{folder} is not an empty folder: it contains an earlier output of `wsol {verb}`; replace it with "
            "force=true, or choose another out=..."
        )


def _entries(folder: Path) -> list[str]:
    """Return relative paths of files, links and empty folders in a folder, without the marker and hidden folders."""
    found = []
    for parent, folders, files in os.walk(folder):
        at = Path(parent).relative_to(folder)
        if at == Path():
            folders[:] = [name for name in folders if not name.startswith(".output.partial-")]
            files = [name for name in files if name != MARKER and not name.startswith(f".{MARKER}.partial-")]
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        found += [(at / name).as_posix() for name in (*files, *links)]
        if not folders and not files and at != Path():
            found.append(at.as_posix())
    return found


def _marker(verb: str, files: Sequence[str], *, finished: bool) -> str:
    content = {"verb": verb, "version": version("wsol"), "finished": finished, "files": sorted(files)}
    return json.dumps(content, indent=0) + "\n"


def _read_marker(folder: Path) -> dict[str, Any]:
    """Return the content of the marker; empty if there is none, or if another program wrote it."""
    try:
        found = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict) or not isinstance(found.get("files"), list):
        return {}
    return {
        "verb": found.get("verb"),
        "finished": found.get("finished") is not False,
        "files": list(map(str, found["files"])),
    }


def _move_into(prepared: Path, target: Path, verb: str) -> None:
    """Move the prepared files into place in an existing folder; an earlier output, already checked, is removed.

    The marker first allows for files of both outputs, so a command that is killed here can be repeated.
    """
    old, new = _entries(target), _entries(prepared)
    with atomic_file(target / MARKER) as file:
        file.write_text(_marker(verb, [*old, *new], finished=False), encoding="utf-8")
    (prepared / _OLD).mkdir()
    for name in {Path(entry).parts[0] for entry in old}:
        os.rename(target / name, prepared / _OLD / name)
    for entry in list(prepared.iterdir()):
        if entry.name not in (_OLD, MARKER):
            os.rename(entry, target / entry.name)
    os.replace(prepared / MARKER, target / MARKER)
    flush_folder(target)


def _rename_to_date(prepared: Path, parent: Path) -> Path:
    """Rename to ``<parent>/<date>_<time>``, with a number appended if it exists."""
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for suffix in ("", *(f"_{n}" for n in range(1, 1000))):
        folder = parent / f"{stamp}{suffix}"
        if folder.exists():
            continue
        try:
            os.rename(prepared, folder)
        except OSError:
            if folder.exists():
                continue
            raise
        flush_folder(parent)
        return folder
    raise InputError(f"{parent}: a thousand outputs in the same second; choose a folder with out=...")


def _relink(prepared: Path) -> None:
    """Make links between prepared files relative, so that they stay valid under the final name."""
    for parent, folders, files in os.walk(prepared):
        for link in (Path(parent) / name for name in (*folders, *files)):
            if link.is_symlink() and Path(goal := os.readlink(link)).is_relative_to(prepared):
                link.unlink()
                link.symlink_to(os.path.relpath(goal, link.parent))
