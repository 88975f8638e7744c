"""`wsol sweep`: search over any keys of `wsol train`; the same command goes on after any interruption."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock
from omegaconf import DictConfig, ListConfig, OmegaConf

from wsol.config.compose import check_resolves, compose, groups
from wsol.errors import InputError

OPTIONS = (
    "--config-dir DIR    add a folder of your own configs (may be repeated)",
    "--cfg    print the sweep's config",
    "--wandb    print the same search for `wandb sweep`",
)


def run(words: Sequence[str]) -> int:
    """Search under the words of a command line; returns the exit code."""
    if {"-h", "--help"} & set(words):
        print(usage())
        return 0
    options, own, training = divide(words)
    settings = _settings(own, options["--config-dir"])
    base = [*settings["overrides"], *training]
    if "--cfg" in options:
        print(yaml.safe_dump(dict(settings), sort_keys=False), end="")
        return 0
    config = _check(settings, base, options["--config-dir"])
    if "--wandb" in options:
        print(yaml.safe_dump(wandb_sweep(settings, base, _mode(settings["metric"])), sort_keys=False), end="")
        return 0
    return _search(settings, base, options["--config-dir"], config)


def usage() -> str:
    """`wsol sweep --help`."""
    import dataclasses

    from wsol.cli.help import plain_keys
    from wsol.config.schema import Search

    choices = groups().get("sweep", {})
    width = max(map(len, choices), default=0)
    keys = (
        [line.replace("  ", "  sweep.", 1) for line in plain_keys(Search)] if dataclasses.is_dataclass(Search) else []
    )
    return "\n".join(
        [
            "wsol sweep: " + str(__doc__).partition(": ")[2],
            "",
            "usage: wsol sweep [OPTION]... [sweep=CHOICE] [sweep.KEY=VALUE]... [any words of wsol train]...",
            "",
            "options:",
            *(f"  {option}" for option in OPTIONS),
            "",
            "sweeps (sweep=CHOICE):",
            *(f"    {choice:<{width}}  {about}" for choice, about in choices.items()),
            "",
            "keys:",
            *keys,
        ]
    )


def divide(words: Sequence[str]) -> tuple[dict[str, list[str]], list[str], list[str]]:
    """Divide the words into options, those of the sweep itself, and those of `wsol train`.

    Example:
        >>> divide(["sweep=lr", "method=acol", "sweep.trials=3", "--wandb"])[1:]
        (['sweep=lr', 'sweep.trials=3'], ['method=acol'])
    """
    options: dict[str, list[str]] = {"--config-dir": []}
    own: list[str] = []
    training: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--config-dir" and rest:
            options["--config-dir"].append(rest.pop(0))
        elif word in ("--cfg", "--wandb"):
            options[word] = []
        elif word.startswith("-"):
            raise InputError(
                f"wsol sweep: unknown option {word!r}; options are --help, --config-dir DIR, --cfg, --wandb"
            )
        else:
            (own if word.lstrip("+~").startswith(("sweep=", "sweep.")) else training).append(word)
    return options, own, training


def _settings(own: Sequence[str], config_dirs: Sequence[str]) -> dict[str, Any]:
    """The sweep's own keys, and the ``choice`` that they come from."""
    config = compose("sweep", own, config_dirs)
    plain = OmegaConf.to_container(config.sweep, resolve=True)
    assert isinstance(plain, dict)
    return {**{str(key): value for key, value in plain.items()}, "choice": config.choices.sweep}


def _mode(metric: str) -> str:
    """``min`` or ``max``; a metric of the val split only."""
    if not metric.startswith("val/"):
        raise InputError(
            f"sweep.metric={metric}: nothing is chosen on the test split, nor on training images; "
            "use a metric of the val split, such as val/top1_error"
        )
    return "min" if metric.endswith(("error", "loss")) else "max"


def _check(settings: Mapping[str, Any], base: Sequence[str], config_dirs: Sequence[str]) -> DictConfig:
    """Refuse a sweep that cannot work before its first trial; returns the config of `wsol train` without draws."""
    from wsol.sweeps.search_space import read_space

    _mode(settings["metric"])
    for key in ("trials", "workers"):
        if settings[key] < 1:
            raise InputError(f"sweep.{key}={settings[key]}: expected a positive number")
    space = read_space(settings["space"])
    for word in base:
        if any(word.startswith(f"{dimension.key}=") for dimension in space):
            raise InputError(f"{word}: that key is searched over; leave it out, or take it out of sweep.space")
        if word.startswith(("run_dir=", "resume=", "monitor=")):
            raise InputError(f"{word}: each trial has its own; leave it out (sweep.metric is what is monitored)")
    for i in range(max(len(dimension.values) for dimension in space)):
        compose("train", [*base, *(each.word(each.values[i % len(each.values)]) for each in space)], config_dirs)
    return compose("train", base, config_dirs)


def _check_devices(config: DictConfig) -> None:
    """Refuse trials of several processes: they could not be pruned, nor taken over, as one."""
    check_resolves(config)
    devices = config.trainer.devices
    single = len(devices) == 1 if isinstance(devices, ListConfig) else str(devices) == "1"
    if config.trainer.num_nodes != 1 or not single:
        raise InputError(
            "a trial of wsol sweep runs on one device: set trainer.devices=1. Several devices are used by "
            "sweep.workers=..., several machines by the same command on each; trials of several devices need "
            "wsol sweep --wandb"
        )


