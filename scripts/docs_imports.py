"""Draws docs/images/imports.svg, the import rule as a picture, from the order that tests/test_imports.py holds.

Run it after that order has changed: python -m scripts.docs_imports
"""

from __future__ import annotations

from pathlib import Path

from tests.test_imports import FOLDERS

FILE = Path(__file__).resolve().parents[1] / "docs" / "images" / "imports.svg"
COLUMNS, WIDTH, HEIGHT, GAP, LEFT, TOP = 5, 148, 34, 10, 48, 64


def picture(folders: list[str]) -> str:
    """Return the SVG: rows of boxes from the bottom to the top, each row from left to right."""
    rows = [folders[start : start + COLUMNS] for start in range(0, len(folders), COLUMNS)]
    width, height = LEFT + COLUMNS * (WIDTH + GAP) + GAP, TOP + len(rows) * (HEIGHT + GAP) + GAP
    shapes = []
    for i, row in enumerate(reversed(rows)):
        for j, name in enumerate(row):
            x, y = LEFT + j * (WIDTH + GAP), TOP + i * (HEIGHT + GAP)
            shapes.append(f'<rect class="box" x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="5"/>')
            shapes.append(f'<text class="name" x="{x + WIDTH / 2:g}" y="{y + 22}">{name}</text>')
    end = height - 2 * GAP
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>The import rule: {", ".join(folders)}; each imports only from those before it</title>
<style>
  svg {{ background: #f4f7f6; font: 14px system-ui, sans-serif; }}
  .box {{ fill: #ffffff; stroke: #22423f; }}
  .name {{ fill: #162c2a; text-anchor: middle; font-family: monospace; }}
  .line {{ stroke: #22423f; stroke-width: 2; fill: none; }}
  text {{ fill: #22423f; }}
</style>
<text x="{LEFT}" y="26">A folder imports only from folders in rows below its own,</text>
<text x="{LEFT}" y="46">and from folders to its left in the same row.</text>
<path class="line" d="M24 {TOP} V{end} M18 {end - 10} L24 {end} L30 {end - 10}"/>
{chr(10).join(shapes)}
</svg>
"""


if __name__ == "__main__":
    FILE.write_text(picture(FOLDERS), encoding="utf-8")
