"""The published numbers, and that every table's numbers and experiments are there."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import wsol.tables
from wsol.config.compose import compose, groups
from wsol.errors import InputError
from wsol.tables.layout import find_layout, read_layout
from wsol.tables.numbers import published
from wsol.tables.paper_table import PaperTable

KNOWN = groups()
TABLES = sorted(KNOWN["table"])


def test_there_are_the_tables_asked_for() -> None:
    wanted = {"cam2016-1", "cam2016-2", "cam2016-3", "cam2016-4", "acol2018", "choe2020", "tiny_imagenet", "creatures"}
    assert wanted <= set(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_every_table_reads_and_its_experiments_and_protocols_exist(name: str) -> None:
    assert KNOWN["table"][name], "the first comment line says what the table is"
    layout = read_layout(find_layout(name))
    for cell in layout.cells:
        assert cell.experiment is None or cell.experiment in KNOWN["experiment"], cell
        assert cell.column.protocol is None or cell.column.protocol in KNOWN["protocol"], cell
        assert cell.published is None or 0 <= cell.published.value <= 100, cell
    assert "nothing published" in layout.source or any(cell.published for cell in layout.cells)


def test_every_leaf_of_the_file_is_found_with_its_own_provenance() -> None:
    content = yaml.safe_load((Path(wsol.tables.__file__).parent / "numbers.yaml").read_text())

    def leaves(node, path, provenance):
        provenance = "unverified" if path and path[-1] == "unverified" else node.get("provenance", provenance)
        for key, child in node.items():
            if isinstance(child, dict):
                yield from leaves(child, [*path, key], provenance)
            elif isinstance(child, int | float):
                yield "/".join([*path, key]), float(child), provenance
            elif isinstance(child, list) and all(isinstance(each, int | float) for each in child):
                for i, each in enumerate(child):
                    yield "/".join([*path, key, str(i)]), float(each), provenance

    found = list(leaves(content, [], "unverified"))
    assert len(found) > 150
    for path, value, provenance in found:
        assert published(path) == (value, provenance), path
    assert {provenance for *_, provenance in found} == {"authors", "secondary", "unverified"}


def test_a_sum_is_as_sure_as_its_least_sure_part() -> None:
    sure = "acol2018/VGGnet-ACoL/ilsvrc_gt_known_error"
    unsure = "acol2018/unverified/VGGnet-ACoL/cub_classification_error/0"
    assert published(sure).provenance == "secondary"
    assert published(sure, unsure).value == pytest.approx(37.04 + 28.1)
    assert published(sure, unsure).provenance == "unverified"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("cam2061", "did you mean 'cam2016'"),
        ("cam2016/cub_box_accuracy_iou50/chanse", "did you mean 'chance'"),
        ("cam2016/ilsvrc_val_localization_error/NIN/7", "has no '7'"),
        ("cam2016/ilsvrc_val_localization_error", "is not a number"),
    ],
)
def test_a_wrong_path_is_refused_with_what_there_is(path: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        published(path)


def test_choe_2020_cells_are_cam_plus_the_difference() -> None:
    cells = {(cell.row, cell.name): cell for cell in read_layout(find_layout("choe2020")).cells}
    assert cells["ADL", "cub-resnet50"].published.value == pytest.approx(63.0 - 4.6)
    assert cells["ADL", "cub-resnet50"].experiment == "choe2020/cub/adl_resnet50"
    assert cells["HaS", "openimages-inception_v3"].published.value == pytest.approx(63.2 - 5.1)
    assert cells["few-shot localizer", "cub-vgg16"].experiment is None
    assert cells["CAM", "openimages-vgg16"].column.of == "pixels"


BAD = [
    ("titel: x\n", "unknown key in the table 'titel'"),
    (
        "title: x\nsource: y\ncolumns: {a: {metric: top1_error}}\nrows: [{label: r, experiment: demo}]\n",
        "needs protocol and threshold",
    ),
    ("title: x\nsource: y\ncolumns: {}\nshape: width\nrows: []\n", "shape 'width'"),
    ("title: x\nsource: y\ncolumns: {}\nattributes: [a]\nrows: [{label: r, about: {b: c}}]\n", "`about` of row 'r'"),
    ("title: x\nsource: y\ncolumns: {a: {metric: m, of: boxes}}\nrows: []\n", "classification"),
    ("title: x\nsource: y\ncolumns: {a: {metric: nobody, of: pixels}}\nrows: []\n", "metric=nobody: .*expected PxAP"),
    ("title: x\nsource: y\ncolumns: {a: {metric: PxAP, of: classification}}\nrows: []\n", "metric=PxAP: .*top"),
    (
        "title: x\nsource: y\ncolumns: {a: {metric: PxAP, of: pixels}}\nrows: [{label: r, experimnt: e}]\n",
        "did you mean 'experiment'",
    ),
    (
        "title: x\nsource: y\ncolumns: {a: {metric: PxAP, of: pixels}}\nrows: [{label: r, published: choe2020/CAM}]\n",
        "9 numbers for 1 columns",
    ),
    (
        "title: x\nsource: y\ncolumns: {a: {metric: PxAP, of: pixels}}\nrows: [{label: r}, {label: r}]\n",
        "two rows are called 'r'",
    ),
    ("title: [\n", "unreadable"),
    ("- 1\n", "expected a mapping"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_a_faulty_table_is_refused_with_its_file(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_layout(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("name", ["sota-cub", "sota-ilsvrc"])
def test_wsol_regress_makes_the_rows_of_box_regressors(name: str, tmp_path: Path) -> None:
    table = PaperTable(read_layout(find_layout(name)), ["data.root=somewhere"], tmp_path, [])
    commands = [table.command(cell, 3) for cell in table.layout.cells if cell.regress]
    assert len(commands) >= 3 * 3
    for verb, *words in commands:
        config = compose(verb, words)
        assert (verb, config.seed, config.resume) == ("regress", 3, True)
        assert config.method.head._target_ == "wsol.heads.box.BoxHead"
        assert len(config.localizer.eval)
    others = {table.command(cell, 3)[0] for cell in table.layout.cells if cell.experiment and not cell.regress}
    assert others == {"train"}