def wandb_sweep(settings: Mapping[str, Any], base: Sequence[str], mode: str) -> dict[str, Any]:
    """The same search as a config for `wandb sweep`: each agent runs `wsol train` with logger=wandb."""
    from wsol.sweeps.search_space import read_space

    stop = {"early_terminate": {"type": "hyperband", "min_iter": max(1, settings["warmup_epochs"])}}
    return {
        "program": "wsol",
        "method": "random" if settings["sampler"] == "random" else "bayes",
        "metric": {"name": settings["metric"], "goal": {"min": "minimize", "max": "maximize"}[mode]},
        "run_cap": settings["trials"],
        **({} if settings["pruner"] == "none" else stop),
        "command": ["wsol", "train", *base, "logger=wandb", f"monitor={settings['metric']}", "${args_no_hyphens}"],
        "parameters": {each.key: each.wandb() for each in read_space(settings["space"])},
    }


def _search(settings: Mapping[str, Any], base: Sequence[str], config_dirs: Sequence[str], config: DictConfig) -> int:
    from wsol.sweeps import summary
    from wsol.sweeps.worker import Sweep, work
    from wsol.tables.collect import comparable

    _check_devices(config)
    folder = Path(settings["folder"] or Path(config.runs_dir) / _name(config, settings)).resolve()
    mode = _mode(settings["metric"])
    sweep = Sweep(str(folder), settings, tuple(base), tuple(config_dirs), mode, config.trainer.max_epochs)
    study = sweep.study()
    if (folder / "test" / "results.json").exists() and len(study.trials()) < settings["trials"]:
        raise InputError(
            f"{folder}: its best trial was judged on the test split already; more trials would choose with knowledge "
            "of it. Start another search with another sweep.folder"
        )
    if OmegaConf.is_missing(config.data, "root"):
        raise InputError("data.root is not set: say where the dataset lies, data.root=...")
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    same = {key: settings[key] for key in ("space", "metric", "sampler", "pruner", "warmup_epochs", "seed")}
    study.identify({**same, "config": comparable({str(key): value for key, value in plain.items()})})
    study.fill(settings["trials"])
    print(f"{folder}: {settings['trials']} trials, {settings['workers']} workers", file=sys.stderr, flush=True)
    failed = False
    if not study.is_done():
        if settings["workers"] == 1:
            work(sweep)
        else:
            failed = not _in_processes(sweep, settings["workers"])
    if failed and not study.is_done():
        raise InputError(f"{folder}: workers stopped before all trials were run; the same command goes on")
    content = summary.write(sweep, study)
    if settings["test"]:
        _judge_once(study.folder, Path(content["best"]["run"]))
    _say(content, folder)
    return 0


def _name(config: DictConfig, settings: Mapping[str, Any]) -> str:
    named = config.name or "-".join(str(config.choices[group]) for group in ("data", "method", "backbone"))
    return f"sweep-{settings['choice']}-{named}".replace("/", "_")


def _in_processes(sweep: Any, workers: int) -> bool:
    """Run the workers to their ends; returns whether all ended well."""
    from wsol.sweeps.worker import process

    context = multiprocessing.get_context("spawn")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    started = [context.Process(target=process, args=(sweep, max(1, cores // workers))) for _ in range(workers)]
    for number, worker in enumerate(started):
        with _one_gpu(number):
            worker.start()
    try:
        for worker in started:
            worker.join()
    except KeyboardInterrupt:
        for worker in started:
            worker.terminate()
        raise
    return all(worker.exitcode == 0 for worker in started)


@contextlib.contextmanager
def _one_gpu(worker: int) -> Iterator[None]:
    """Let a process that is started meanwhile see one GPU alone: workers are dealt out to those there are."""
    import torch

    name, before = "CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    if count > 1:
        os.environ[name] = (before.split(",") if before else [str(i) for i in range(count)])[worker % count]
    try:
        yield
    finally:
        if count > 1:
            os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def _judge_once(folder: Path, run: Path) -> None:
    """Judge the best trial on the test split, unless that was done."""
    from wsol.cli.verbs import eval as eval_verb

    out = folder / "test"
    with FileLock(folder / "locks" / "test"):  # another machine's worker may have come to its end, too
        if not (out / "results.json").exists():
            eval_verb.run(compose("eval", [f"run={run}", f"out={out}"]))


def _say(content: Mapping[str, Any], folder: Path) -> None:
    best, spent = content["best"], content["supervision"]
    per_class = "" if spent["per_class"] is None else f", {spent['per_class']:.3g} a class"
    print(f"best: trial {best['trial']}, {content['metric']} {best['value']:.4g}   ({best['run']})")
    print(f"  {content['command']}")
    for key, share in content["importance"].items():
        print(f"  importance of {key}: {share:.2f}")
    print(f"chosen with the {spent['kind']} of {spent['images']} images of the val split{per_class}")
    print(f"written to {folder / 'sweep.json'}, history.png" + (", importance.png" if content["importance"] else ""))
