"""From published archives to a verified dataset: what ``wsol data prepare`` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from wsol.data.file_source import ListedSource, verify_source
from wsol.data.inspection import Report
from wsol.data.prepare.archives import MARKER, Archive, Progress, marks, unpack
from wsol.data.prepare.download import download as fetch
from wsol.data.source import Source
from wsol.errors import InputError, unknown


def prepare(
    dataset: type[ListedSource],
    archives: Sequence[str | Path],
    root: str | Path,
    download: bool = False,
    urls: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    build: Callable[..., Source] | None = None,
) -> Report:
    """Unpack archives of a dataset under ``root``, and verify it.

    An interrupted run can be resumed. Only one process at a time prepares a folder.

    Args:
        dataset: its class, such as `wsol.data.datasets.cub.CUB`; its ``archives`` are the published files.
        archives: files with their published names.
        root: the dataset's folder, created if it does not exist.
        download: first fetch archives with a public address that are not given, into the folder that contains ``root``.
        urls: other addresses, by the archive's published name.
        progress: called with bytes while fetching and unpacking.
        build: makes the source to verify; ``dataset(root)`` if None.

    Returns:
        The report of the dataset's check.

    Raises:
        InputError: if an archive is not one of the dataset's, is damaged or unsafe, or cannot be fetched, or if
            another process is preparing the same folder.
    """
    folder = Path(root)
    published = {archive.name: archive for archive in dataset.archives}
    if not published:
        raise InputError(f"{dataset.__name__} has no published archives to unpack; arrange its files by data/README.md")
    given = _match([Path(path) for path in archives], published)
    if not given and not download:
        raise InputError(f"no archive given; expected some of {', '.join(published)}")
    addresses = _addresses(published, given, urls or {}) if download else {}
    with _alone(folder):
        fetched = {
            name: fetch(url, folder.parent / name, md5=published[name].md5, progress=progress)
            for name, url in addresses.items()
        }
        for name, path in (fetched | given).items():
            unpack(path, published[name], folder, progress)
    return _verified(build, dataset, folder, published)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a lock beside a dataset's folder. The lock file stays afterwards, without effect.

    Raises:
        InputError: another process holds it, or the lock file cannot be made.
    """
    place = folder.resolve()
    lock = FileLock(place.with_name(f".{place.name}.prepare.lock"))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except OSError as error:
        if not isinstance(error, Timeout):
            raise InputError(f"{place.parent}: cannot be written ({error.strerror}); choose another root") from error
        raise InputError(
            f"{folder}: another `wsol data prepare` is filling this folder; wait until it ends, and run again"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _match(paths: Sequence[Path], published: Mapping[str, Archive]) -> dict[str, Path]:
    for path in paths:
        if path.name not in published:
            raise unknown("archive", path.name, published)
        if not path.is_file():
            raise InputError(f"{path}: no such archive")
    return {path.name: path for path in paths}


def _addresses(published: Mapping[str, Archive], given: Mapping[str, Path], urls: Mapping[str, str]) -> dict[str, str]:
    """Return the addresses of archives that are not given; those that need registration are left to the user."""
    for name in urls:
        if name not in published:
            raise unknown("archive", name, published)
    addresses = {name: urls.get(name, archive.url) for name, archive in published.items() if name not in given}
    if not given and not any(addresses.values()):
        raise InputError(
            f"{', '.join(published)} have no public address: register with the publisher, fetch them yourself and give "
            "them as archives"
        )
    return {name: url for name, url in addresses.items() if url}


def _verified(
    build: Callable[..., Source] | None,
    dataset: type[ListedSource],
    folder: Path,
    published: Mapping[str, Archive],
) -> Report:
    report = verify_source(build or (lambda sink: dataset(folder, sink=sink)))
    report.name = dataset.__name__
    for name, mark in marks(folder).items():
        if name in published and published[name].md5 not in (None, mark.get("md5")):
            report.notes.append(f"{name} is not the published file: its md5 is {mark.get('md5')}")
    if not report.ok:
        report.notes.append(f"to unpack everything anew, remove {folder / MARKER} and run again")
    return report
