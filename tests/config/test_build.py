from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from wsol.config import build
from wsol.errors import InputError
from wsol.types import FeatureInfo


def test_a_target_is_built_with_its_arguments() -> None:
    assert build.instantiate({"_target_": "wsol.types.FeatureInfo", "channels": 3, "stride": 2}, "x") == FeatureInfo(
        3, 2
    )


def test_partial_targets_take_the_rest_later() -> None:
    made = build.instantiate({"_target_": "wsol.types.FeatureInfo", "_partial_": True, "channels": 3}, "x")
    assert made(stride=4) == FeatureInfo(3, 4)


def test_extra_arguments_pass_uncopied() -> None:
    thing = object()
    made = build.instantiate({"_target_": "wsol.types.FeatureInfo", "channels": 1}, "x", stride=thing)
    assert made.stride is thing


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            {"_target_": "wsol.types.FeatureInfo", "chanels": 3, "stride": 1},
            "x: FeatureInfo takes no 'chanels'; did you mean 'channels'",
        ),
        ({"_target_": "wsol.types.FeatureInfo", "channels": 3}, "x: FeatureInfo needs stride; set x.stride="),
        (
            {"_target_": "wsol.types.FeatureInf", "channels": 3},
            "wsol.types has no 'FeatureInf'; did you mean 'FeatureInfo'",
        ),
        ({"_target_": "nosuchpackage.Thing"}, "no such package"),
        (
            OmegaConf.create({"_target_": "wsol.types.FeatureInfo", "channels": "???", "stride": 1}),
            "x.channels: Missing mandatory value",
        ),
        (
            {"inner": {"_target_": "wsol.types.FeatureInfo", "_partial_": True, "strid": 1}},
            "x.inner: FeatureInfo takes no 'strid'",
        ),
        (
            {"_target_": "wsol.types.FeatureInfo", "channels": [{"_target_": "wsol.types.FeatureInf"}], "stride": 1},
            r"x.channels\[0\]._tar",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_with_its_place(node, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build.instantiate(node, "x")


@pytest.mark.parametrize("target", ["os.system", "builtins.eval", "subprocess.run"])
def test_an_untrusted_config_names_only_known_packages(target: str) -> None:
    with pytest.raises(InputError, match="trust=true"):
        build.instantiate({"_target_": target}, "backbone", trust=False)


def test_an_untrusted_target_deep_inside_is_found() -> None:
    node = {"_target_": "wsol.backbones.timm.Timm", "name": "x", "options": {"deep": [{"_target_": "os.getcwd"}]}}
    with pytest.raises(InputError, match=r"backbone.options.deep\[0\]._target_=os.getcwd"):
        build.instantiate(node, "backbone", trust=False)


@pytest.mark.parametrize(
    "target",
    [
        "torch.hub.load",
        "torch.load",
        "torch.serialization.load",
        "torch.utils.cpp_extension.load",
        "wsol.runs.provenance.subprocess.run",
        "torch.os.system",
    ],
)
def test_trusted_packages_lend_no_way_to_run_code(target: str) -> None:
    with pytest.raises(InputError, match="trust=true"):
        build.instantiate({"_target_": target}, "backbone", trust=False)


def test_monitoring_the_test_split_is_refused() -> None:
    with pytest.raises(InputError, match="nothing is chosen on the test split"):
        build.monitor_mode("test/top1_error", ["val/top1_error"])
    with pytest.raises(InputError, match="did you mean 'val/top1_error'"):
        build.monitor_mode("val/top1_eror", ["val/top1_error"])
    assert build.monitor_mode("val/top1_error", ["val/top1_error"]) == "min"
    assert build.monitor_mode("val/PxAP", ["val/PxAP"]) == "max"


def test_precision_is_chosen_by_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(build, "cpu_has_bf16", lambda: True)
    assert build.resolve_precision("auto", "cpu") == "bf16-mixed"
    monkeypatch.setattr(build, "cpu_has_bf16", lambda: False)
    assert build.resolve_precision("auto", "cpu") == "32-true"
    assert build.resolve_precision("16-mixed", "cpu") == "16-mixed"


def test_layout_is_chosen_by_what_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(build, "cpu_has_bf16", lambda: False)
    assert build.resolve_layout("auto")
    assert build.resolve_layout("auto", train_size=64)
    assert not build.resolve_layout("auto", train_size=224)
    assert build.resolve_layout("auto", "bf16-mixed", "cpu", 224)
    monkeypatch.setattr(build, "cpu_has_bf16", lambda: True)
    assert build.resolve_layout("auto", train_size=224)
    assert not build.resolve_layout("auto", 32, "cpu", 224)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert build.resolve_layout("auto", "32-true", "gpu", 224)
    assert not build.resolve_layout("auto", "32-true", "cpu", 224)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_layout_asked_for_is_taken(precision: str) -> None:
    assert build.resolve_layout("channels_last", precision, "cpu", 224)
    assert not build.resolve_layout("contiguous", precision, "cpu", 64)


def test_unreadable_checkpoints_are_refused(tmp_path: Path) -> None:
    from wsol.runs import checkpoints

    class Evil:
        def __reduce__(self):
            return (print, ("code ran",))

    files = {"text": b"not a checkpoint", "empty": b""}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    torch.save({"state_dict": Evil()}, tmp_path / "evil")
    torch.save(OrderedDict(a=torch.zeros(1)), tmp_path / "weights")
    for name in ("text", "empty", "evil", "weights", "missing"):
        with pytest.raises(InputError, match=name):
            checkpoints.read(tmp_path / name)
