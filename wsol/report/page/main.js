"use strict";
// Event handlers: the slider, the views, the keys.
(() => {
  const { $, make, percent, threshold, dot } = WSOL.dom,
    { state, data } = WSOL;
  const VIEWS = ["overview", "gallery", "classes", "confusion"],
    SETTLE = 250; // ms from the last move to a new selection
  let report = null,
    ready = false,
    current = null,
    settling = 0;

  WSOL.start = async (content) => {
    report = content;
    document.title = `${report.title} – wsol report`;
    $("title").textContent = report.title;
    const count = [...new Set([report.count, report.whole])].map(WSOL.dom.whole).join(" of ");
    $("subtitle").textContent = `${report.split} split, ${count} images, evaluated by ${report.protocol.name}`;
    theme(stored());
    state.start(report);
    const last = report.protocol.thresholds.length - 1;
    $("slider").max = Math.max(last, 0);
    $("slider").disabled = last < 1;
    const given = report.runs.filter((run) => run.gives_boxes);
    document.documentElement.dataset.boxes = !given.length ? "none" : given.length < report.runs.length ? "some" : "all";
    WSOL.overview.start(report, change);
    WSOL.cards.start(report);
    WSOL.detail.start(report, change);
    WSOL.gallery.start(report);
    WSOL.tables.start(report);
    origins();
    listen();
    try {
      await data.loadBoxes();
    } catch (error) {
      $("state").textContent = error.message;
      return;
    }
    ready = true;
    $("state").hidden = true;
    follow();
    state.select();
    view();
    document.documentElement.dataset.ready = "yes";
  };

  // Handle a change of the threshold's position or of the overlap.
  function change(what, value) {
    if (what === "threshold") state.at.fill(value);
    if (what === "overlap") state.overlap = value;
    follow();
    clearTimeout(settling);
    settling = setTimeout(() => WSOL.gallery.filter(), SETTLE);
  }

  // Evaluate everything and show it.
  function follow() {
    if (!ready) return;
    state.evaluate();
    const moved = state.withThreshold(),
      shown = [...new Set(moved.map((run) => state.at[run]))].length === 1 ? moved.slice(0, 1) : moved;
    $("slider").value = state.at[moved[0] || 0];
    $("at").textContent = moved.length ? shown.map((run) => threshold(state.threshold(run))).join(" · ") : "its own";
    $("overlap").value = state.overlap;
    $("live").replaceChildren(
      ...report.runs.map((run, r) =>
        make(
          "span",
          { title: `${run.name}: GT-known accuracy` },
          dot(r),
          make("small", {}, run.name),
          make("b", { class: "number" }, percent(state.accuracies(r, [state.overlap])[0])),
          " % right",
          run.gives_boxes ? make("small", { class: "given" }, "no threshold") : null,
        ),
      ),
    );
    [...$("origins").children].forEach((button) => {
      const pressed = report.runs.every((_, r) => {
        const at = state.reported(r, button.value);
        return at === null || state.nearest(at) === state.at[r];
      });
      button.setAttribute("aria-pressed", String(pressed));
    });
    WSOL.overview.update();
    WSOL.gallery.update();
    WSOL.tables.update();
  }

  function origins() {
    const there = state.ORIGINS.filter(
      (origin) => report.protocol.thresholds.length && report.runs.some((_, r) => state.reported(r, origin) !== null),
    );
    $("origins").replaceChildren(
      ...there.map((origin) =>
        make(
          "button",
          {
            value: origin,
            "aria-pressed": "false",
            title: `each run at its own ${origin} threshold`,
            onclick: () => {
              state.toOrigin(origin);
              change();
            },
          },
          origin,
        ),
      ),
    );
  }

  WSOL.go = (name) => {
    location.hash = name;
    view();
  };

  // Show the view that the address names.
  function view() {
    const wanted = VIEWS.includes(location.hash.slice(1)) ? location.hash.slice(1) : "overview";
    if (wanted === current) return;
    current = wanted;
    VIEWS.forEach((name, n) => {
      $(`view-${name}`).hidden = name !== wanted;
      if (name === wanted) $("views").children[n].setAttribute("aria-current", "page");
      else $("views").children[n].removeAttribute("aria-current");
    });
    scrollTo(0, 0);
    if (wanted === "gallery") {
      WSOL.gallery.update();
      WSOL.gallery.relayout();
    }
    if (wanted === "overview") WSOL.overview.update();
    if (wanted === "classes") WSOL.tables.update();
  }

  function listen() {
    $("slider").addEventListener("input", () => change("threshold", Number($("slider").value)));
    $("overlap").addEventListener("change", () => {
      const value = Number($("overlap").value);
      if (value > 0 && value <= 1) change("overlap", value);
      else $("overlap").value = state.overlap;
    });
    addEventListener("hashchange", () => ready && view());
    $("theme").addEventListener("click", () =>
      theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"),
    );
    $("help").addEventListener("click", () => $("keys").showModal());
    addEventListener("keydown", key);
  }

  function key(event) {
    if (!ready || event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
    const target = event.target,
      typing = target.matches("input:not([type=range]), select, textarea");
    if (event.key === "Escape" && typing) return target.blur();
    if (typing || (target === $("slider") && event.key.startsWith("Arrow"))) return;
    const inGallery = !$("view-gallery").hidden;
    if (VIEWS[Number(event.key) - 1]) WSOL.go(VIEWS[Number(event.key) - 1]);
    else if (event.key === "/") {
      WSOL.go("gallery");
      $("search").focus();
    } else if (event.key === "?") $("keys").showModal();
    else if ("[]{}".includes(event.key)) move("]}".includes(event.key) ? 1 : -1, event.shiftKey);
    else if (inGallery && event.key === "m") {
      const show = $("show");
      show.selectedIndex = (show.selectedIndex + 1) % show.options.length;
      state.show = show.value;
      WSOL.gallery.draw();
    } else if (inGallery && event.key === "Enter" && !target.matches("button, a")) WSOL.gallery.enlarge();
    else if (!(inGallery && WSOL.gallery.move(event.key))) return;
    event.preventDefault();
  }

  // Move the slider by about 0.01, or by one of its steps.
  function move(direction, fine) {
    const { thresholds } = report.protocol,
      last = thresholds.length - 1;
    if (last < 1) return;
    const step = fine ? 1 : Math.max(Math.round((0.01 * last) / (thresholds[last] - thresholds[0])), 1);
    change("threshold", Math.min(Math.max(state.at[state.withThreshold()[0]] + direction * step, 0), last));
  }

  // Browsers may store nothing for pages from disk: then the system's setting applies.
  function stored() {
    try {
      return localStorage.getItem("wsol-theme");
    } catch {
      return null;
    }
  }
  function theme(name) {
    document.documentElement.dataset.theme =
      name || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    if (!name) return;
    try {
      localStorage.setItem("wsol-theme", name);
    } catch {
      /* not kept */
    }
  }
})();
