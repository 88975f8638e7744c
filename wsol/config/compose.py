"""From the overrides of a command line to one resolved config, or to one clear error."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Sweep
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from wsol.config import schema
from wsol.config.config_files import check_composed, check_files, read_config
from wsol.config.known_keys import check_keys
from wsol.config.overrides import SEVERAL, as_written, override, override_value
from wsol.config.search_path import searched, searched_folders, take_search_path
from wsol.data.regular_files import read_regular
from wsol.errors import InputError, near_matches

__all__ = [
    "check_choices",
    "check_resolves",
    "compose",
    "config_root",
    "groups",
    "keys_of",
    "override",
    "override_value",
    "target_of",
]


def config_root() -> Path:
    """Return the folder of the shipped configs, independent of where the package is installed."""
    spec = importlib.util.find_spec("wsol.configs")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("the package wsol.configs is missing: install wsol again (pip install .)")
    return Path(next(iter(spec.submodule_search_locations)))


def compose(verb: str, overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> DictConfig:
    """Return the config of ``verb`` under Hydra ``overrides``; `choices` contains the choice of each group.

    Args:
        verb: name of the primary config, such as ``train``.
        overrides: Hydra's override grammar, such as ``backbone=vgg16`` or ``trainer.max_epochs=3``; a value that Hydra
            does not read counts as it is written, see `wsol.config.overrides`.
        config_dirs: the user's own config folders. They are searched first, so a file in them stands before a shipped
            one of the same name; those of ``hydra.searchpath=[...]`` follow, then those of plug-ins.

    Raises:
        InputError: a misspelt group, choice or key (with near matches), a wrong type, or an override that can't be
            parsed.
    """
    schema.register()
    overrides, named = take_search_path(overrides)
    config_dirs = [*config_dirs, *named]
    known = groups(config_dirs)
    words = _every_protocol([as_written(word, known, schema.texts(verb)) for word in overrides], known)
    if hydra := [word for word in words if word.startswith(("hydra.run.", "hydra.output_subdir"))]:
        raise InputError(f"{hydra[0]}: outputs do not go where Hydra says; use run_dir=... or out=...")
    chosen = check_choices(words, known)
    own = [folder for folder in searched_folders(config_dirs, config_root()) if folder != config_root()]
    check_files(chosen, own)
    try:
        composed = _composed(verb, words, config_dirs)
        if _lacks_transform(composed, words):
            composed = _composed(verb, [*words, f"transform={DEFAULT_TRANSFORM}"], config_dirs)
    except yaml.YAMLError as error:
        raise InputError(f"a config file is not valid YAML: {' '.join(str(error).split())}; fix that line") from error
    except InputError:
        raise
    except (RecursionError, ValueError, TypeError, AttributeError) as error:  # from files that no override chooses
        folders = ", ".join(map(str, own)) or config_root()
        raise InputError(f"a config file in {folders} cannot be composed: {_first_lines(str(error))}") from error
    except (HydraException, OmegaConfBaseException) as error:
        freed = _freed(verb, words, config_dirs)
        if freed == words:
            raise _explain(verb, words, config_dirs, error) from error
        return compose(verb, freed, config_dirs)
    choices = dict(composed.hydra.runtime.choices)
    config = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    with open_dict(config):
        config.choices = {k: v for k, v in sorted(choices.items()) if not k.startswith(("hydra", "schema"))}
        if isinstance(method := config.get("method"), DictConfig):
            config.method = OmegaConf.merge(METHOD, method)
    check_composed(config, [*config.choices.items(), *chosen], own)
    check_keys(config, schema.keys(verb))
    OmegaConf.set_struct(config, True)
    return config


DEFAULT_TRANSFORM = "square"
"""Default for a dataset whose YAML file names none; the same as in ``configs/train.yaml``."""

METHOD = {"edits": {}, "batch_transforms": [], "pretrained_classifier": False}
"""Keys that the YAML file of a method may leave out."""


def _lacks_transform(composed: DictConfig, words: Sequence[str]) -> bool:
    """Return whether a dataset without a transform in its YAML file was chosen in a verb that uses the run's data."""
    chosen = any(word.lstrip("+").startswith("transform=") for word in words)
    return not chosen and composed.get("data") is not None and composed.get("transform", "") is None


