// Time series with a cursor and zoom: takes the place of the picture that the server drew, which stays without scripts.
// A figure names its data: <figure class="plot" data-plot="/path.json"><div class="picture">…</div></figure>
// The data: {"x": [seconds since 1970…, or steps], "steps": true, "log": true, "unit": "…", "lines": [{"name", "series", "dashed", "y": […]}],
// "levels": [{"y", "words"}], "marks": [{"x", "words"}], "gaps": true where a line breaks, "zero": true where it starts
// at nothing, "height": pixels, "sync": a name that charts with one cursor share}. With data-key="…" the file holds several, and this is one of them.
"use strict";
(() => {
  const HEIGHT = 260;
  const held = new Map();

  async function read(path) {
    const answer = await fetch(path, { cache: "no-store" });
    return answer.ok && !answer.redirected ? answer.json() : null;
  }

  async function draw(figure, file) {
    const whole = await file, data = whole && figure.dataset.key ? whole[figure.dataset.key] : whole;
    const box = figure.querySelector(".picture");
    if (!box || !data || data.x.length < 2) return;
    held.get(figure)?.destroy();
    const place = document.createElement("div");
    place.className = "uplot-box";
    if (figure.ariaLabel) place.role = "group", place.ariaLabel = figure.ariaLabel;
    figure.querySelector(".uplot-box")?.remove();
    box.hidden = true;
    const colours = figure.querySelector(":scope > .legend");
    if (colours) colours.hidden = true;
    figure.append(place);
    held.set(figure, new uPlot(options(data, place.clientWidth || figure.clientWidth), [data.x, ...data.lines.map((line) => line.y)], place));
    tell(place.querySelector("table.u-legend"));
  }

  // The read-out is a table: it says of what, and which cells are heads.
  function tell(table) {
    if (!table) return;
    const caption = table.createCaption();
    caption.className = "unseen";
    caption.textContent = "At the cursor";
    table.querySelectorAll("th").forEach((head) => { head.scope = "row"; });
  }

  function options(data, width) {
    const ink = fleetloop.colour("quiet"), grid = { stroke: fleetloop.colour("line"), width: 1 };
    const axis = { stroke: ink, grid, ticks: grid, font: "11px sans-serif" };
    return {
      width,
      height: data.height || HEIGHT,
      cursor: { drag: { x: true, y: false }, ...(data.gaps ? { dataIdx: near } : {}), ...(data.sync ? { sync: { key: data.sync } } : {}) },
      padding: [null, 18, null, null],
      legend: { live: true },
      scales: { x: { time: !data.steps }, y: data.log ? { distr: 3 } : data.zero ? { range: (_, low, high) => [Math.min(low, 0), high > 0 ? high * 1.08 : 1] } : {} },
      axes: [{ ...axis, ...(data.steps ? {} : { values: times }), label: data.steps ? "scenarios" : undefined, labelSize: 14, labelFont: "11px sans-serif" }, { ...axis, size: 60, ...(data.log ? { splits: decades } : {}), values: (_, splits) => splits.map(short), label: data.unit, labelSize: 16, labelFont: "11px sans-serif" }],
      series: [data.steps ? { label: "scenarios" } : { label: "time", value: (_, at) => (at === null ? "–" : `${day(at)} ${minute(at, 5)}`) }, ...data.lines.map((line) => lineOf(line, data))],
      hooks: { draw: [(plot) => marks(plot, data)] },
    };
  }

  // In the reader's own zone, as everywhere in the console; the day stands where it begins.
  const day = (at) => { const date = new Date(at * 1000); return `${two(date.getMonth() + 1)}-${two(date.getDate())}`; };
  const minute = (at, signs) => new Date(at * 1000).toTimeString().slice(0, signs);
  const two = (number) => String(number).padStart(2, "0");

  function times(_plot, splits, _axis, _space, step) {
    return splits.map((at, i) => (step >= 86400 ? day(at) : i && day(at) !== day(splits[i - 1]) ? `${minute(at, 5)}\n${day(at)}` : minute(at, step < 60 ? 8 : 5)));
  }

  // A value whose neighbours are not known is no line: it is a dot.
  function lone(plot, series) {
    const values = plot.data[series];
    return values.flatMap((value, i) => (value !== null && (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null ? [i] : []));
  }

  // Under the cursor stands the nearest step in which anything was measured.
  function near(plot, _series, at) {
    const [x, ...lines] = plot.data, known = (i) => lines.some((line) => (line[i] ?? null) !== null);
    for (let away = 0; away < x.length; away += 1) {
      if (known(at - away)) return at - away;
      if (known(at + away)) return at + away;
    }
    return at;
  }

  // Powers of ten where a number would be long; nothing where the chart wants no word.
  function short(value) {
    if (value === null || value === undefined) return "";
    const power = Math.log10(Math.abs(value));
    if (value !== 0 && (power >= 4 || power < -3)) return Number.isInteger(power) ? `1e${power}` : value.toExponential(1);
    return String(value);
  }

  // Lines at powers of ten only, and at most eight of them.
  function decades(_plot, _axis, low, high) {
    const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high)), stride = Math.max(1, Math.ceil((last - first) / 7));
    const found = [];
    for (let power = first; power <= last; power += stride) found.push(Number(`1e${power}`));
    return found;
  }

  function lineOf(line, data) {
    const shown = (plot, value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(4)).toString());
    return { label: line.name, stroke: fleetloop.colour(line.series), width: 2, dash: line.dashed ? [7, 4] : undefined, spanGaps: !data.gaps, value: shown, ...(data.gaps ? { points: { show: true, size: 6, fill: fleetloop.colour(line.series), filter: lone } } : {}) };
  }

  function marks(plot, data) {
    const pen = plot.ctx, { left, top, width, height } = plot.bbox;
    pen.save();
    pen.strokeStyle = pen.fillStyle = fleetloop.colour("quiet");
    pen.font = `${11 * devicePixelRatio}px sans-serif`;
    pen.textAlign = "left";
    pen.textBaseline = "alphabetic";
    pen.setLineDash([5, 4]);
    for (const { y, words } of data.levels || []) {
      const at = plot.valToPos(y, "y", true);
      if (at < top || at > top + height) continue;
      stroke(pen, left, at, left + width, at);
      pen.fillText(words, left + 6, at - 5);
    }
    for (const { x, words } of data.marks || []) {
      const at = plot.valToPos(x, "x", true);
      if (at < left || at > left + width) continue;
      stroke(pen, at, top, at, top + height);
      pen.fillText(words, at + 5, top + 12 * devicePixelRatio);
    }
    pen.restore();
  }

  function stroke(pen, x1, y1, x2, y2) {
    pen.beginPath();
    pen.moveTo(x1, y1);
    pen.lineTo(x2, y2);
    pen.stroke();
  }

  // Figures of one file ask for it once.
  function drawAll() {
    const files = new Map();
    for (const figure of document.querySelectorAll("figure.plot[data-plot]")) {
      const path = figure.dataset.plot;
      if (!files.has(path)) files.set(path, read(path));
      draw(figure, files.get(path));
    }
  }

  addEventListener("resize", () => held.forEach((plot, figure) => plot.setSize({ width: figure.querySelector(".uplot-box")?.clientWidth || figure.clientWidth, height: plot.height })));
  document.addEventListener("themed", drawAll);
  document.addEventListener("refreshed", drawAll);
  drawAll();
})();
