import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.functional.reference_boxes import EIGHT, FOUR, box, regions
from wsol.functional.box_engine.component_tree import GROUPS_4, GROUPS_8, grow
from wsol.functional.box_engine.padded_map import LEFT, pad

RING = [(1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1)]
"""dx, dy of the neighbours 0 to 7."""

any_map = hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 900))


@pytest.mark.parametrize(("tables", "neighbours"), [(GROUPS_8, EIGHT), (GROUPS_4, FOUR)])
def test_groups_are_the_regions_around_a_pixel(tables, neighbours):
    for mask in range(256):
        around = np.zeros((3, 3), bool)
        for bit, (dx, dy) in enumerate(RING):
            around[1 + dy, 1 + dx] = mask >> bit & 1
        adjacent = {(1 + dy, 1 + dx) for dy, dx in neighbours}
        expected = [region for region in regions(around, neighbours) if adjacent & set(region)]
        groups, members = (table[mask] for table in tables)
        assert groups == len(expected)
        chosen = [(1 + RING[bit][1], 1 + RING[bit][0]) for bit in members[:groups]]
        assert set(chosen) <= adjacent
        assert all(sum(place in region for place in chosen) == 1 for region in expected)


@given(any_map, st.integers(1, 6))
def test_nodes_are_the_components_at_each_cut(levels, num_cuts):
    cuts = np.arange(num_cuts)
    rank = np.searchsorted(cuts, np.arange(256)).astype(np.int32)
    padded, _ = pad(levels)
    above, below = grow(padded, rank, num_cuts, holes=True)
    for cut in cuts:
        for nodes, time, inside, neighbours in (
            (above, num_cuts - 1 - cut, levels >> 8 > cut, EIGHT),
            (below, cut, np.pad(levels >> 8 <= cut, 1, constant_values=True), FOUR),
        ):
            there = nodes[(nodes["birth"] <= time) & (time < nodes["end"])]
            found = sorted((int(n["x0"]), int(n["y0"]), int(n["x1"]), int(n["y1"])) for n in there)
            expected = [box(region) for region in regions(inside, neighbours)]
            corners = sorted((x, y, x + w - 1, y + h - 1) for x, y, w, h in expected)
            if nodes is below:  # without the one outside, and without its margin
                corners = sorted((x0 - 1, y0 - 1, x1 - 1, y1 - 1) for x0, y0, x1, y1 in corners if (x0, y0) != (0, 0))
            assert found == corners
            for node in there:  # `top` is in the upper row of the box, on the right side of the cut
                y, x = (
                    (int(node["top"]) >> int(padded.shift)) - 1,
                    (int(node["top"]) & (1 << int(padded.shift)) - 1) - LEFT,
                )
                assert y == node["y0"]
                assert node["x0"] <= x <= node["x1"]
                assert (levels[y, x] >> 8 > cut) == (nodes is above)


@given(any_map)
def test_a_node_is_followed_by_one_that_contains_it(levels):
    padded, _ = pad(levels)
    nodes, _ = grow(padded, np.arange(256, dtype=np.int32), 255, holes=False)
    assert (np.diff(nodes["birth"]) >= 0).all()
    for node in nodes:
        if node["end"] < 255:
            after = nodes[node["after"]]
            assert after["birth"] <= node["end"] <= after["end"]
            assert after["x0"] <= node["x0"] <= node["x1"] <= after["x1"]
            assert after["y0"] <= node["y0"] <= node["y1"] <= after["y1"]
