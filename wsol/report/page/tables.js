"use strict";
// Results by class, and which classes are confused with which.
WSOL.tables = (() => {
  const { $, make, percent, whole, dot } = WSOL.dom,
    { state } = WSOL;
  let report = null,
    sorted = { column: 0, falling: false };

  function start(content) {
    report = content;
    confusion();
  }

  // A row per class: name, images, and for each run the accuracy of boxes and of classes.
  function values() {
    const rows = new Map();
    report.images.labels.forEach((label, i) => {
      if (!rows.has(label))
        rows.set(label, {
          label,
          images: 0,
          of: report.runs.map(() => ({ evaluated: 0, right: 0, iou: 0, known: 0, named: 0 })),
        });
      const row = rows.get(label);
      row.images++;
      report.runs.forEach((run, r) => {
        const sums = row.of[r];
        if (run.ranks) {
          sums.known++;
          sums.named += state.classRight(r, i);
        }
        if (!run.counts[i]) return;
        sums.evaluated++;
        sums.right += state.kinds[r][i] < 2;
        sums.iou += state.iou[r][i];
      });
    });
    const share = (part, all) => (all ? (100 * part) / all : NaN);
    return [...rows.values()].map((row) => ({
      label: row.label,
      cells: [
        report.classes[row.label],
        row.images,
        ...row.of.flatMap((sums) => [
          share(sums.right, sums.evaluated),
          sums.evaluated ? sums.iou / sums.evaluated : NaN,
          share(sums.named, sums.known),
        ]),
      ],
    }));
  }

  function update() {
    if ($("view-classes").hidden) return;
    const rows = values(),
      { column, falling } = sorted,
      order = (a, b) =>
        typeof a === "string" ? a.localeCompare(b) : (Number.isNaN(a) ? -1 : a) - (Number.isNaN(b) ? -1 : b);
    rows.sort((a, b) => (falling ? -1 : 1) * order(a.cells[column], b.cells[column]));
    const heading = (text, n) =>
      make(
        "th",
        { class: n ? "number" : "", "aria-sort": n === column ? (falling ? "descending" : "ascending") : null },
        make(
          "button",
          {
            onclick: () => {
              sorted = { column: n, falling: n === column ? !falling : n > 0 };
              update();
            },
          },
          text,
        ),
      );
    const bar = (value) =>
      make("td", { class: "number bar", style: `--part:${Number.isFinite(value) ? value : 0}%` }, percent(value));
    $("per-class").replaceChildren(
      make(
        "thead",
        {},
        make(
          "tr",
          {},
          make("th", { colspan: 2 }),
          ...report.runs.map((run, r) => make("th", { colspan: 3, class: "run" }, dot(r), run.name)),
        ),
        make(
          "tr",
          {},
          ...["Class", "Images", ...report.runs.flatMap(() => ["boxes right, %", "mean IoU", "class right, %"])].map(
            heading,
          ),
        ),
      ),
      make(
        "tbody",
        {},
        ...rows.map(({ label, cells }) =>
          make(
            "tr",
            {},
            make(
              "td",
              {},
              make("button", { class: "link", onclick: () => WSOL.gallery.showClasses(state.run, label) }, cells[0]),
            ),
            make("td", { class: "number" }, whole(cells[1])),
            ...cells
              .slice(2)
              .map((value, n) =>
                n % 3 === 1
                  ? make("td", { class: "number" }, Number.isFinite(value) ? value.toFixed(3) : "–")
                  : bar(value),
              ),
          ),
        ),
      ),
    );
  }

  function confusion() {
    const name = (label) => report.classes[label];
    $("view-confusion").replaceChildren(
      make("h2", {}, "Confused classes"),
      make(
        "p",
        { class: "note" },
        "Counts of images; rows are true, columns predicted classes, those with most errors. Click a cell to see its pictures.",
      ),
      make(
        "div",
        { class: "beside" },
        ...report.runs.map((run, r) => {
          const head = make("h3", {}, dot(r), run.name),
            found = run.confusion;
          if (!found)
            return make(
              "div",
              {},
              head,
              make(
                "p",
                { class: "empty" },
                run.gives_boxes
                  ? "No predicted classes: the network has none. wsol eval <run> classes=<another run> borrows some."
                  : "No predicted classes were saved with these maps.",
              ),
            );
          if (!found.pairs.length)
            return make("div", {}, head, make("p", { class: "empty" }, "No image is taken for another class."));
          const most = Math.max(...found.matrix.flatMap((row, i) => row.filter((_, j) => j !== i)), 1);
          const button = (count, label, predicted) =>
            make(
              "button",
              { class: "link", onclick: () => WSOL.gallery.showClasses(r, label, predicted) },
              whole(count),
            );
          const matrix = make(
            "table",
            { class: "matrix" },
            make(
              "thead",
              {},
              make(
                "tr",
                {},
                make("th"),
                ...found.classes.map((label) => make("th", {}, make("span", {}, name(label)))),
                make("th", {}, make("span", {}, "any other")),
              ),
            ),
            make(
              "tbody",
              {},
              ...found.matrix.map((row, i) =>
                make(
                  "tr",
                  {},
                  make("th", {}, name(found.classes[i])),
                  ...row.map((count, j) =>
                    make(
                      "td",
                      {
                        class: i === j ? "same" : "",
                        style: i === j || !count ? "" : `--part:${Math.round((65 * count) / most)}%`,
                      },
                      !count
                        ? ""
                        : j === found.classes.length
                          ? whole(count)
                          : button(count, found.classes[i], found.classes[j]),
                    ),
                  ),
                ),
              ),
            ),
          );
          const list = make(
            "ol",
            { class: "pairs" },
            ...found.pairs.map(([label, predicted, count]) =>
              make(
                "li",
                {},
                button(count, label, predicted),
                ` ${name(label)} `,
                make("span", { class: "as" }, "taken for"),
                ` ${name(predicted)}`,
              ),
            ),
          );
          return make("div", { class: "confused" }, head, make("div", { class: "wide" }, matrix), list);
        }),
      ),
    );
  }
  return { start, update };
})();
