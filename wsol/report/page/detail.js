"use strict";
// The enlarged view of one image, with all its data.
WSOL.detail = (() => {
  const { $, make, whole, threshold, colour, dot } = WSOL.dom,
    { state, data, evaluation, cards } = WSOL;
  let report = null,
    changed = () => {},
    shown = null; // the card and its image

  function start(content, whenChanged) {
    [report, changed] = [content, whenChanged];
    $("detail").addEventListener("click", (event) => {
      if (event.target === $("detail")) $("detail").close();
    });
    $("detail").addEventListener("close", () => $("detail").replaceChildren());
  }

  // Show an image, the n-th of those that pass the filters.
  function show(image, n) {
    const dialog = $("detail"),
      runs = report.runs.length,
      room = Math.min(innerWidth, 1240) - 64;
    const across = Math.max(Math.min(runs, Math.floor(room / 260)), 1),
      side = Math.floor(Math.min(room / across - 12, innerHeight - 330, 560));
    const card = make("div", { class: "large" }, ...cards.parts());
    cards.face(card, image, Math.max(side, 160));
    const numbers = (box) => box.map((value) => Math.round(value)).join(", "),
      { sizes, boxes } = report.images;
    const rows = report.runs.map((run, r) => {
      const step = state.steps[r][image],
        box = step < 0 ? null : evaluation.imageBox(data.part(r, image), data.within(image), step, sizes[image]);
      const rank = run.ranks ? run.ranks[image] : null;
      return make(
        "tr",
        {},
        make("td", {}, dot(r), run.name),
        make("td", { class: "number" }, run.gives_boxes ? "none" : threshold(state.threshold(r))),
        make("td", {}, state.kinds[r][image] === state.NOT_EVALUATED ? "not evaluated" : evaluation.KINDS[state.kinds[r][image]]),
        make("td", { class: "number" }, state.iou[r][image].toFixed(4)),
        make("td", { class: "number" }, box ? numbers(box) : "–"),
        make("td", {}, cards.guess(r, image) || "–"),
        make("td", { class: "number" }, rank === null ? "–" : rank < 0 ? "beyond" : rank + 1),
      );
    });
    const curve = make("div", { class: "own-curve" }),
      x = report.protocol.thresholds;
    if (x.length) {
      const lines = report.runs.map((run, r) => ({
        name: run.name,
        colour: colour(r),
        dash: 0,
        y: x.map((_, t) => {
          const part = data.part(r, image),
            step = evaluation.stepAt(part, data.within(image), t);
          return 100 * evaluation.overlap(part, data.within(image), step, report.protocol);
        }),
      }));
      WSOL.plot(curve, {
        x,
        lines,
        label: "threshold for this image’s IoU, percent",
        pick: (at) => changed("threshold", at),
      })(state.withThreshold().map((r) => ({ x: state.threshold(r), colour: colour(r) })));
    }
    const facts = `${sizes[image].join(" × ")} pixels · ${boxes[image].length ? `ground-truth ${boxes[image].length > 1 ? "boxes" : "box"} ${boxes[image].map(numbers).join(" and ")}` : "no ground-truth box"} · ${whole(n + 1)} of ${whole(state.order.length)}`;
    dialog.replaceChildren(
      make("button", { class: "close quiet", "aria-label": "Close", onclick: () => dialog.close() }, "×"),
      card,
      make("p", { class: "note" }, facts),
      make(
        "div",
        { class: "wide" },
        make(
          "table",
          {},
          make(
            "thead",
            {},
            make(
              "tr",
              {},
              ...["Run", "Threshold", "Result", "IoU", "Box x0, y0, x1, y1", "Class", "Rank of the ground-truth class"].map(
                (text, n) => make("th", { class: [1, 3, 4, 6].includes(n) ? "number" : "" }, text),
              ),
            ),
          ),
          make("tbody", {}, ...rows),
        ),
      ),
      ...report.runs.map((run, r) => under(run, r, image)).filter(Boolean),
      curve,
    );
    cards.fill(card, image);
    shown = [card, image];
    if (!dialog.open) dialog.showModal();
  }

  // Draw the maps of the shown image, which have been loaded since.
  function fill() {
    if ($("detail").open) cards.fill(...shown);
  }

  // Under which protocols the box is correct that the network gave, at IoU 0.5 or the protocol's first.
  function under(run, r, image) {
    const found = state.protocols(r, image);
    if (!found || !found.all.length) return null;
    return make(
      "p",
      { class: "protocols" },
      dot(r),
      `${run.name}, the box that the network gave: `,
      ...found.all.map((name) => {
        const right = found.right.includes(name);
        return make("span", { class: right ? "right" : "wrong" }, `${name} ${right ? "right" : "wrong"}`);
      }),
    );
  }

  return { start, show, fill, isOpen: () => $("detail").open };
})();
