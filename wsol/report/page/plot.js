"use strict";
// Elements, numbers as text, and line plots with a read-out.
WSOL.dom = (() => {
  const $ = (id) => document.getElementById(id);

  // make("td", {class: "number"}, "text", child, ...): text is never read as HTML.
  function make(tag, attributes = {}, ...children) {
    const element = tag.startsWith("svg:")
      ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4))
      : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== null && value !== false) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  const percent = (value, digits = 1) => (Number.isFinite(value) ? value.toFixed(digits) : "–");
  const whole = (value) => value.toLocaleString("en");
  const threshold = (value) => (value === undefined || value === null ? "–" : String(+value.toFixed(3)));
  const colour = (run) => `var(--run-${run % 6})`;
  const dot = (run, title = null) => make("i", { class: "dot", title, style: `background:${colour(run)}` });
  return { $, make, percent, whole, threshold, colour, dot };
})();

WSOL.plot = (() => {
  const { make, percent } = WSOL.dom;
  const WIDTH = 560,
    HEIGHT = 300,
    LEFT = 40,
    RIGHT = 12,
    TOP = 12,
    BOTTOM = 34;
  const DASHES = ["", "6 4", "2 3", "9 3 2 3", "1 4", "12 4"];

  // Draw lines in an element; returns a function that moves the marks.
  // x: ascending in [0, 1]; lines: {name, y (percent), colour, dash (a number)}; pick(position) is called on a click.
  function plot(element, { x, lines, label, pick }) {
    const px = (value) => LEFT + value * (WIDTH - LEFT - RIGHT),
      py = (value) => TOP + (1 - value / 100) * (HEIGHT - TOP - BOTTOM);
    const svg = make("svg:svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
    for (const value of [0, 25, 50, 75, 100]) {
      svg.append(make("svg:line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: py(value), y2: py(value) }));
      svg.append(make("svg:text", { x: LEFT - 7, y: py(value) + 4, "text-anchor": "end" }, String(value)));
    }
    for (const value of [0, 0.2, 0.4, 0.6, 0.8, 1])
      svg.append(make("svg:text", { x: px(value), y: HEIGHT - BOTTOM + 17, "text-anchor": "middle" }, String(value)));
    svg.append(make("svg:text", { x: px(0.5), y: HEIGHT - 3, "text-anchor": "middle", class: "axis" }, label));
    const paths = lines.map((line) => {
      const path = make("svg:path", { class: "line", stroke: line.colour, "stroke-dasharray": DASHES[line.dash] });
      svg.append(path);
      return path;
    });
    const marks = make("svg:g"),
      hair = make("svg:line", { class: "hair", y1: TOP, y2: HEIGHT - BOTTOM });
    svg.append(marks, hair);
    const readout = make("div", { class: "readout", hidden: "" });
    const legend = make(
      "div",
      { class: "legend" },
      ...lines.map((line) =>
        make(
          "span",
          {},
          make(
            "svg:svg",
            { viewBox: "0 0 26 8", class: "key" },
            make("svg:path", {
              class: "line",
              d: "M0 4H26",
              stroke: line.colour,
              "stroke-dasharray": DASHES[line.dash],
            }),
          ),
          line.name,
        ),
      ),
    );
    element.replaceChildren(make("div", { class: "plot" }, svg, readout), legend);

    function draw(values) {
      lines.forEach((line, k) => {
        line.y = values[k];
        paths[k].setAttribute(
          "d",
          line.y
            .map(
              (value, i) =>
                `${i ? "L" : "M"}${px(x[i]).toFixed(1)} ${py(Number.isFinite(value) ? value : 0).toFixed(1)}`,
            )
            .join(""),
        );
      });
    }
    function position(event) {
      const box = svg.getBoundingClientRect(),
        at = (((event.clientX - box.left) / box.width) * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT);
      return x.reduce((best, value, i) => (Math.abs(value - at) < Math.abs(x[best] - at) ? i : best), 0);
    }
    svg.addEventListener("pointermove", (event) => {
      const at = position(event);
      hair.setAttribute("x1", px(x[at]));
      hair.setAttribute("x2", px(x[at]));
      hair.classList.add("on");
      readout.hidden = false;
      readout.classList.toggle("left", x[at] > 0.55);
      readout.replaceChildren(
        make("b", {}, `${label.split(" ")[0]} ${+x[at].toFixed(3)}`),
        ...lines.map((line) =>
          make(
            "div",
            {},
            make("i", { class: "dot", style: `background:${line.colour}` }),
            line.name,
            make("span", { class: "number" }, percent(line.y[at])),
          ),
        ),
      );
    });
    svg.addEventListener("pointerleave", () => {
      hair.classList.remove("on");
      readout.hidden = true;
    });
    svg.addEventListener("click", (event) => pick(position(event)));
    draw(lines.map((line) => line.y));
    // Marks: {x, colour} of vertical lines; values, where the lines have changed.
    return (places, values) => {
      if (values) draw(values);
      marks.replaceChildren(
        ...places.map((place) =>
          make("svg:line", {
            class: "mark",
            x1: px(place.x),
            x2: px(place.x),
            y1: TOP,
            y2: HEIGHT - BOTTOM,
            stroke: place.colour,
          }),
        ),
      );
    };
  }
  return plot;
})();
