"""Run folders: their location and contents, the run that belongs to a config, and checkpoints."""

from wsol.runs.folder import (
    LOGGERS,
    RUN_DIR_VARIABLE,
    announced,
    discard,
    is_first_process,
    new_folder,
    shared_folder,
    start_log,
    started_from_outside,
    stop_log,
    write_config,
    write_text,
)
from wsol.runs.identity import NOT_COMPARED
from wsol.runs.lookup import find_run
from wsol.runs.opening import open_folder
from wsol.runs.outputs import MARKER, OutputFolder, check_file
from wsol.runs.provenance import git_revision, provenance, write_results
from wsol.runs.recorded_config import read_config
from wsol.runs.register import Register, record_data
from wsol.runs.results import read_results
from wsol.runs.run_lock import RunInUse, lock, unlock

__all__ = [
    "LOGGERS",
    "MARKER",
    "NOT_COMPARED",
    "RUN_DIR_VARIABLE",
    "OutputFolder",
    "Register",
    "RunInUse",
    "announced",
    "check_file",
    "discard",
    "find_run",
    "git_revision",
    "is_first_process",
    "lock",
    "new_folder",
    "open_folder",
    "provenance",
    "read_config",
    "read_results",
    "record_data",
    "shared_folder",
    "start_log",
    "started_from_outside",
    "stop_log",
    "unlock",
    "write_config",
    "write_results",
    "write_text",
]
