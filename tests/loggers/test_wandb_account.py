"""Which account wandb has, and what its mode asks for, are wandb's own business; a local server stands for its own."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import wandb

from tests.conftest import SMALL_RUN
from wsol.cli import main
from wsol.errors import InputError
from wsol.loggers.wandb import _log_in

VIEWER = {"id": "1", "username": "me", "entity": "me", "email": "", "flags": "{}", "teams": {"edges": []}}


class Server(ThreadingHTTPServer):
    """Answers who owns a key."""

    daemon_threads = True
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.keys: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/graphql":
            self.server.keys.append(self.headers["Authorization"])
        answer = json.dumps({"data": {"viewer": VIEWER}}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that wandb takes for its own; no account is set up."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{running.server_port}")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        monkeypatch.setenv("HOME", str(tmp_path))
        wandb.teardown()
        yield running
        running.shutdown()
        thread.join()
    monkeypatch.undo()
    wandb.teardown()


def write_netrc(server: Server, folder: Path) -> None:
    file = folder / "netrc"
    file.write_text(f"machine 127.0.0.1:{server.server_port}\n  login user\n  password {'a' * 40}\n")
    file.chmod(0o600)


def test_the_key_of_an_own_server_is_found_whatever_the_machine_is_called(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_netrc(server, tmp_path)
    monkeypatch.setenv("WANDB_HOST", "my-laptop")  # wandb's name for the machine
    _log_in()
    assert len(set(server.keys)) == 1


def test_a_key_that_the_server_refuses_is_one_clear_error(server: Server, tmp_path: Path) -> None:
    write_netrc(server, tmp_path)
    server.status = 401
    with pytest.raises(InputError, match=r"logger=wandb: .*401.*; run `wandb login`, or keep it local with"):
        _log_in()


@pytest.mark.parametrize("mode", [None, "online", "shared"])
def test_modes_that_send_need_an_account(server: Server, mode: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if mode is not None:
        monkeypatch.setenv("WANDB_MODE", mode)
    wandb.teardown()
    with pytest.raises(InputError, match="no account is set up; run `wandb login`"):
        _log_in()


def test_an_unknown_mode_is_one_clear_error(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "off")
    wandb.teardown()
    with pytest.raises(InputError, match=r"logger=wandb: .*mode .*'offline'"):
        _log_in()


@pytest.mark.parametrize(("mode", "kept"), [("offline", True), ("dryrun", True), ("disabled", False)])
def test_modes_that_send_nothing_train_without_an_account(
    server: Server, mode: str, kept: bool, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    wandb.teardown()
    words = [*SMALL_RUN, f"data_dir={data_dir}", "logger=wandb", "trainer.max_epochs=1", f"run_dir={tmp_path / 'run'}"]
    assert main(["train", *words]) == 0
    assert bool([path for path in (tmp_path / "run").rglob("offline-run-*") if path.is_dir()]) == kept
    assert os.environ["WANDB_MODE"] == mode
    assert server.keys == []
