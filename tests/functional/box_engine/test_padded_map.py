import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wsol.functional.box_engine.component_tree import GROUPS_4, GROUPS_8
from wsol.functional.box_engine.padded_map import LEFT, compare, pad

RING = [(1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1)]
"""dx, dy of the neighbours 0 to 7."""

any_map = hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 900))


@given(any_map)
def test_masks_and_events_are_those_of_the_definition(levels):
    padded, share = pad(levels)
    height, width = levels.shape
    order = sorted((-int(levels[y, x]), y, x) for y in range(height) for x in range(width))
    rank = {(y, x): i for i, (_, y, x) in enumerate(order)}
    marks = []
    for (y, x), own in rank.items():
        p = (y + 1 << int(padded.shift)) + x + LEFT
        before = [rank.get((y + dy, x + dx), len(rank)) < own for dx, dy in RING]
        assert padded.earlier[p] == sum(bit << i for i, bit in enumerate(before))
        for flag, tables, there in ((1, GROUPS_8, before), (2, GROUPS_4, [not bit for bit in before])):
            peak = not (there[0] or there[4]) or not (there[2] or there[6])
            event = peak or tables[0][sum(bit << i for i, bit in enumerate(there))] != 1
            assert bool(padded.events[p] & flag) == event
            marks += [event] if flag == 1 else []
    assert share == sum(marks) / len(rank)


def test_comparing_twice_changes_nothing():
    padded, _ = pad(np.random.default_rng(0).integers(0, 9, (13, 21)).astype(np.uint16))
    before = padded.earlier.copy()
    padded.earlier[:] = 0
    compare(padded)
    assert (padded.earlier == before).all()
