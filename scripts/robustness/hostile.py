"""Content that would run code or write a file, were it believed: each makes the canary file of its try."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from typing import Any

CODE = "open('CANARY', 'w').close()"


class _Call:
    """Pickled as a call."""

    def __init__(self, function: str, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments


def _stream(function: str, *arguments: Any) -> bytes:
    """A pickle, protocol 0 and 2 mixed, that calls a function on loading."""
    module, _, name = function.rpartition(".")
    body = pickle.dumps(tuple(arguments), 2)[2:-1]  # neither header nor stop
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + body + b"R."


def _zipped(data: bytes, protocol: str = "archive") -> bytes:
    """A pickle in the zip that `torch.save` writes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as bundle:
        bundle.writestr(f"{protocol}/data.pkl", data)
        bundle.writestr(f"{protocol}/byteorder", "little")
        bundle.writestr(f"{protocol}/version", "3\n")
    return file.getvalue()


def pickles() -> dict[str, Callable[[str], bytes]]:
    """Pickles, by what they call; each is made with the path of the canary."""

    def calling(function: str, *arguments: Any, zipped: bool = True) -> Callable[[str], bytes]:
        def make(canary: str) -> bytes:
            filled = [a.replace("CANARY", canary) if isinstance(a, str) else a for a in arguments]
            data = _stream(function, *filled)
            return _zipped(data) if zipped else data

        return make

    return {
        "posix.system": calling("posix.system", "touch CANARY"),
        "posix.system, not zipped": calling("posix.system", "touch CANARY", zipped=False),
        "os.system": calling("os.system", "touch CANARY"),
        "builtins.exec": calling("builtins.exec", CODE),
        "builtins.exec, not zipped": calling("builtins.exec", CODE, zipped=False),
        "builtins.eval": calling("builtins.eval", CODE),
        "builtins.open": calling("builtins.open", "CANARY", "w"),
        "subprocess.getoutput": calling("subprocess.getoutput", "touch CANARY"),
        "shutil.copyfile": calling("shutil.copyfile", "/dev/null", "CANARY"),
        "numpy.testing.runstring": calling("numpy.testing._private.utils.runstring", CODE, {}),
        "torch.utils.collect_env.run": calling("torch.utils.collect_env.run", "touch CANARY"),
        "timeit.timeit": calling("timeit.timeit", CODE, "pass"),
    }


def _interpolated(node: dict[str, Any], escaped: bool) -> str:
    text = "${oc.create:'" + json.dumps(node).replace("'", r"\'") + "'}"
    return ("\\" if escaped else "") + text


_RUNSTRING = {"_target_": "numpy.testing.runstring", "astr": 'open("CANARY", "w").close()', "dict": {}}
_SHELL = {"_target_": "torch.utils.collect_env.run", "command": "touch CANARY"}

ESCAPES = {
    "oc.create of runstring": _interpolated(_RUNSTRING, escaped=False),
    "escaped oc.create of runstring": _interpolated(_RUNSTRING, escaped=True),
    "escaped oc.create of a shell": _interpolated(_SHELL, escaped=True),
    "twice escaped oc.create": "\\\\" + _interpolated(_RUNSTRING, escaped=True),
    "oc.env": "${oc.env:HOME}",
    "escaped oc.env": "\\${oc.env:HOME}",
    "hydra's own resolver": "${hydra:runtime.cwd}",
    "an interpolation that leads nowhere": "${no.such.key}",
    "an interpolation of itself": "${config.backbone}",
    "half an interpolation": "${oc.env:",
}
"""Texts that some readers take for instructions."""

NESTED: dict[str, dict[str, Any]] = {
    "runstring": _RUNSTRING,
    "collect_env.run": _SHELL,
    "os.system": {"_target_": "os.system", "command": "touch CANARY"},
    "subprocess.run": {"_target_": "subprocess.run", "args": ["touch", "CANARY"]},
    "builtins.exec": {"_target_": "builtins.exec", "_args_": [CODE]},
    "builtins.open": {"_target_": "builtins.open", "file": "CANARY", "mode": "w"},
    "io.open": {"_target_": "io.open", "file": "CANARY", "mode": "w"},
    "Path.write_text": {"_target_": "pathlib.Path.write_text", "_args_": ["CANARY", "x"]},
    "os.mkdir": {"_target_": "os.mkdir", "path": "CANARY"},
    "shutil.copyfile": {"_target_": "shutil.copyfile", "src": "/dev/null", "dst": "CANARY"},
    "wsol.runs.write_text": {"_target_": "wsol.runs.write_text", "file": "CANARY", "text": "x"},
    "torch.save": {"_target_": "torch.save", "obj": 1, "f": "CANARY"},
    "numpy.save": {"_target_": "numpy.save", "file": "CANARY", "arr": [1]},
    "numpy.load": {"_target_": "numpy.load", "file": "CANARY", "allow_pickle": True},
    "torch.load": {"_target_": "torch.load", "f": "CANARY", "weights_only": False},
    "joblib.dump": {"_target_": "joblib.dump", "value": 1, "filename": "CANARY"},
    "torch.hub.load": {"_target_": "torch.hub.load", "repo_or_dir": "CANARY", "source": "local", "model": "x"},
    "_exec_with_source": {"_target_": "torch.fx.graph_module._exec_with_source", "src": CODE, "globals": {}},
    "hydra get_method": {"_target_": "hydra.utils.get_method", "path": "os.system"},
    "instantiate": {"_target_": "hydra.utils.instantiate", "config": _SHELL},
    "PredictionWriter": {"_target_": "wsol.interop.predictions.PredictionWriter", "file": "CANARY", "classes": ["a"]},
    "MapWriter": {"_target_": "wsol.interop.map_store.MapWriter", "folder": "CANARY", "header": {}},
    "Creatures": {"_target_": "wsol.data.datasets.creatures.Creatures", "root": "CANARY", "train_images": 4,
                  "val_images": 2, "test_images": 2, "size": 32},
    "wsol.cli.main": {"_target_": "wsol.cli.main", "argv": ["train", "run_dir=CANARY"]},
    "LinearSvm": {"_target_": "wsol.features.svm.LinearSvm"},
    "a FileHandler": {"_target_": "logging.FileHandler", "filename": "CANARY"},
}  # fmt: skip
"""Nodes with a target, where none belongs or another one does."""
