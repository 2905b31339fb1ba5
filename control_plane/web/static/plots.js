// Time series with a cursor and zoom: takes the place of the picture that the server drew, which stays without scripts.
// A figure names its data: <figure class="plot" data-plot="/path.json"><div class="picture">…</div></figure>
// The data: {"x": [seconds since 1970…, or steps], "steps": true, "log": true, "unit": "…", "lines": [{"name", "series", "dashed", "y": […]}],
// "levels": [{"y", "words"}], "marks": [{"x", "words"}]}.
"use strict";
(() => {
  const HEIGHT = 260;
  const held = new Map();

  async function draw(figure) {
    const answer = await fetch(figure.dataset.plot, { cache: "no-store" });
    if (!answer.ok || answer.redirected) return;
    const data = await answer.json(), box = figure.querySelector(".picture");
    if (!box || data.x.length < 2) return;
    held.get(figure)?.destroy();
    const place = document.createElement("div");
    place.className = "uplot-box";
    figure.querySelector(".uplot-box")?.remove();
    box.hidden = true;
    figure.append(place);
    held.set(figure, new uPlot(options(data, place.clientWidth || figure.clientWidth), [data.x, ...data.lines.map((line) => line.y)], place));
  }

  function options(data, width) {
    const ink = fleetloop.colour("quiet"), grid = { stroke: fleetloop.colour("line"), width: 1 };
    const axis = { stroke: ink, grid, ticks: grid, font: "11px sans-serif" };
    return {
      width,
      height: HEIGHT,
      cursor: { drag: { x: true, y: false } },
      legend: { live: true },
      scales: { x: { time: !data.steps }, y: data.log ? { distr: 3 } : {} },
      axes: [{ ...axis, label: data.steps ? "scenarios" : undefined, labelSize: 14, labelFont: "11px sans-serif" }, { ...axis, size: 60, values: (_, splits) => splits.map(short), label: data.unit, labelSize: 16, labelFont: "11px sans-serif" }],
      series: [{ label: data.steps ? "scenarios" : "time" }, ...data.lines.map(lineOf)],
      hooks: { draw: [(plot) => marks(plot, data)] },
    };
  }

  // Powers of ten where a number would be long; nothing where the chart wants no word.
  function short(value) {
    if (value === null || value === undefined) return "";
    const power = Math.log10(Math.abs(value));
    if (value !== 0 && (power >= 4 || power < -3)) return Number.isInteger(power) ? `1e${power}` : value.toExponential(1);
    return String(value);
  }

  function lineOf(line) {
    const shown = (plot, value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(4)).toString());
    return { label: line.name, stroke: fleetloop.colour(line.series), width: 2, dash: line.dashed ? [7, 4] : undefined, spanGaps: true, value: shown };
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

  const drawAll = () => document.querySelectorAll("figure.plot[data-plot]").forEach((figure) => draw(figure));
  addEventListener("resize", () => held.forEach((plot, figure) => plot.setSize({ width: figure.clientWidth, height: HEIGHT })));
  document.addEventListener("themed", drawAll);
  document.addEventListener("refreshed", drawAll);
  drawAll();
})();
