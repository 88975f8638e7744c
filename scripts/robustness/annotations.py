"""Annotation files: CSV of boxes, COCO JSON, ILSVRC XML, the lists of wsolevaluation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from scripts.robustness.base import paint, photos
from scripts.robustness.runner import Place, Try

CSV, COCO, XML, LISTS = "CSV of boxes", "COCO JSON", "ILSVRC XML", "lists of wsolevaluation"
ROW = "val/cat/0.png,8,6,24,26"
HEAD = "image,x0,y0,x1,y1"


def tries() -> Iterator[Try]:
    """All of them."""
    yield from _csv()
    yield from _coco()
    yield from _xml()
    yield from _lists()


def _folder(kind: str, what: str, file: str, raw: bytes, right: str) -> Try:
    def make(place: Place) -> None:
        photos(place.inputs / "photos")
        (place.inputs / "photos" / file).write_bytes(raw)

    act = f"data verify data=folder data.root={{inputs}}/photos data.boxes={file}"
    return Try(kind, what, make, act, right, (file, "photos/", "val/cat"))


def _csv() -> Iterator[Try]:
    fields = "val/cat/0.png,{},{},{},{}"
    bad_numbers = {
        "text": "abc", "nothing": "", "NaN": "nan", "infinity": "inf", "-infinity": "-inf", "1e400": "1e400",
        "hexadecimal": "0x10", "a comma inside": "1,5", "an underscore": "1_0", "a date": "2024-01-01",
        "full-width digits": "\uff11", "a NUL": "1\0", "two numbers": "1 2", "a minus alone": "-",
    }  # fmt: skip
    for what, text in bad_numbers.items():
        right = "either" if what in ("full-width digits", "an underscore") else "refused"
        yield _folder(CSV, f"x0 is {what}", "b.csv", f"{HEAD}\n{fields.format(text, 6, 24, 26)}\n".encode(), right)
    boxes = {
        "x1 before x0": (24, 6, 8, 26), "no width": (8, 6, 8, 26), "no height": (8, 6, 24, 6), "negative": (-5, 6, 24, 26),
        "beyond the image": (8, 6, 240, 26), "far outside": (900, 900, 950, 950), "of 1e30": (0, 0, 1e30, 1e30),
    }  # fmt: skip
    for what, box in boxes.items():
        yield _folder(CSV, f"a box {what}", "b.csv", f"{HEAD}\n{fields.format(*box)}\n".encode(), "refused")
    texts: dict[str, tuple[str, bytes]] = {
        "nothing wrong": ("accepted", f"{HEAD}\n{ROW}\n".encode()),
        "columns in another order": ("accepted", b"y0,x0,image,x1,y1\n6,8,val/cat/0.png,24,26\n"),
        "a further column": ("accepted", f"{HEAD},note\n{ROW},x\n".encode()),
        "x,y,width,height": ("accepted", b"image,x,y,width,height\nval/cat/0.png,8,6,16,20\n"),
        "CRLF": ("accepted", f"{HEAD}\r\n{ROW}\r\n".encode()),
        "a byte order mark": ("accepted", b"\xef\xbb\xbf" + f"{HEAD}\n{ROW}\n".encode()),
        "quotes": ("accepted", f'{HEAD}\n"val/cat/0.png","8","6","24","26"\n'.encode()),
        "blank lines": ("accepted", f"{HEAD}\n\n{ROW}\n\n".encode()),
        "fractions": ("accepted", f"{HEAD}\nval/cat/0.png,8.25,6.5,24.75,26\n".encode()),
        "nothing in it": ("refused", b""),
        "a header alone": ("either", f"{HEAD}\n".encode()),
        "no header": ("refused", f"{ROW}\n".encode()),
        "a header of semicolons": ("refused", f"{HEAD}\n{ROW}\n".replace(",", ";").encode()),
        "tabs": ("refused", f"{HEAD}\n{ROW}\n".replace(",", "\t").encode()),
        "the header misspelt": ("refused", f"image,x0,y0,x1,z1\n{ROW}\n".encode()),
        "x0 twice in the header": ("refused", f"image,x0,y0,x1,y1,x0\n{ROW},9\n".encode()),
        "both headers": ("refused", b"image,x0,y0,x1,y1,x,y,width,height\nval/cat/0.png,8,6,24,26,1,1,2,2\n"),
        "a field too few": ("refused", f"{HEAD}\nval/cat/0.png,8,6,24\n".encode()),
        "a field too many": ("refused", f"{HEAD}\n{ROW},9\n".encode()),
        "an open quote": ("refused", f'{HEAD}\n"{ROW}\n'.encode()),
        "an unknown image": ("refused", f"{HEAD}\nval/cat/none.png,8,6,24,26\n".encode()),
        "a name that two images have": ("refused", f"{HEAD}\n0.png,8,6,24,26\n".encode()),
        "a path outside": ("refused", f"{HEAD}\n../../x.png,8,6,24,26\n".encode()),
        "no name": ("refused", f"{HEAD}\n,8,6,24,26\n".encode()),
        "the same box twice": ("either", f"{HEAD}\n{ROW}\n{ROW}\n".encode()),
        "Latin-1": ("refused", f"{HEAD}\nval/caf\xe9.png,8,6,24,26\n".encode("latin-1")),
        "UTF-16": ("refused", f"{HEAD}\n{ROW}\n".encode("utf-16")),
        "bytes": ("refused", bytes(range(256)) * 4),
        "a field of 300,000 letters": ("refused", f"{HEAD}\n{'a' * 300_000},8,6,24,26\n".encode()),
    }  # fmt: skip
    for what, (right, raw) in texts.items():
        yield _folder(CSV, what, "b.csv", raw, right)


def _coco() -> Iterator[Try]:
    image = {"id": 1, "file_name": "val/cat/0.png", "width": 32, "height": 32}
    box = {"id": 1, "image_id": 1, "category_id": 0, "bbox": [8, 6, 16, 20]}

    def of(what: str, images: Any, boxes: Any, right: str = "refused") -> Try:
        raw = json.dumps({"images": images, "annotations": boxes, "categories": []}).encode()
        return _folder(COCO, what, "b.json", raw, right)

    yield of("nothing wrong", [image], [box], "accepted")
    yield of("no boxes", [image], [], "either")
    yield of("a crowd", [image], [box, {**box, "iscrowd": 1}], "either")
    yield of("the same id twice", [image, {**image, "file_name": "val/dog/0.png"}], [box])
    yield of("the same file twice", [image, {**image, "id": 2}], [box])
    yield of("ids of text", [{**image, "id": "a"}], [{**box, "image_id": "a"}], "accepted")
    for key in ("id", "file_name"):
        yield of(f"an image without {key}", [{k: v for k, v in image.items() if k != key}], [box])
    for key in ("image_id", "bbox"):
        yield of(f"a box without {key}", [image], [{k: v for k, v in box.items() if k != key}])
    odd = {"null": None, "a number": 5, "text": "x", "a list": [1], "a mapping": {"a": 1}}
    for what, value in odd.items():
        yield of(f"images is {what}", value, [box])
        yield of(f"annotations is {what}", [image], value)
        yield of(f"an image that is {what}", [value], [box])
        yield of(f"a box that is {what}", [image], [value])
        if what != "text":
            yield of(f"file_name is {what}", [{**image, "file_name": value}], [box])
        yield of(f"image_id is {what}", [image], [{**box, "image_id": value}])
        yield of(f"bbox is {what}", [image], [{**box, "bbox": value}])
    boxes = {
        "three numbers": [8, 6, 16], "five numbers": [8, 6, 16, 20, 1], "texts": ["8", "6", "16", "20"],
        "null in it": [8, None, 16, 20], "true in it": [8, True, 16, 20], "NaN": [8, float("nan"), 16, 20],
        "infinity": [8, 6, float("inf"), 20], "negative width": [8, 6, -4, 20], "no height": [8, 6, 16, 0],
        "10**400": [8, 6, 10**400, 20], "beyond the image": [8, 6, 400, 20],
    }  # fmt: skip
    for what, value in boxes.items():
        yield of(f"bbox: {what}", [image], [{**box, "bbox": value}])
    for what, value in {"text 0": "0", "text no": "no", "null": None, "a list": [0]}.items():
        right = "either" if value is None else "refused"
        yield of(f"iscrowd is {what}", [image], [{**box, "iscrowd": value}], right)
    for what, value in {"another": 640, "text": "32", "negative": -32, "0": 0, "10**18": 10**18}.items():
        right = {"another": "noted", "10**18": "refused"}.get(what, "either")  # the image's own size is what counts
        yield of(f"width is {what}", [{**image, "width": value}], [box], right)
    texts: dict[str, bytes] = {
        "nothing in it": b"", "a list": b"[]", "a number": b"5", "cut off": b'{"images": [{"id": 1,',
        "a comma too many": b'{"images": [], "annotations": [],}', "no JSON": b"hello", "YAML": b"images: []\n",
        "100,000 brackets": b"[" * 100_000, "a number of 6,000 digits": b'{"images": [], "annotations": [' + b"9" * 6000 + b"]}",
        "the key annotations twice": b'{"images": [{"id": 1, "file_name": "val/cat/0.png"}], "annotations": '
        b'[{"image_id": 1, "bbox": [8, 6, 16, 20]}], "annotations": []}',
        "Latin-1": '{"images": [{"id": 1, "file_name": "caf\xe9"}], "annotations": []}'.encode("latin-1"),
        "UTF-16": '{"images": [], "annotations": []}'.encode("utf-16"),
    }  # fmt: skip
    for what, raw in texts.items():
        yield _folder(COCO, what, "b.json", raw, "refused")
    yield _folder(COCO, "a suffix that is none of them", "b.txt", b"{}", "refused")


SYNSETS = ("n01443537", "n01698640")


def _annotation(size: str = "<width>32</width><height>32</height>", objects: str | None = None) -> str:
    box = "<bndbox><xmin>8</xmin><ymin>6</ymin><xmax>23</xmax><ymax>25</ymax></bndbox>"
    inner = objects if objects is not None else f"<object><name>{SYNSETS[0]}</name>{box}</object>"
    return f"<annotation><filename>x</filename><size>{size}</size>{inner}</annotation>"


def _object(name: str = f"<name>{SYNSETS[0]}</name>", **corners: object) -> str:
    values: dict[str, object] = {"xmin": 8, "ymin": 6, "xmax": 23, "ymax": 25, **corners}
    inner = "".join(f"<{key}>{value}</{key}>" for key, value in values.items() if value is not None)
    return f"<object>{name}<bndbox>{inner}</bndbox></object>"


def _xml() -> Iterator[Try]:
    good = _annotation()
    entity = '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/hostname">]>' + good.replace("<filename>x", "<filename>&e;")
    laughs = "".join(f'<!ENTITY l{k + 1} "{f"&l{k};" * 10}">' for k in range(9))
    bomb = f'<!DOCTYPE a [<!ENTITY l0 "ha">{laughs}]>' + good.replace("<filename>x", "<filename>&l9;")
    remote = good.replace("<annotation>", '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd"><annotation>')
    texts: dict[str, tuple[str, str | bytes]] = {
        "nothing wrong": ("accepted", good),
        "nothing in it": ("refused", ""),
        "no XML": ("refused", "hello"),
        "cut off": ("refused", good[: len(good) // 2]),
        "no object": ("refused", _annotation(objects="")),
        "an external entity": ("refused", entity),
        "a billion laughs": ("refused", bomb),
        "a document type elsewhere": ("either", remote),
        "an unknown encoding": ("refused", '<?xml version="1.0" encoding="klingon"?>' + good),
        "two names": ("refused", _annotation(objects=_object() + _object(f"<name>{SYNSETS[1]}</name>"))),
        "an unknown class": ("refused", _annotation(objects=_object("<name>n99999999</name>"))),
        "an empty name": ("refused", _annotation(objects=_object("<name/>"))),
        "no name": ("refused", _annotation(objects=_object(""))),
        "two boxes in an object": ("refused", _annotation(objects=_object().replace("</bndbox>", "</bndbox><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox>"))),
        "two xmin in a box": ("refused", _annotation(objects=_object().replace("<xmin>", "<xmin>1</xmin><xmin>", 1))),
        "no box": ("refused", _annotation(objects=f"<object><name>{SYNSETS[0]}</name></object>")),
        "two objects": ("accepted", _annotation(objects=_object() * 2)),
        "another size": ("noted", _annotation("<width>64</width><height>32</height>")),
        "a size of 15 digits": ("refused", _annotation("<width>999999999999999</width><height>32</height>")),
        "a size of text": ("either", _annotation("<width>a</width><height>32</height>")),
        "a size of -1": ("either", _annotation("<width>-1</width><height>32</height>")),
        "10,000 levels": ("refused", "<a>" * 10_000 + "</a>" * 10_000),
        "bytes": ("refused", bytes(range(256))),
        "UTF-16": ("accepted", ('<?xml version="1.0" encoding="utf-16"?>' + good).encode("utf-16")),
    }  # fmt: skip
    for what, value in {"missing": None, "text": "a", "NaN": "nan", "1e400": "1e400", "negative": -4, "after xmax": 30,
                        "beyond the image": 900, "a fraction": 8.5, "empty": ""}.items():  # fmt: skip
        right = "accepted" if what == "a fraction" else "refused"
        texts[f"xmin is {what}"] = (right, _annotation(objects=_object(xmin=value)))
    for what, (right, raw) in texts.items():

        def make(place: Place, raw: str | bytes = raw) -> None:
            root = place.inputs / "ILSVRC"
            for k, synset in enumerate(SYNSETS):
                paint(root / "train" / synset / f"{synset}_{k}.JPEG", k)
            for k in (1, 2):
                paint(root / "val" / f"ILSVRC2012_val_{k:08d}.JPEG", k)
            folder = root / "Annotations/val"
            folder.mkdir(parents=True)
            (folder / "ILSVRC2012_val_00000001.xml").write_bytes(raw if isinstance(raw, bytes) else raw.encode())
            (folder / "ILSVRC2012_val_00000002.xml").write_text(
                _annotation(objects=_object(f"<name>{SYNSETS[1]}</name>"))
            )

        act = "data verify data=ilsvrc data.root={inputs}/ILSVRC"
        yield Try(XML, what, make, act, right, ("val_00000001", "Annotations"))


def _lists() -> Iterator[Try]:
    ids = "a/0.png"
    cases: dict[tuple[str, str], tuple[str, Callable[[str], str | None]]] = {
        ("image_ids", "missing"): ("noted", lambda text: None),
        ("image_ids", "empty"): ("refused", lambda text: ""),
        ("image_ids", "a line twice"): ("refused", lambda text: f"{text}\n{ids}"),
        ("image_ids", "an unknown image"): ("refused", lambda text: f"{text}\na/none.png"),
        ("image_ids", "a path outside"): ("refused", lambda text: f"{text}\n../../../etc/hostname"),
        ("image_ids", "a NUL"): ("refused", lambda text: f"{text}\na/\0.png"),
        ("class_labels", "missing"): ("refused", lambda text: None),
        ("class_labels", "a line too few"): ("refused", lambda text: text.partition("\n")[2]),
        ("class_labels", "a label of text"): ("refused", lambda text: text.replace(",0", ",x", 1)),
        ("class_labels", "a label of -1"): ("refused", lambda text: text.replace(",0", ",-1", 1)),
        ("class_labels", "a label of 10**30"): ("refused", lambda text: text.replace(",0", "," + "9" * 30, 1)),
        ("class_labels", "a label of 1.5"): ("refused", lambda text: text.replace(",0", ",1.5", 1)),
        ("class_labels", "a gap in the labels"): ("accepted", lambda text: text.replace(",1", ",7")),
        ("class_labels", "two labels of an image"): ("refused", lambda text: f"{text}\n{ids},1"),
        ("image_sizes", "missing"): ("accepted", lambda text: None),
        ("image_sizes", "another size"): ("noted", lambda text: text.replace("32,32", "64,32", 1)),
        ("image_sizes", "a size of 0"): ("refused", lambda text: text.replace("32,32", "0,32", 1)),
        ("image_sizes", "a size of text"): ("refused", lambda text: text.replace("32,32", "a,32", 1)),
        ("localization", "x1 before x0"): ("refused", lambda text: text.replace("8,6,23,25", "23,6,8,25", 1)),
        ("localization", "a box of text"): ("refused", lambda text: text.replace("8,6,23,25", "a,6,23,25", 1)),
        ("localization", "NaN"): ("refused", lambda text: text.replace("8,6,23,25", "nan,6,23,25", 1)),
        ("localization", "beyond the image"): ("refused", lambda text: text.replace("8,6,23,25", "8,6,230,25", 1)),
        ("localization", "a field too few"): ("refused", lambda text: text.replace("8,6,23,25", "8,6,23", 1)),
        ("localization", "an unknown image"): ("refused", lambda text: f"{text}\na/none.png,8,6,23,25"),
        ("localization", "an image without a box"): ("refused", lambda text: text.partition("\n")[2]),
        ("localization", "nothing wrong"): ("accepted", lambda text: text),
    }  # fmt: skip
    for (name, what), (right, change) in cases.items():

        def make(place: Place, name: str = name, change: Callable[[str], str | None] = change) -> None:
            for split in ("train", "val", "test"):
                images = [f"{c}/{k}.png" for k in range(2) for c in "ab"]
                tables = {
                    "image_ids": [f"{i}" for i in images],
                    "class_labels": [f"{i},{'ab'.index(i[0])}" for i in images],
                    "image_sizes": [f"{i},32,32" for i in images],
                    "localization": [f"{i},8,6,23,25" for i in images],
                }
                for k, i in enumerate(images):
                    paint(place.inputs / "images" / i, k)
                folder = place.inputs / "metadata" / split
                folder.mkdir(parents=True)
                for table, rows in tables.items():
                    rows = [row.replace("/", f"/{split}-") for row in rows]
                    for row in rows:
                        source = row.split(",")[0]
                        paint(place.inputs / "images" / source, len(source))
                    text: str | None = "\n".join(rows)
                    if split == "test" and table == name:
                        text = change("\n".join(rows))
                        text = text.replace(f"{ids}", rows[0].split(",")[0]) if text is not None else None
                    if text is not None:
                        (folder / f"{table}.txt").write_text(text)

        act = "data verify data=cub_lists data.metadata_root={inputs}/metadata data.image_root={inputs}/images data.inclusive=true"
        yield Try(LISTS, f"{name}: {what}", make, act, right, (f"{name}.txt", "test", "metadata"))
