"""A SLURM of one machine for tests: `install` puts sbatch, srun and sacct on a PATH; jobs really run.

sbatch keeps each batch file as ``<folder>/batch-<job>.sh``, runs its array at once and sets the variables that SLURM
sets; srun starts the tasks of a step with theirs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

JOB = 4100
"""Number of the first job."""


def install(folder: Path) -> str:
    """Write the programs into a folder; returns a PATH that finds them first."""
    folder.mkdir(parents=True)
    for name in ("sbatch", "srun", "sacct"):
        program = folder / name
        begin = f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        program.write_text(f"{begin}from tests.cli import fake_slurm\nraise SystemExit(fake_slurm.{name}())\n")
        program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def sbatch() -> int:
    """Run a batch file in the background."""
    folder, file = Path(sys.argv[0]).parent, Path(sys.argv[-1])
    job = JOB + 100 * len(list(folder.glob("batch-*")))
    text = file.read_text()
    (folder / f"batch-{job}.sh").write_text(text)

    def option(name: str, otherwise: str) -> str:
        found = re.search(rf"^#SBATCH --{name}=(\S+)", text, flags=re.MULTILINE)
        return found.group(1) if found else otherwise

    nodes, tasks = option("nodes", "1"), option("ntasks-per-node", "1")
    last = int(re.split(r"[-%]", option("array", "0-0"))[1])
    for number in range(last + 1):
        place = {
            "SLURM_JOB_ID": str(job + 1 + number),
            "SLURM_ARRAY_JOB_ID": str(job),
            "SLURM_ARRAY_TASK_ID": str(number),
            "SLURM_JOB_NUM_NODES": nodes,
            "SLURM_NNODES": nodes,
            "SLURM_NTASKS": str(int(nodes) * int(tasks)),
            "SLURM_NTASKS_PER_NODE": tasks,
            "SLURM_NODELIST": "localhost",
            "SLURM_JOB_NODELIST": "localhost",
            "SLURM_PROCID": "0",
        }
        log = (folder / f"job-{job}_{number}.log").open("w")
        subprocess.Popen(["bash", file], env={**os.environ, **place}, stdout=log, stderr=log, start_new_session=True)
    print(f"Submitted batch job {job}")
    return 0


def srun() -> int:
    """Run a command once for each task of the job."""
    words = sys.argv[1:]
    command = words[next(i for i, word in enumerate(words) if "python" in Path(word).name) :]
    tasks, each = int(os.environ["SLURM_NTASKS"]), int(os.environ["SLURM_NTASKS_PER_NODE"])
    step = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": str(tasks)}
    started = []
    for rank in range(tasks):
        place = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank % each), "SLURM_NODEID": str(rank // each)}
        started.append(subprocess.Popen(command, env={**os.environ, **step, **place}))
    return max(abs(one.wait()) for one in started)


def sacct() -> int:
    """Say nothing of any job."""
    print("JobID|State|NodeList")
    return 0
