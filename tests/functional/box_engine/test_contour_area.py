import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wsol.functional.box_engine.contour_area import _trace
from wsol.functional.box_engine.padded_map import LEFT, pad


@given(hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 1)))
def test_a_traced_border_has_opencvs_area(binary):
    padded, _ = pad(binary)
    contours, hierarchy = cv2.findContours(binary.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for contour, (*_, parent) in zip(contours, hierarchy[0] if contours else [], strict=True):
        points = contour[:, 0]
        x, y = points[points[:, 1].argmin()] if parent < 0 else points[points[:, 1].argmax()]
        position = (int(y) + 1 << int(padded.shift)) + int(x) + LEFT
        area, first, steps = _trace(padded.values, padded.ring, np.uint64(position), 2)
        sign = 1 if parent < 0 else -1  # the pixel above the lowest one of a hole's border is in the hole
        assert area == sign * 2 * cv2.contourArea(contour)
        assert first == min((int(y) + 1 << int(padded.shift)) + int(x) + LEFT for x, y in points)
        assert steps == 1 + (len(points) if len(points) > 1 else 0)