def _composed(verb: str, words: Sequence[str], config_dirs: Sequence[str]) -> DictConfig:
    """Return Hydra's config for the overrides, including Hydra's own part."""
    GlobalHydra.instance().clear()
    with searched(config_dirs), initialize_config_dir(str(config_root()), job_name="wsol", version_base="1.3"):
        return hydra_compose(verb, overrides=list(words), return_hydra_config=True)


def _freed(verb: str, words: Sequence[str], config_dirs: Sequence[str]) -> list[str]:
    """Put ``++`` before the words that may set keys which the config does not have.

    These are keys of an empty mapping (``options: {}``), and keys below an open group, such as
    ``callbacks.mine._target_=my_package.Mine``.
    """
    free = [rf"{re.escape(key)}[.=]" for key, node in _nodes(verb, words, config_dirs) if node == {}]
    free += [rf"{re.escape(key)}\." for key in schema.open_groups(verb)]
    return [f"++{word}" if any(re.match(key, word) for key in free) else word for word in words]


def check_resolves(config: DictConfig) -> None:
    """Refuse a value whose source does not exist here, such as an environment variable of SLURM."""
    try:
        OmegaConf.to_container(config, resolve=True)
    except InterpolationResolutionError as error:
        found = re.search(r"Environment variable '[^']+'", str(error))
        what = f"{found.group()} is not set here" if found else _first_lines(str(error))
        key = error.full_key
        raise InputError(f"{key}: {what}; start the program where it is set, or set {key}=...") from error


def groups(config_dirs: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """Return group -> choice -> its first comment line; imports no torch.

    The configs are those of every folder that Hydra searches; the file that it takes is the one described.
    A folder in a group is part of the choice: ``experiment/cub/vgg16.yaml`` is ``experiment=cub/vgg16``.
    """
    found: dict[str, dict[str, str]] = {}
    for root in reversed(searched_folders(config_dirs, config_root())):
        for file in sorted(root.glob("*/**/*.yaml")):
            group, choice = file.relative_to(root).with_suffix("").as_posix().split("/", 1)
            found.setdefault(group, {})[choice] = _summary(file)
    return found


def target_of(group: str, choice: str) -> str | None:
    """Return the ``_target_`` of a choice, its own or that of the choice it starts from; imports no torch."""
    for root in searched_folders((), config_root()):
        if (file := root / group / f"{choice}.yaml").is_file():
            content = read_config(file)
            bases = [base for base in content.get("defaults", ()) if isinstance(base, str) and base != "_self_"]
            return content.get("_target_") or next((target_of(group, base) for base in bases), None)
    return None


def _summary(file: Path) -> str:
    """Return the first comment line that is not a Hydra directive."""
    try:
        text = read_regular(file).decode("utf-8", "replace")
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); remove it from the config folder") from error
    for line in text.splitlines():
        comment = line.removeprefix("#").strip()
        if not line.startswith("#"):
            return ""
        if comment and not comment.startswith("@"):
            return comment
    return ""


def check_choices(overrides: Sequence[str], known: Mapping[str, Mapping[str, str]]) -> list[tuple[str, str]]:
    """Return group and choice of each override; refuse choices that a group does not have, before Hydra reads them."""
    chosen = []
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise InputError(f"an override does not parse: {_first_lines(str(error))}; expected key=value") from error
    for each in parsed:
        group, value = each.get_key_element().lstrip("+~").partition("@")[0], each.value()
        if group not in known or each.is_delete():
            continue
        for choice in value if isinstance(value, list) else [value]:
            if choice is None:
                raise InputError(
                    f"{group}=null: expected a choice of this group; leave it out for the default. Choices: "
                    f"{', '.join(known[group])}"
                )
            if not isinstance(choice, Sweep) and str(choice) not in known[group]:
                hint = f". Or: {SEVERAL}" if "," in str(choice) else ""
                raise InputError(f"{group}={choice}: no such choice; {near_matches(str(choice), known[group])}{hint}")
            chosen.append((group, str(choice)))
    return chosen


