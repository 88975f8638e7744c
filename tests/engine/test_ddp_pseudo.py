"""`wsol eval pseudo=...` with two processes, the second of which has fewer images: the bytes of one process."""

from __future__ import annotations

from pathlib import Path

from tests.engine.ddp_worker import eval_words, free_port, run_commands, together
from wsol.cli import main

WORLD = 2


def commands(folder: Path, run: Path, data_dir: Path, world: int) -> list[list[str]]:
    own = ["split=train", "protocol=cam2016", "data.train_images=9"]
    return [
        [*eval_words(run, folder / str(world) / kind, data_dir, "few", world), *own, f"pseudo={kind}"]
        for kind in ("boxes", "masks")
    ]


def test_no_byte_depends_on_the_number_of_processes(tmp_path: Path, finished_run: Path) -> None:
    wait = together(
        WORLD, tmp_path, run_commands, WORLD, free_port(), commands(tmp_path, finished_run, tmp_path / "data", WORLD)
    )
    for command in commands(tmp_path, finished_run, tmp_path / "alone", 1):
        assert main(command) == 0
    wait()
    for kind, files in (("boxes", ["boxes.csv"]), ("masks", ["ids.txt", "masks.npy", "ends.npy"])):
        alone, shared = (tmp_path / str(world) / kind for world in (1, WORLD))
        for name in (*files, "about.json"):
            assert (shared / name).read_bytes() == (alone / name).read_bytes(), name
        assert {file.name for file in shared.iterdir()} == {file.name for file in alone.iterdir()}
    assert len((tmp_path / "1" / "masks" / "ids.txt").read_text().splitlines()) == 9
