"use strict";
// Metrics side by side, curves, shares of the kinds of error, and the rule.
WSOL.overview = (() => {
  const { $, make, percent, whole, threshold, colour, dot } = WSOL.dom,
    state = WSOL.state;
  const OVERLAPS = Array.from({ length: 101 }, (_, i) => i / 100);
  let report = null,
    marksByThreshold = () => {},
    marksByOverlap = () => {};

  function start(content, changed) {
    report = content;
    metrics();
    curves(changed);
    rule();
  }

  const label = (key) => key.replace("_error", "").replace("gt_known", "GT-known").replace("top", "top-");

  // A row for each protocol, maps and origin; columns for each run.
  function metrics() {
    const rows = new Map(),
      errors = new Set();
    report.runs.forEach((run, r) =>
      run.localization.forEach((row) => {
        const key = [row.protocol, row.maps, row.threshold_origin].join("\n");
        if (!rows.has(key)) rows.set(key, []);
        rows.get(key)[r] = row;
        if (row.maps === "localizer")
          Object.keys(row)
            .filter((k) => k.endsWith("_error"))
            .forEach((k) => errors.add(k));
      }),
    );
    const keys = [...errors],
      own = report.protocol.name;
    const rank = ([protocol, maps, origin]) => [
      protocol === own ? 0 : 1,
      protocol,
      maps === "localizer" ? 0 : 1,
      maps,
      [...state.ORIGINS, "none"].indexOf(origin),
    ];
    const compare = (a, b) => {
      for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i] < b[i] ? -1 : 1;
      return 0;
    };
    const sorted = [...rows].map(([key, of]) => [key.split("\n"), of]).sort((a, b) => compare(rank(a[0]), rank(b[0])));
    const head = [
      make(
        "tr",
        {},
        make("th", { colspan: 3 }),
        ...report.runs.map((run, r) =>
          make("th", { colspan: keys.length + 1, class: "run" }, dot(r), run.name, make("small", {}, facts(run))),
        ),
      ),
      make(
        "tr",
        {},
        ...["Protocol", "Maps", "Threshold from"].map((text) => make("th", {}, text)),
        ...report.runs.flatMap(() => [
          make("th", { class: "number first" }, "threshold"),
          ...keys.map((key) => make("th", { class: "number" }, label(key))),
        ]),
      ),
    ];
    let before = null;
    const body = sorted.map(([[protocol, maps, origin], of]) => {
      const isOwn = maps === "localizer",
        row = make(
          "tr",
          { class: `${isOwn ? "own" : "blind"}${protocol !== before ? " begins" : ""}` },
          make(
            "td",
            {},
            protocol !== before ? protocol : "",
            protocol !== before && protocol === own ? make("small", {}, "this page’s") : null,
          ),
          make("td", {}, isOwn ? "network" : maps),
          make("td", {}, origin),
        );
      report.runs.forEach((_, r) =>
        row.append(
          make("td", { class: "number first" }, of[r] ? thresholds(of[r]) : "–"),
          ...keys.map((key) => cell(of[r], key)),
        ),
      );
      before = protocol;
      return row;
    });
    const more = ["classification", "pixels"].flatMap((part) =>
      [...new Set(report.runs.flatMap((run) => Object.keys(run[part] || {})))].map((key, i) =>
        make(
          "tr",
          { class: i ? "" : "begins" },
          make(
            "td",
            { colspan: 3 },
            part === "pixels" ? `${key} (pixels against masks)` : `${label(key)} classification error`,
          ),
          ...report.runs.map((run) =>
            make("td", { class: "number", colspan: keys.length + 1 }, percent((run[part] || {})[key], 2)),
          ),
        ),
      ),
    );
    $("metrics").replaceChildren(make("thead", {}, ...head), make("tbody", {}, ...body, ...more));
  }

  const facts = (run) =>
    Object.entries(run.facts)
      .map(([word, value]) => `${word} ${value}`)
      .join(" · ");
  const thresholds = (row) =>
    row.by_iou && row.threshold_origin !== "none"
      ? row.by_iou.map((one) => threshold(one.threshold)).join(" / ")
      : threshold(row.threshold);

  function cell(row, key) {
    if (!row || !Number.isFinite(row[key])) return make("td", { class: "number" }, "–");
    const interval = (row.intervals || {})[key];
    return make(
      "td",
      { class: "number" },
      percent(row[key], 2),
      interval ? make("small", {}, `${percent(interval[0])}–${percent(interval[1])}`) : null,
    );
  }

  function curves(changed) {
    const { thresholds: x, ious } = report.protocol,
      many = report.runs.length > 1;
    const lines = report.runs.flatMap((run, r) =>
      (run.curves.gt_known || []).map((y, k) => ({
        name: `${many ? `${run.name}, ` : ""}IoU ${ious[k]}`,
        y: run.gives_boxes ? x.map(() => y[0]) : y, // the same at every threshold
        colour: colour(r),
        dash: ious[k] === 0.5 ? 0 : k + 1,
      })),
    );
    if (x.length)
      marksByThreshold = WSOL.plot($("by-threshold"), {
        x,
        lines,
        label: "threshold",
        pick: (at) => changed("threshold", at),
      });
    else
      $("by-threshold").replaceChildren(
        make(
          "p",
          { class: "empty" },
          report.runs.every((run) => run.gives_boxes)
            ? "The networks give boxes, so there is no threshold and no curve."
            : "This protocol has thresholds of its own: there is no curve.",
        ),
      );
    marksByOverlap = WSOL.plot($("by-overlap"), {
      x: OVERLAPS,
      label: "IoU asked for",
      pick: (at) => changed("overlap", Math.max(OVERLAPS[at], 0.01)),
      lines: report.runs.map((run, r) => ({ name: run.name, y: OVERLAPS.map(() => 0), colour: colour(r), dash: 0 })),
    });
  }

  // After a change of threshold or overlap.
  function update() {
    if ($("view-overview").hidden) return;
    marksByThreshold(state.withThreshold().map((r) => ({ x: state.threshold(r), colour: colour(r) })));
    marksByOverlap(
      [{ x: state.overlap, colour: "var(--ink)" }],
      report.runs.map((_, r) => state.accuracies(r, OVERLAPS)),
    );
    $("kinds").replaceChildren(
      ...report.runs.map((run, r) => {
        const counts = state.tally(r),
          all = counts.reduce((a, b) => a + b, 0);
        return make(
          "div",
          { class: "split" },
          make("div", { class: "of" }, dot(r), run.name, make("small", {}, `${whole(all)} evaluated images`)),
          make(
            "div",
            { class: "stack" },
            ...counts.map((count, k) =>
              make(
                "button",
                {
                  class: `kind-${k}`,
                  style: `flex-grow:${count}`,
                  hidden: count ? null : "",
                  title: `${WSOL.evaluation.KINDS[k]}: ${whole(count)} images`,
                  onclick: () => WSOL.gallery.showKind(r, k),
                },
                ...(count < 0.05 * all
                  ? []
                  : [make("b", {}, percent((100 * count) / all)), make("span", {}, WSOL.evaluation.KINDS[k])]),
              ),
            ),
          ),
        );
      }),
    );
  }

  function rule() {
    const p = report.protocol,
      given = report.runs.filter((run) => run.gives_boxes).map((run) => run.name),
      words = {
        protocol: `${p.name} – ${p.reference}`,
        split: `${report.split}, ${whole(report.count)} of ${whole(report.whole)} images`,
        map: `of the true class, scaled by ${p.scaling}`,
        box: p.components.replace("_", " "),
        "given box": given.length ? `one per image, given by the network of ${given.join(" and ")}: no map, no threshold` : "",
        compared: `in the ${p.frame}`,
        right: `IoU ${p.boundary} ${p.own_ious.join(", ")}${p.plus_one ? ", boxes a pixel wider than their corners differ" : ""}`,
        accuracy: p.average === "class" ? "mean over classes" : "share of the images",
      };
    if (given.length === report.runs.length) [words.map, words.box] = ["", ""];
    $("rule").replaceChildren(
      ...Object.entries(words)
        .filter(([, text]) => text)
        .flatMap(([word, text]) => [make("dt", {}, word), make("dd", {}, text)]),
    );
  }

  return { start, update };
})();
