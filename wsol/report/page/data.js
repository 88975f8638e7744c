"use strict";
// Data files are scripts that pass their content on: a page opened from disk may not fetch, but it may run scripts.
WSOL.data = (() => {
  const KEPT = 60; // parts of maps in memory
  const boxes = []; // by run, then part: results of WSOL.evaluation.decode
  const maps = new Map(); // by part: by run, then image: {width, height, levels} or null; the most recently requested is last
  const asked = new Set();
  let report = null,
    whenMaps = () => {};

  function script(name) {
    return new Promise((done, failed) => {
      const element = document.createElement("script");
      element.src = `data/${name}.js`;
      element.onload = () => {
        element.remove();
        done();
      };
      element.onerror = () => failed(new Error(`data/${name}.js can’t be read; write the report again`));
      document.head.append(element);
    });
  }

  WSOL.report = (content) => {
    report = content;
    report.count = report.images.ids.length;
    report.images.unseen = new Set(report.images.unseen);
    WSOL.start(report);
  };
  WSOL.boxes = (run, part, text, truth, exact) => {
    (boxes[run] ||= [])[part] = WSOL.evaluation.decode(text, truth, exact);
  };
  WSOL.maps = (part, runs) => {
    const read = (map) => map && { width: map[0], height: map[1], levels: WSOL.evaluation.bytes(map[2]) };
    maps.set(
      part,
      runs.map((images) => images.map(read)),
    );
    if (maps.size > KEPT) {
      const oldest = maps.keys().next().value;
      maps.delete(oldest);
      asked.delete(oldest);
    }
  };

  // All boxes of all runs.
  async function loadBoxes() {
    const names = [];
    for (let run = 0; run < report.runs.length; run++)
      for (let part = 0; part * report.parts.boxes < report.count; part++) names.push(`boxes-${run}-${part}`);
    await Promise.all(names.map(script));
  }

  // An image's small map in a run; undefined until it is loaded, null if there is none.
  function map(run, image) {
    const part = Math.floor(image / report.parts.maps),
      found = maps.get(part);
    if (found) return found[run][image % report.parts.maps];
    if (!asked.has(part)) {
      asked.add(part);
      script(`maps-${part}`).then(
        () => whenMaps(part),
        () => {},
      );
    }
    return undefined;
  }

  const part = (run, image) => boxes[run][Math.floor(image / report.parts.boxes)];
  const within = (image) => image % report.parts.boxes;
  const picture = (image) => (report.images.unseen.has(image) ? null : `pictures/${image}.jpg`);

  return { loadBoxes, map, part, within, picture, onMaps: (then) => (whenMaps = then) };
})();