def _every_protocol(overrides: Sequence[str], known: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Replace ``protocol=all`` by the list of all protocols."""
    everyone = f"protocol=[{','.join(known.get('protocol', ()))}]"
    return [everyone if word == "protocol=all" else word for word in overrides]


def _explain(verb: str, overrides: Sequence[str], config_dirs: Sequence[str], error: Exception) -> InputError:
    """Convert Hydra's error to one with near matches."""
    known = groups(config_dirs)
    text = _said(error)
    if match := re.search(r"Could not override '([^']+)'|Could not find key '([^']+)'|Key '([^']+)' not in", text):
        key = next(part for part in match.groups() if part).partition("@")[0]
        keys = keys_of(verb, overrides, config_dirs)
        group = key.partition(".")[0]
        if group != key and group in {*known} & {*keys} and not any(each.startswith(f"{group}.") for each in keys):
            return InputError(f"no config key {key!r}: no {group} is chosen on this command line; add {group}=...")
        of_training = set(schema.UNRECORDED_GROUPS) & known.keys() if "optim" in keys else ()
        choices = sorted({*(keys or known), *of_training} - {"schema"})
        return InputError(f"no config key {key!r}; {_near_keys(key, choices)}")
    if match := re.search(r"In '([^']+)': Could not (?:load|find) '([^'/]+)/([^']+)'", text):
        file, group, name = match.groups()
        near = near_matches(name, known.get(group, ()))
        return InputError(f"{file}.yaml: its defaults name {group}/{name}, which does not exist; {near}")
    if match := re.search(r"(?:no viable alternative|mismatched input|token recognition)[^\n]*", text):
        key = re.search(r"full_key: (\S+)", text)
        where = f"{key[1]}: " if key else ""
        return InputError(f"{where}not a valid interpolation ({match[0]}); expected ${{key}}, or \\${{ for plain text")
    if match := re.match(r"Error merging override \+*(([^=\s]+)=.*)", text):
        if wanted := schema.KINDS.get(str(getattr(schema.keys(verb).get(match[2]), "type", ""))):
            return InputError(f"{match[1]}: expected {wanted}")
        text = f"{text.splitlines()[0]}: {error.__cause__}"
    return InputError(f"the config of `wsol {verb.replace('_', ' ')}` does not compose: {_first_lines(text)}")


def _said(error: BaseException) -> str:
    """Return the message of an error, or of its cause if it has no message."""
    text = str(error).strip()
    behind = error.__cause__ or error.__context__
    return text if text or behind is None else _said(behind)


def _near_keys(key: str, keys: Sequence[str]) -> str:
    """Return near matches of a dotted key; the choices listed are those of its own level."""
    parent, _, _ = key.rpartition(".")
    level = [k for k in keys if k.rpartition(".")[0] == parent] or [k for k in keys if "." not in k]
    close = near_matches(key, keys).partition("Choices:")[0].partition("There are")[0]
    if not close and (ending := _ending(key, keys)):
        close = f"did you mean {', '.join(map(repr, ending))}? "
    return f"{close}Keys here: {', '.join(level)}"


def _ending(key: str, keys: Sequence[str]) -> list[str]:
    """Return the keys that end like a key without its groups: ``optim.optimizer.lr`` for ``lr``."""
    last = key.rpartition(".")[2]
    ends = {each: each.rpartition(".")[2] for each in keys}
    return [each for each in keys if ends[each] == last] or [each for each in keys if last in ends[each].split("_")]


def keys_of(verb: str, overrides: Sequence[str], config_dirs: Sequence[str]) -> list[str]:
    """Return the dotted keys of the config under the overrides that choose groups, or under none where those fail."""
    return [key for key, _ in _nodes(verb, overrides, config_dirs)]


def _nodes(verb: str, overrides: Sequence[str], config_dirs: Sequence[str]) -> list[tuple[str, Any]]:
    """`keys_of` with what they hold."""
    schema.register()
    known = groups(config_dirs)
    choosing = [word for word in overrides if word.partition("=")[0].lstrip("+") in known]
    for words in (choosing, []):
        try:
            composed = _composed(verb, words, config_dirs)
        except ConfigCompositionException:
            continue
        return [(key, node) for key, node in _flatten(OmegaConf.to_container(composed)) if not key.startswith("hydra")]
    return []


def _flatten(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, child in node.items():
        yield f"{prefix}{key}", child
        if isinstance(child, dict):
            yield from _flatten(child, f"{prefix}{key}.")


def _first_lines(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines()[:4] if line.strip())
