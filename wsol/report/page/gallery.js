"use strict";
// The gallery: cards of the images in view; one is selected with the keys and can be enlarged.
WSOL.gallery = (() => {
  const { $, make, whole } = WSOL.dom,
    { state, data, evaluation, cards, detail } = WSOL;
  const GAP = 14,
    PAD = 11,
    HEAD = 42,
    CAPTION = 40,
    SPARE = 2; // pixels; rows kept ready above and below
  let report = null,
    grid = null,
    laidOut = null,
    chosen = -1,
    shown = new Map(), // card by image
    asked = false;

  function start(content) {
    report = content;
    const options = (select, all, names) =>
      select.replaceChildren(
        ...(all === null ? [] : [make("option", { value: -1 }, all)]),
        ...names.map(([value, name]) => make("option", { value }, name)),
      );
    const there = [...new Set(report.images.labels)].map((label) => [label, report.classes[label]]);
    options(
      $("class"),
      `all ${whole(there.length)} classes`,
      there.sort((a, b) => a[1].localeCompare(b[1])),
    );
    options(
      $("by"),
      null,
      report.runs.map((run, r) => [r, run.name]),
    );
    $("of-run").hidden = report.runs.length < 2;
    $("sort").querySelector("[value=apart]").hidden = report.runs.length < 2;
    $("chips").replaceChildren(
      ...evaluation.KINDS.map((kind, k) =>
        make(
          "button",
          {
            type: "button",
            class: `chip kind-${k}`,
            "aria-pressed": "false",
            onclick: () => {
              state.chosen.has(k) ? state.chosen.delete(k) : state.chosen.add(k);
              filter();
            },
          },
          make("i"),
          kind,
          make("span", { class: "number" }),
        ),
      ),
    );
    $("filters").addEventListener("submit", (event) => event.preventDefault());
    $("search").addEventListener("input", () => {
      state.text = $("search").value;
      filter();
    });
    for (const [id, key] of [
      ["class", "label"],
      ["by", "run"],
      ["low", "low"],
      ["high", "high"],
      ["sort", "sort"],
      ["show", "show"],
    ])
      $(id).addEventListener("change", () => {
        state[key] = ["sort", "show"].includes(id) ? $(id).value : Number($(id).value);
        if (id === "class") state.predicted = -1;
        id === "show" ? draw() : filter();
      });
    $("clear").addEventListener("click", () => {
      clear();
      filter();
    });
    addEventListener("scroll", later, { passive: true });
    addEventListener("resize", () => {
      grid = null;
      later();
    });
    data.onMaps(() => {
      later();
      detail.fill();
    });
  }

  function clear() {
    Object.assign(state, { text: "", label: -1, predicted: -1, low: 0, high: 1 });
    state.chosen.clear();
  }

  // Show the images of a kind, or of a ground-truth and a predicted class; replaces all other filters.
  function showKind(run, kind) {
    clear();
    state.run = run;
    state.chosen.add(kind);
    show();
  }
  function showClasses(run, label, predicted = -1) {
    clear();
    Object.assign(state, { run, label, predicted });
    show();
  }
  function show() {
    WSOL.go("gallery");
    filter();
  }

  // Apply the filters again and scroll to the top.
  function filter() {
    state.select();
    chosen = -1;
    for (const [id, key] of [
      ["search", "text"],
      ["class", "label"],
      ["by", "run"],
      ["low", "low"],
      ["high", "high"],
    ])
      if ($(id).value !== String(state[key])) $(id).value = state[key];
    update();
  }

  // After a change of thresholds: update the cards in view; the selection and its order stay until `filter`.
  function update() {
    const counts = state.tally(state.run);
    [...$("chips").children].forEach((chip, k) => {
      chip.lastChild.textContent = whole(counts[k]);
      chip.setAttribute("aria-pressed", String(state.chosen.has(k)));
    });
    const predicted = state.predicted >= 0 ? ` predicted as ${report.classes[state.predicted]}` : "";
    $("count").textContent = `${whole(state.order.length)} of ${whole(report.count)} images${predicted}`;
    $("nothing").hidden = state.order.length > 0;
    if (grid && state.order !== laidOut) grid = null;
    draw();
    if (detail.isOpen()) enlarge();
  }

  function later() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  }

  function layout() {
    const width = $("list").clientWidth,
      runs = report.runs.length,
      least = Math.min(runs === 1 ? 190 : 168, width - 2 * PAD);
    const across = Math.max(Math.min(runs, Math.floor((width - 2 * PAD + 6) / (least + 6))), 1);
    const card = across * least + (across - 1) * 6 + 2 * PAD,
      columns = Math.max(Math.floor((width + GAP) / (card + GAP)), 1);
    const actual = (width - (columns - 1) * GAP) / columns,
      side = Math.floor((actual - 2 * PAD - (across - 1) * 6) / across);
    const rows = Math.ceil(runs / across),
      height = HEAD + rows * (side + CAPTION) + 2 * PAD;
    grid = { columns, side, card: actual, height, row: height + GAP };
    laidOut = state.order;
    $("list").style.height = `${Math.ceil(state.order.length / columns) * grid.row}px`;
  }

  // Show the cards in view. Cards that leave it are reused, so only visible images are kept in memory.
  function draw() {
    if ($("view-gallery").hidden) return;
    if (!grid) layout();
    const top = -$("list").getBoundingClientRect().top;
    const from = Math.max(Math.floor(top / grid.row) - SPARE, 0) * grid.columns;
    const to = Math.min((Math.ceil((top + innerHeight) / grid.row) + SPARE) * grid.columns, state.order.length);
    const wanted = new Set(state.order.slice(from, to)),
      free = [...shown].filter(([image]) => !wanted.has(image)).map(([, card]) => card);
    const kept = new Map();
    for (let n = from; n < to; n++) {
      const image = state.order[n],
        card = shown.get(image) || free.pop() || addCard();
      if (card.dataset.image !== String(image) || card.dataset.side !== String(grid.side))
        cards.face(card, image, grid.side);
      const x = (n % grid.columns) * (grid.card + GAP),
        y = Math.floor(n / grid.columns) * grid.row;
      card.style.cssText = `transform:translate(${x}px,${y}px);width:${grid.card}px;height:${grid.height}px`;
      card.classList.toggle("chosen", n === chosen);
      cards.fill(card, image);
      kept.set(image, card);
    }
    free.forEach((card) => card.remove());
    shown = kept;
  }

  function addCard() {
    const card = make("article", { class: "card", role: "listitem" }, ...cards.parts());
    card.addEventListener("click", () => {
      choose(state.order.indexOf(Number(card.dataset.image)));
      enlarge();
    });
    $("list").append(card);
    return card;
  }

  // Select the n-th card and scroll it into view.
  function choose(n) {
    if (!state.order.length) return;
    chosen = Math.min(Math.max(n, 0), state.order.length - 1);
    if (!grid) layout();
    const bar = $("top").getBoundingClientRect().height,
      list = $("list").getBoundingClientRect().top + scrollY;
    const top = list + Math.floor(chosen / grid.columns) * grid.row;
    if (top - bar - GAP < scrollY) scrollTo({ top: top - bar - GAP });
    else if (top + grid.row > scrollY + innerHeight) scrollTo({ top: top + grid.row - innerHeight });
    draw();
    if (detail.isOpen()) enlarge();
  }

  function move(key) {
    const step = {
      ArrowRight: 1,
      j: 1,
      ArrowLeft: -1,
      k: -1,
      ArrowDown: grid ? grid.columns : 1,
      ArrowUp: grid ? -grid.columns : -1,
    }[key];
    if (step === undefined) return false;
    choose(chosen < 0 ? 0 : chosen + (detail.isOpen() ? Math.sign(step) : step));
    return true;
  }

  function enlarge() {
    if (chosen >= 0) detail.show(state.order[chosen], chosen);
  }

  return {
    start,
    filter,
    update,
    draw,
    move,
    enlarge,
    showKind,
    showClasses,
    chosen: () => state.order[chosen],
    relayout: () => {
      grid = null;
      draw();
    },
  };
})();
