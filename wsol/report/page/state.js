"use strict";
// The settings of the page, and the results for every image of every run.
WSOL.state = (() => {
  const evaluation = WSOL.evaluation,
    data = WSOL.data;
  const NOT_EVALUATED = 255;
  const ORIGINS = ["fixed", "pseudo", "fullsup", "oracle"];
  let report = null;
  const state = {
    at: [], // position of each run's threshold
    overlap: 0.5,
    run: 0, // whose results filter and sort
    steps: [],
    iou: [],
    kinds: [], // by run, then image
    text: "",
    label: -1,
    predicted: -1,
    chosen: new Set(),
    low: 0,
    high: 1,
    sort: "order",
    show: "heat",
    order: [], // images that pass the filters, sorted
  };

  function start(content) {
    report = content;
    const zeros = (Type) => report.runs.map(() => new Type(report.count));
    state.steps = zeros(Int32Array);
    state.iou = zeros(Float64Array);
    state.kinds = zeros(Uint8Array);
    state.at = report.runs.map(() => 0);
    state.overlap = report.protocol.own_ious.includes(0.5) ? 0.5 : report.protocol.own_ious[0];
    state.at.fill(nearest(0.2));
    const found = ORIGINS.find((origin) => report.runs.some((_, run) => reported(run, origin) !== null));
    if (found) toOrigin(found);
  }

  // Whether the slider sets a run's threshold: not if the network gives boxes, or the protocol ranks them.
  const hasThreshold = (run) => !report.runs[run].gives_boxes && report.protocol.thresholds.length > 0;

  // The runs with a threshold.
  const withThreshold = () => report.runs.map((_, run) => run).filter(hasThreshold);

  // The threshold of an origin as results.json has it, at the selected overlap if each has its own; null if missing.
  function reported(run, origin) {
    const row = report.runs[run].localization.find(
      (one) => one.protocol === report.protocol.name && one.threshold_origin === origin && one.maps === "localizer",
    );
    if (!row) return null;
    if (!row.by_iou) return row.threshold;
    const of = (overlap) => row.by_iou.find((one) => one.iou === overlap);
    return (of(state.overlap) || of(0.5) || row.by_iou[0]).threshold;
  }

  function nearest(threshold) {
    const all = report.protocol.thresholds;
    let best = 0;
    for (let i = 1; i < all.length; i++) if (Math.abs(all[i] - threshold) < Math.abs(all[best] - threshold)) best = i;
    return best;
  }

  function toOrigin(origin) {
    report.runs.forEach((_, run) => {
      const threshold = reported(run, origin);
      if (threshold !== null) state.at[run] = nearest(threshold);
    });
  }

  // Evaluate every image of every run at the selected thresholds and overlap.
  function evaluate() {
    report.runs.forEach((run, r) => {
      const { boxes } = report.images;
      for (let i = 0; i < report.count; i++) {
        const part = data.part(r, i),
          step = evaluation.stepAt(part, data.within(i), state.at[r]);
        state.steps[r][i] = step;
        state.iou[r][i] = evaluation.overlap(part, data.within(i), step, report.protocol);
        state.kinds[r][i] = run.counts[i] ? kind(r, i, part, step) : NOT_EVALUATED;
      }
    });
  }

  function kind(r, i, part, step) {
    const boxRight = step >= 0 && evaluation.right(state.iou[r][i], state.overlap, report.protocol);
    const box = step < 0 ? [0, 0, 0, 0] : evaluation.imageBox(part, data.within(i), step, report.images.sizes[i]);
    return evaluation.kind(box, report.images.boxes[i], boxRight, classRight(r, i));
  }

  const classRight = (r, i) => !report.runs[r].ranks || report.runs[r].ranks[i] === 0;

  // The percentage of correct boxes, averaged as in the protocol, at each of several overlaps, ascending.
  function accuracies(r, overlaps) {
    const { counts } = report.runs[r],
      { labels } = report.images,
      byClass = report.protocol.average === "class";
    const groups = new Map(); // by class, or all in one: how many images pass just the first n overlaps
    for (let i = 0; i < report.count; i++) {
      if (!counts[i]) continue;
      const key = byClass ? labels[i] : 0;
      if (!groups.has(key)) groups.set(key, new Float64Array(overlaps.length + 1));
      let low = 0,
        high = state.steps[r][i] < 0 ? 0 : overlaps.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (evaluation.right(state.iou[r][i], overlaps[middle], report.protocol)) low = middle + 1;
        else high = middle;
      }
      groups.get(key)[low]++;
    }
    const sums = overlaps.map(() => 0);
    for (const passed of groups.values()) {
      const all = passed.reduce((a, b) => a + b, 0);
      let hits = all;
      overlaps.forEach((_, n) => (sums[n] += (hits -= passed[n]) / all));
    }
    return sums.map((sum) => (groups.size ? (100 * sum) / groups.size : NaN));
  }

  // The protocols by which the box that a network gave is correct, and all that evaluate the image; null for maps.
  function protocols(r, i) {
    const run = report.runs[r];
    if (!run.gives_boxes) return null;
    const all = Object.keys(run.correct).filter((name) => run.correct[name][i] >= 0);
    return { all, right: all.filter((name) => run.correct[name][i] > 0) };
  }

  // The number of images of each kind.
  function tally(r) {
    const out = new Array(evaluation.KINDS.length).fill(0);
    for (const of of state.kinds[r]) if (of !== NOT_EVALUATED) out[of]++;
    return out;
  }

  // Fill and sort `order`.
  function select() {
    const { run, iou, kinds } = state,
      words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
    const { labels, ids } = report.images,
      predicted = report.runs[run].predicted,
      order = [];
    for (let i = 0; i < report.count; i++) {
      if (state.label >= 0 && labels[i] !== state.label) continue;
      if (state.predicted >= 0 && (!predicted || predicted[i] !== state.predicted)) continue;
      if (state.chosen.size && !state.chosen.has(kinds[run][i])) continue;
      if (iou[run][i] < state.low || iou[run][i] > state.high) continue;
      if (words.length) {
        const about = `${ids[i]} ${report.classes[labels[i]]}`.toLowerCase();
        if (!words.every((word) => about.includes(word))) continue;
      }
      order.push(i);
    }
    const spread = (i) => Math.max(...iou.map((of) => of[i])) - Math.min(...iou.map((of) => of[i]));
    const by = {
      class: (a, b) => labels[a] - labels[b],
      worst: (a, b) => iou[run][a] - iou[run][b],
      best: (a, b) => iou[run][b] - iou[run][a],
      apart: (a, b) => spread(b) - spread(a),
    }[state.sort];
    state.order = by ? order.sort(by) : order; // the sort is stable: equal ones stay in the dataset's order
  }

  return Object.assign(state, {
    NOT_EVALUATED,
    ORIGINS,
    start,
    reported,
    nearest,
    toOrigin,
    evaluate,
    accuracies,
    protocols,
    tally,
    select,
    classRight,
    hasThreshold,
    withThreshold,
    threshold: (run) => (hasThreshold(run) ? report.protocol.thresholds[state.at[run]] : null),
  });
})();
