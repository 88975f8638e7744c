"""The public door: what `wsol.*` gives is what the command line gives."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import yaml

import wsol
from tests.choices import choices
from tests.conftest import SMALL_RUN
from wsol.cli import main
from wsol.errors import InputError

SMALL = {word.partition("=")[0]: yaml.safe_load(word.partition("=")[2]) for word in SMALL_RUN if "epochs" not in word}


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def measured(results: dict) -> dict:
    return {key: results[key] for key in ("classification", "localization", "pixels", "data", "protocols", "choices")}


def test_lists_are_the_yaml_groups() -> None:
    for function, group in (
        (wsol.list_backbones, "backbone"),
        (wsol.list_methods, "method"),
        (wsol.list_protocols, "protocol"),
        (wsol.list_datasets, "data"),
        (wsol.list_explainers, "explainer"),
    ):
        assert function() == sorted(choices(group))
    assert wsol.list_backbones("resnet*") == ["resnet101", "resnet18", "resnet34", "resnet50"]
    assert wsol.list_methods("nothing*") == []


def test_a_users_own_configs_are_listed_and_made(tmp_path: Path) -> None:
    (tmp_path / "backbone").mkdir()
    (tmp_path / "backbone" / "small.yaml").write_text("# Small.\ndefaults: [tiny, _self_]\nwidths: [4, 4, 4, 8]\n")
    own = [str(tmp_path)]
    assert "small" in wsol.list_backbones(config_dirs=own)
    net = wsol.create_localizer("small", num_classes=3, config_dirs=own)
    assert net.backbone.points["last"].channels == 8


@pytest.mark.parametrize("name", ["tiny", "resnet18"])
@pytest.mark.parametrize("method", ["cam", "acol_1x1", "spg"])
def test_networks_are_made_by_name(name: str, method: str) -> None:
    small = {"backbone.width": 8} if name == "resnet18" else {}
    net = wsol.create_localizer(name, method=method, num_classes=5, overrides=small)
    assert isinstance(net, wsol.Localizer)
    assert net(torch.zeros(1, 3, 64, 64)).logits.shape == (1, 5)
    assert net.classes is None
    state = torch.get_rng_state()
    again = wsol.create_localizer(name, method=method, num_classes=5, overrides=small)
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers are left alone"
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    other = wsol.create_localizer(name, method=method, num_classes=5, overrides=small, seed=1)
    assert not all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_options_of_networks(tmp_path: Path) -> None:
    net = wsol.create_localizer("resnet18", classes=["cat", "dog"], output_stride=8, overrides={"backbone.width": 8})
    assert (net.num_classes, net.classes, net.backbone.points["last"].stride) == (2, ("cat", "dog"), 8)
    acol = wsol.create_localizer("tiny", method="acol_1x1", num_classes=2, overrides={"method.head.delta": 0.7})
    assert acol.head.delta == 0.7
    any_timm = wsol.create_localizer("resnet10t", num_classes=2)
    assert any_timm.backbone.name == "resnet10t"
    torch.save(wsol.create_localizer("tiny", num_classes=2, seed=7).backbone.state_dict(), tmp_path / "w (1).pth")
    loaded = wsol.create_localizer("tiny", num_classes=2, weights=tmp_path / "w (1).pth")
    expected = wsol.create_localizer("tiny", num_classes=2, seed=7).backbone.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.backbone.state_dict().items())


@torch.no_grad()
def test_a_pretrained_classifier_says_how_many_classes_there_are(tmp_path: Path) -> None:
    whole = timm.create_model("resnet10t", num_classes=6).eval()
    torch.save(whole.state_dict(), file := tmp_path / "six.pth")
    net = wsol.create_localizer("resnet10t", weights=file, pretrained_classifier=True).eval()
    assert (net.num_classes, net.classes) == (6, None)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(net(images).logits, whole(images))
    assert net.recipe is not None
    assert net.recipe["method"]["pretrained_classifier"]
    named = wsol.create_localizer("resnet10t", weights=file, pretrained_classifier=True, classes=list("abcdef"))
    assert named.classes == tuple("abcdef")
    with pytest.raises(InputError, match="needs weights: pretrained=True, or weights=<file>"):
        wsol.create_localizer("resnet10t", pretrained_classifier=True)
    with pytest.raises(InputError, match="expected one of 5 classes"):
        wsol.create_localizer("resnet10t", weights=file, pretrained_classifier=True, num_classes=5)


def test_training_from_python_is_the_command_line_bit_for_bit(tmp_path: Path, data_dir: Path, wsol_runs) -> None:
    from_python, again = wsol_runs
    config = yaml.safe_load((from_python.folder / "config.yaml").read_text())
    recorded = yaml.safe_load((again / "config.yaml").read_text())
    assert {k: v for k, v in config.items() if k != "run_dir"} == {k: v for k, v in recorded.items() if k != "run_dir"}
    for name in ("last", "best"):
        ours, theirs = weights(from_python.folder, name), weights(again, name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    assert measured(from_python.results) == measured(json.loads((again / "results.json").read_text()))
    assert {file.name for file in from_python.folder.iterdir()} == {file.name for file in again.iterdir()}


@pytest.fixture(scope="module")
def wsol_runs(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> tuple[wsol.Run, Path]:
    """A run from Python, and one of the command that its config spells."""
    folder = tmp_path_factory.mktemp("api")
    net = wsol.create_localizer("tiny", method="acol_1x1", num_classes=8, seed=3)
    small = {key: value for key, value in SMALL.items() if key not in ("backbone", "method")}
    run = wsol.fit(net, "creatures", data_dir=data_dir, max_epochs=2, run_dir=folder / "python", overrides=small)
    assert net.classes is not None
    words = [f"data_dir={data_dir}", "method=acol_1x1", "seed=3", "trainer.max_epochs=2", f"run_dir={folder / 'shell'}"]
    assert main(["train", *SMALL_RUN, *words]) == 0
    return run, folder / "shell"


def test_predictions_before_a_training_do_not_change_it(wsol_runs, tmp_path: Path, data_dir: Path) -> None:
    """A predictor puts the network in evaluation mode; Lightning would train it so, with frozen batch norms."""
    run, _ = wsol_runs
    net = wsol.create_localizer("tiny", method="acol_1x1", num_classes=8, seed=3)
    wsol.load(net)
    small = {key: value for key, value in SMALL.items() if key not in ("backbone", "method")}
    again = wsol.fit(net, "creatures", data_dir=data_dir, max_epochs=2, run_dir=tmp_path / "run", overrides=small)
    expected = weights(run.folder)
    assert all(torch.equal(value, expected[key]) for key, value in weights(again.folder).items())


def test_evaluation_from_python_is_that_of_the_command_line(wsol_runs, tmp_path: Path) -> None:
    run, _ = wsol_runs
    own = {"num_workers": 0, "trainer.accelerator": "cpu"}
    results = wsol.evaluate(run, protocol=["cam2016", "choe2020-v2"], split="val", out=tmp_path / "a", overrides=own)
    words = [f"run={run.folder}", "protocol=[cam2016,choe2020-v2]", "split=val", f"out={tmp_path / 'b'}"]
    assert main(["eval", *words, "num_workers=0", "trainer.accelerator=cpu"]) == 0
    assert measured(results) == measured(json.loads((tmp_path / "b" / "results.json").read_text()))
    by_path = wsol.evaluate(run.checkpoint("last"), protocol="cam2016", out=tmp_path / "c", overrides=own)
    assert {row["protocol"] for row in by_path["localization"]} == {"cam2016"}


def test_a_network_in_memory_is_evaluated(wsol_runs, tmp_path: Path, data_dir: Path) -> None:
    net = wsol.create_localizer("tiny", num_classes=8)
    small = {key: value for key, value in SMALL.items() if key.startswith(("data.", "image_size", "trainer.acc"))}
    results = wsol.evaluate(
        net, data="creatures", data_dir=data_dir, protocol="cam2016", out=tmp_path / "net", overrides=small
    )
    assert results["classification"]["test"]["top1_error"] > 0
    assert results["name"] == "cam-tiny"


def test_a_box_regressor_from_python_is_that_of_the_command_line(wsol_runs, tmp_path: Path, data_dir: Path) -> None:
    run, _ = wsol_runs
    small = {key: value for key, value in SMALL.items() if key not in ("backbone", "method")}
    net = wsol.create_localizer("tiny", method="psol", num_classes=8, seed=3)
    found = wsol.regress(
        net,
        data_dir=data_dir,
        localizer=run,
        localizer_eval={"protocol": ["cam2016"], "num_workers": 0},
        max_epochs=1,
        run_dir=tmp_path / "python",
        overrides=small,
    )
    words = [
        f"localizer.run={run.folder}",
        "localizer.eval=[protocol=[cam2016],num_workers=0]",
        "method=psol",
        "seed=3",
    ]
    words += [f"data_dir={data_dir}", "trainer.max_epochs=1", f"run_dir={tmp_path / 'shell'}"]
    assert main(["regress", *SMALL_RUN, *words]) == 0
    ours, theirs = (weights(tmp_path / how / "regressor") for how in ("python", "shell"))
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    assert measured(found.results) == measured(json.loads((tmp_path / "shell" / "results.json").read_text()))
    alone = wsol.write_pseudo_targets(
        run, protocol="cam2016", out=tmp_path / "pseudo", overrides={"num_workers": 0, "trainer.accelerator": "cpu"}
    )
    for file in (alone, tmp_path / "shell" / "pseudo"):
        assert (file / "boxes.csv").read_bytes() == (found.folder / "pseudo" / "boxes.csv").read_bytes()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: wsol.create_localizer("resnet5", num_classes=2),
            "unknown backbone 'resnet5': did you mean 'resnet50'",
        ),
        (lambda: wsol.create_localizer("tiny", method="acoll", num_classes=2), "unknown method 'acoll': did you mean"),
        (lambda: wsol.create_localizer("tiny"), "needs num_classes"),
        (lambda: wsol.create_localizer("resnet5"), "unknown backbone 'resnet5'"),
        (lambda: wsol.fit("resnet18"), "network that wsol.create_localizer made, got 'resnet18'"),  # type: ignore
        (lambda: wsol.fit(wsol.create_localizer("tiny", num_classes=8), name="../up"), "expected a folder below runs"),
        (lambda: wsol.create_localizer("tiny", num_classes=3, classes=["a", "b"]), "num_classes=3, but classes has 2"),
        (lambda: wsol.create_localizer("tiny", num_classes=2, pretrained=True), "Tiny has no pretrained weights"),
        (lambda: wsol.create_localizer("vgg16", num_classes=2, weights="no.pth"), "no such file"),
        (
            lambda: wsol.create_localizer("resnet18", num_classes=2, pretrained=True, weights="a.pth"),
            "pretrained=True or weights=<file>, not both",
        ),
        (
            lambda: wsol.create_localizer("tiny", num_classes=2, overrides={"backbone.width": 3}),
            "no config key 'backbone.width'",
        ),
        (
            lambda: wsol.fit(wsol.create_localizer("tiny", num_classes=2), "cubb"),
            "unknown dataset 'cubb': did you mean",
        ),
        (
            lambda: wsol.fit(wsol.create_localizer("tiny", num_classes=8), protocol="choe2002"),
            "unknown protocol 'choe2002': did you mean 'choe2020'",
        ),
        (lambda: wsol.evaluate("nowhere"), "nowhere"),
        (lambda: wsol.evaluate("nowhere", explainer="gradcamm"), "unknown explainer 'gradcamm': did you mean"),
        (lambda: wsol.evaluate("nowhere", root="somewhere"), "requires data"),
        (lambda: wsol.evaluate("nowhere", overrides={"pseudo": "boxes"}), "use wsol.write_pseudo_targets"),
        (lambda: wsol.write_pseudo_targets("nowhere", "bxes"), "did you mean 'boxes'"),  # type: ignore[arg-type]
        (
            lambda: wsol.regress(wsol.create_localizer("tiny", num_classes=8)),
            "GapHead learns without pseudo targets",
        ),
        (
            lambda: wsol.regress(
                wsol.create_localizer("tiny", method="psol", num_classes=8), localizer_train={"seed": 1}
            ),
            "both networks share seed",
        ),
    ],
)
def test_bad_input_is_one_clear_error(call, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        call()
    assert message in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert not list(tmp_path.iterdir())


def test_a_network_of_another_number_of_classes_is_not_trained(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = {key: value for key, value in SMALL.items() if key.startswith("data.")}
    with pytest.raises(InputError, match=r"the network has 2 classes, the dataset 8.*num_classes=8"):
        wsol.fit(wsol.create_localizer("tiny", num_classes=2), data_dir=data_dir, overrides=small)
    with pytest.raises(InputError, match=r"class 0 was 'finch' and is .*in its order"):
        wsol.fit(wsol.create_localizer("tiny", classes=["finch", *"bcdefgh"]), data_dir=data_dir, overrides=small)


def test_the_import_is_light() -> None:
    program = "import sys, wsol; assert 'torch' not in sys.modules; print(len(dir(wsol)) > 10, wsol.__version__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("True ")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        wsol.nothing  # noqa: B018
