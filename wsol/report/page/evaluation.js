"use strict";
// The evaluation: decode boxes, compute their IoU with the ground truth, and find the kind of error. Uses no DOM.
// All arithmetic is that of wsol.functional.iou, wsol.protocols and wsol.functional.error_kinds, operation by operation
// in double precision, so results equal Python's to the last bit; tests/report compares them.
var WSOL = {};

WSOL.evaluation = (() => {
  const KINDS = ["right", "right box, wrong class", "part", "too large", "several objects", "miss"];
  const SEVERAL_COVERED = 0.3,
    PART_INSIDE = 0.5,
    TOO_LARGE_COVERED = 0.7;
  const FRAME = 6; // numbers of a frame: resized width, height; offset x, y; width, height

  function bytes(text) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    const plain = atob(text),
      out = new Uint8Array(plain.length);
    for (let i = 0; i < out.length; i++) out[i] = plain.charCodeAt(i);
    return out;
  }

  const unzigzag = (value) => (value >> 1) ^ -(value & 1);

  // A part of a run's boxes: image i (counted within the part) has the steps start[i] ... start[i + 1] - 1.
  // first: position of the threshold from which a step is valid; boxes: x0, y0, x1, y1 in the frame, half-open;
  // frames: FRAME numbers per image; truth[i]: ground-truth corners in the frame, four per box, ends as the protocol counts them.
  // exactText: the corners of boxes that a network gave, one per image, which need not be whole numbers.
  function decode(text, trueText, exactText) {
    const data = bytes(text);
    const corners = new Float64Array(bytes(trueText).buffer);
    const most = Math.ceil(data.length / 5); // a step takes at least 5 bytes
    const first = new Uint16Array(most);
    const boxes = new Int32Array(4 * most);
    const start = [0];
    const frames = [];
    const truth = [];
    let at = 0;
    let step = 0;
    let corner = 0;
    const next = () => {
      let value = 0;
      let shift = 0;
      let byte;
      do {
        byte = data[at++];
        value |= (byte & 127) << shift;
        shift += 7;
      } while (byte > 127);
      return value;
    };
    while (at < data.length) {
      const last = step + next();
      const trueBoxes = next();
      frames.push(next(), next(), unzigzag(next()), unzigzag(next()), next(), next());
      truth.push(corners.subarray(corner, (corner += 4 * trueBoxes)));
      let threshold = 0;
      let x0 = 0;
      let y0 = 0;
      let x1 = 0;
      let y1 = 0;
      for (; step < last; step++) {
        first[step] = threshold += next();
        boxes[4 * step] = x0 += unzigzag(next());
        boxes[4 * step + 1] = y0 += unzigzag(next());
        boxes[4 * step + 2] = x1 += unzigzag(next());
        boxes[4 * step + 3] = y1 += unzigzag(next());
      }
      start.push(step);
    }
    return {
      start: Int32Array.from(start),
      first: first.slice(0, step),
      boxes: exactText === undefined ? boxes.slice(0, 4 * step) : new Float64Array(bytes(exactText).buffer),
      frames: Int32Array.from(frames),
      truth,
    };
  }

  // The greatest IoU of a step's box with a ground-truth box, as the protocol computes it; 0 without a step.
  function overlap(part, image, step, protocol) {
    if (step < 0) return 0;
    const box = part.boxes.subarray(4 * step, 4 * step + 4);
    const frame = part.frames.subarray(FRAME * image, FRAME * (image + 1));
    return bestOverlap(ends(box, frame, protocol), part.truth[image], protocol.plus_one ? 1 : 0);
  }

  // The box with its ends as the protocol counts them.
  function ends(box, frame, protocol) {
    const [x0, y0, x1, y1] = box,
      width = frame[4],
      height = frame[5];
    if (x0 === x1 && protocol.nothing_found !== "zeros")
      return protocol.nothing_found === "first_pixel" ? [x0, y0, 1, 1] : [x0, y0, width, height];
    if (protocol.predicted_end === "last_pixel") return [x0, y0, x1 - 1, y1 - 1];
    if (protocol.predicted_end === "one_past_clipped")
      return [x0, y0, Math.min(x1, width - 1), Math.min(y1, height - 1)];
    return [x0, y0, x1, y1];
  }

  // The greatest IoU of a box with any ground-truth box, four corners each.
  function bestOverlap(a, truth, more) {
    const areaA = Math.max(a[2] - a[0] + more, 0) * Math.max(a[3] - a[1] + more, 0);
    let best = 0;
    for (let j = 0; j < truth.length; j += 4) {
      const x0 = truth[j],
        y0 = truth[j + 1],
        x1 = truth[j + 2],
        y1 = truth[j + 3];
      const areaB = Math.max(x1 - x0 + more, 0) * Math.max(y1 - y0 + more, 0);
      const width = Math.max(Math.min(a[2], x1) - Math.max(a[0], x0) + more, 0);
      const height = Math.max(Math.min(a[3], y1) - Math.max(a[1], y0) + more, 0);
      const union = areaA + areaB - width * height;
      best = Math.max(best, union > 0 ? (width * height) / union : 0);
    }
    return best;
  }

  // The step that is valid at a threshold's position; -1 if the image has no boxes.
  function stepAt(part, image, threshold) {
    let low = part.start[image],
      high = part.start[image + 1];
    if (low === high) return -1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (part.first[middle] <= threshold) low = middle;
      else high = middle;
    }
    return low;
  }

  // A step's box in the image, half-open, within the image of [width, height].
  function imageBox(part, image, step, size) {
    const frame = part.frames.subarray(FRAME * image, FRAME * (image + 1));
    return [0, 1, 2, 3].map((c) => {
      const axis = c & 1;
      const value = ((part.boxes[4 * step + c] + frame[2 + axis]) * size[axis]) / frame[axis];
      return Math.min(Math.max(value, 0), size[axis]);
    });
  }

  const right = (iou, overlap, protocol) => (protocol.boundary === ">=" ? iou >= overlap : iou > overlap);

  const share = (part, whole) => (whole > 0 ? part / whole : 0);
  const area = (x0, y0, x1, y1) => Math.max(x1 - x0, 0) * Math.max(y1 - y0, 0);

  // The position in KINDS of a localization, by wsol.functional.error_kinds; boxes are in the image frame, half-open.
  function kind(box, trueBoxes, boxRight, classRight) {
    if (boxRight) return classRight ? 0 : 1;
    if (!trueBoxes.length) return 5;
    const [x0, y0, x1, y1] = box,
      own = area(x0, y0, x1, y1);
    let several = 0,
      best = -1,
      inside = 0,
      covered = 0;
    for (const [u0, v0, u1, v1] of trueBoxes) {
      const shared = area(Math.max(u0, x0), Math.max(v0, y0), Math.min(u1, x1), Math.min(v1, y1));
      const object = area(u0, v0, u1, v1),
        overlap = share(shared, own + object - shared);
      if (share(shared, object) > SEVERAL_COVERED) several++;
      if (overlap > best) [best, inside, covered] = [overlap, share(shared, own), share(shared, object)];
    }
    if (several > 1) return 4;
    if (inside > PART_INSIDE) return 2;
    return covered >= TOO_LARGE_COVERED ? 3 : 5;
  }

  return { KINDS, bytes, decode, overlap, stepAt, imageBox, right, kind };
})();
