"use strict";
// Cards: an image with map, boxes and result of each run, for the gallery and the enlarged view.
WSOL.cards = (() => {
  const { make, dot } = WSOL.dom,
    { state, data, evaluation } = WSOL;
  const HEAT = [
    [0, 0, 4],
    [40, 11, 84],
    [101, 21, 110],
    [159, 42, 99],
    [212, 72, 66],
    [245, 125, 21],
    [250, 193, 39],
    [252, 255, 164],
  ];
  const palette = Uint8Array.from({ length: 768 }, (_, n) => {
    const at = (Math.floor(n / 3) / 255) * (HEAT.length - 1),
      low = Math.min(Math.floor(at), HEAT.length - 2),
      c = n % 3;
    return Math.round(HEAT[low][c] + (at - low) * (HEAT[low + 1][c] - HEAT[low][c]));
  });
  const WORDS = ["right", "box right", "part", "too large", "several", "miss"];
  let report = null;

  // Create a card: a heading, and for each run image, map, boxes and result.
  function parts() {
    return [
      make("header", {}, make("b"), make("small")),
      make(
        "div",
        { class: "shots" },
        ...report.runs.map(() =>
          make(
            "figure",
            {},
            make(
              "div",
              { class: "shot" },
              make(
                "div",
                { class: "frame" },
                make("canvas", { class: "picture" }),
                make("p", { class: "empty" }, "no image"),
                make("canvas", { class: "map" }),
                make("span", { class: "truth" }),
                make("i", { class: "found" }),
              ),
            ),
            make(
              "figcaption",
              {},
              make("div", {}, make("b", { class: "result" }), make("span", { class: "number iou" })),
              make("small", { class: "guess" }),
            ),
          ),
        ),
      ),
    ];
  }

  const percents = ([x0, y0, x1, y1], [width, height]) =>
    `left:${(100 * x0) / width}%;top:${(100 * y0) / height}%;width:${(100 * (x1 - x0)) / width}%;height:${(100 * (y1 - y0)) / height}%`;

  // Fill in the parts of a card that do not depend on the slider.
  function face(card, image, side) {
    const { labels, ids, sizes, boxes } = report.images,
      [width, height] = sizes[image],
      scale = side / Math.max(width, height),
      source = data.picture(image);
    Object.assign(card.dataset, { image, side });
    card.querySelector("header b").textContent = report.classes[labels[image]];
    card.querySelector("header small").textContent = ids[image];
    card.querySelectorAll("figure").forEach((figure) => {
      const [shot, frame] = [".shot", ".frame"].map((part) => figure.querySelector(part));
      shot.style.cssText = `width:${side}px;height:${side}px`;
      frame.style.cssText = `width:${width * scale}px;height:${height * scale}px`;
      figure.querySelector("p").hidden = source !== null;
      figure
        .querySelector(".truth")
        .replaceChildren(
          ...boxes[image].map((box) => make("i", { class: "true", style: percents(box, sizes[image]) })),
        );
    });
    paint(card, image, source, [width * scale, height * scale]);
  }

  // Draw the image at its displayed size. As an <img> it would stay decoded in the browser's cache long after it has
  // left the view, half a megabyte each.
  function paint(card, image, source, size) {
    const canvases = [...card.querySelectorAll(".picture")],
      ratio = Math.min(devicePixelRatio, 2),
      [width, height] = size.map((side) => Math.max(Math.round(side * ratio), 1));
    canvases.forEach((canvas) => {
      canvas.hidden = true;
    });
    if (!source) return;
    const file = new Image();
    file.onload = async () => {
      if (card.dataset.image !== String(image)) return; // the card shows another image by now
      const bitmap = await createImageBitmap(file, {
        resizeWidth: width,
        resizeHeight: height,
        resizeQuality: "medium",
      });
      if (card.dataset.image === String(image))
        canvases.forEach((canvas) => {
          [canvas.width, canvas.height, canvas.hidden] = [width, height, false];
          canvas.getContext("2d").drawImage(bitmap, 0, 0);
        });
      bitmap.close();
    };
    file.src = source;
  }

  // Fill in the parts that depend on the slider: box, overlap, result, map.
  function fill(card, image) {
    card.querySelectorAll("figure").forEach((figure, r) => {
      const step = state.steps[r][image],
        kind = state.kinds[r][image],
        size = report.images.sizes[image],
        found = figure.querySelector(".found");
      const box = step < 0 ? [0, 0, 0, 0] : evaluation.imageBox(data.part(r, image), data.within(image), step, size);
      found.hidden = !(box[2] > box[0] && box[3] > box[1]);
      found.style.cssText = percents(box, size);
      figure.dataset.kind = kind;
      figure.querySelector(".result").textContent = kind === state.NOT_EVALUATED ? "not evaluated" : WORDS[kind];
      figure.querySelector(".iou").textContent =
        kind === state.NOT_EVALUATED ? "" : `IoU ${state.iou[r][image].toFixed(2)}`;
      const several = report.runs.length > 1;
      figure
        .querySelector(".guess")
        .replaceChildren(...(several ? [dot(r, report.runs[r].name)] : []), ...[under(r, image), guess(r, image)].filter(Boolean));
      heat(figure.querySelector(".map"), r, image);
    });
  }

  function guess(r, image) {
    const { predicted } = report.runs[r];
    if (!predicted) return "";
    return predicted[image] < 0
      ? "no class"
      : state.classRight(r, image)
        ? "class right"
        : `taken for ${report.classes[predicted[image]]}`;
  }

  // How many protocols call the box correct that the network gave; nothing with one protocol, which the result says.
  function under(r, image) {
    const found = state.protocols(r, image);
    if (!found || found.all.length < 2) return null;
    const wrong = found.all.filter((name) => !found.right.includes(name));
    const title = `right under ${found.right.join(", ") || "no protocol"}${wrong.length ? `; wrong under ${wrong.join(", ")}` : ""}`;
    return make("span", { class: "under", title }, `right under ${found.right.length} of ${found.all.length}`);
  }

  function heat(canvas, r, image) {
    const map = state.show === "none" ? null : data.map(r, image),
      cut = (state.threshold(r) || 0) * 255;
    canvas.hidden = !map;
    const drawn = `${image} ${state.show} ${state.show === "region" ? cut : ""}`;
    if (!map || canvas.dataset.drawn === drawn) return;
    canvas.dataset.drawn = drawn;
    [canvas.width, canvas.height] = [map.width, map.height];
    const pixels = new ImageData(map.width, map.height);
    map.levels.forEach((level, i) => {
      for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = palette[3 * level + c];
      pixels.data[4 * i + 3] = state.show === "region" ? (level > cut ? 150 : 0) : 40 + 0.65 * level;
    });
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }

  return { start: (content) => (report = content), parts, face, fill, guess };
})();
