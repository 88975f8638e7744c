"""Fetch one file over HTTP: resume an interrupted transfer, retry when the network fails, check the result.

Libraries such as pooch fetch, check and rename, but start again after an interruption, too costly for 150 GB.
"""

from __future__ import annotations

import http.client
import re
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from wsol.data.prepare.archives import Progress, file_digests
from wsol.errors import InputError
from wsol.files import flush

RETRIED = frozenset((408, 425, 429, 500, 502, 503, 504))
"""HTTP status codes that are retried."""

NETWORK = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


class _Answer(NamedTuple):
    body: http.client.HTTPResponse
    start: int
    """Position in the file of the first byte of ``body``."""
    total: int | None
    """Bytes of the whole file."""


def download(
    url: str,
    path: Path,
    *,
    md5: str | None = None,
    sha256: str | None = None,
    tries: int = 5,
    wait: float = 1.0,
    timeout: float = 60.0,
    progress: Progress | None = None,
) -> Path:
    """Fetch ``url`` to ``path``; an existing file with the right checksum is kept.

    The bytes received so far are in ``path`` + ``.part``, where a later run resumes.

    Args:
        url: http or https.
        path: the file to write.
        md5: checksum, hex; None to leave it unchecked.
        sha256: SHA-256 checksum, as hexadecimal digits; None if it is not known.
        tries: how often to try before giving up; the count restarts whenever bytes arrive.
        wait: seconds before the second try, doubled each time.
        timeout: seconds without an answer that count as a failure.
        progress: called after each megabyte.

    Returns:
        ``path``.

    Raises:
        InputError: if the address does not exist, the network fails ``tries`` times or the checksum is wrong.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(f"{url}: expected an address that starts with http:// or https://")
    wanted = {name: value.lower() for name, value in (("md5", md5), ("sha256", sha256)) if value}
    if path.is_file() and file_digests(path, list(wanted)) == wanted:
        return path
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    resumed = part.is_file()
    _fetch(url, part, tries, wait, timeout, progress)
    found = file_digests(part, list(wanted))
    if found != wanted and resumed:  # the file at the address may have changed in between
        part.unlink()
        _fetch(url, part, tries, wait, timeout, progress)
        found = file_digests(part, list(wanted))
    if found != wanted:
        part.unlink()
        raise InputError(f"{url}: wrong checksum {found}, expected {wanted}; the download was removed, try again")
    flush(part)
    part.replace(path)
    return path


def _fetch(url: str, part: Path, tries: int, wait: float, timeout: float, progress: Progress | None) -> None:
    left, pause = tries, wait
    while True:
        before = _size(part)
        try:
            if _transfer(url, part, timeout, progress):
                return
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code not in RETRIED:
                raise InputError(f"{url}: the server answers {error.code} {error.reason}; check the address") from error
            reason = f"the server answers {error.code}"
        except NETWORK as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        if _size(part) > before:
            left, pause = tries, wait
        left -= 1
        if left <= 0:
            resume = f"run again to resume at {_size(part)} bytes"
            raise InputError(f"{url}: {reason}; gave up after {tries} tries; {resume}")
        time.sleep(pause)
        pause *= 2


def _transfer(url: str, part: Path, timeout: float, progress: Progress | None) -> bool:
    """Fetch the missing bytes; return whether the file is then complete."""
    answer = _ask(url, part, timeout)
    if answer is None:
        return True
    with answer.body as body:
        _check_space(url, part, answer)
        with part.open("r+b" if part.is_file() else "wb") as file:
            file.truncate(answer.start)
            file.seek(answer.start)
            while chunk := body.read(1 << 20):
                file.write(chunk)
                if progress:
                    progress(file.tell(), answer.total)
    return answer.total is None or _size(part) == answer.total


def _ask(url: str, part: Path, timeout: float) -> _Answer | None:
    """Ask for the bytes after those in ``part``; None if there are none."""
    have = _size(part)
    headers = {"User-Agent": "wsol", "Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        body = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        if error.headers.get("Content-Range", "").strip() == f"bytes */{have}":
            return None
        part.unlink()  # longer than the file at the address, so part of another one
        return _ask(url, part, timeout)
    length = body.headers.get("Content-Length")
    if body.status != 206:
        return _Answer(body, 0, int(length) if length else None)
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", body.headers.get("Content-Range", "").strip())
    if not found or int(found[1]) > have:
        body.close()
        raise InputError(f"{url}: the server sends another part of the file than was asked for; remove {part}")
    return _Answer(body, int(found[1]), None if found[2] == "*" else int(found[2]))


def _check_space(url: str, part: Path, answer: _Answer) -> None:
    missing = (answer.total or 0) - answer.start
    free = shutil.disk_usage(part.parent).free
    if missing > free:
        raise InputError(f"{part.parent}: {url} needs {missing:,} bytes more, {free:,} bytes are free")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0
