// Draws drives from above, at the same moment: what both models did in one scenario, side by side, or what a robot
// recorded. The scene has lidar, movers and paths; beside it are curves over time. Everything comes from files of our
// own server, a step of which says no more than it knows.
"use strict";
(() => {
  const root = document.getElementById("replay");
  if (!root) return;
  const FOLLOWED_M = 13;
  const SVG = "http://www.w3.org/2000/svg";
  const CURVE_HEIGHT = 132;
  const MARGIN = { left: 34, right: 12, top: 8, bottom: 20 };
  const one = (selector) => root.querySelector(selector);
  const player = one(".player"), play = one(".play"), scrub = one(".scrub input"), follow = one(".follow");
  const toTrigger = one(".to-trigger");
  const drives = Array.from(root.querySelectorAll(".drive[data-file]"), (node) => ({
    node, series: node.dataset.series, canvas: node.querySelector("canvas"), reading: node.querySelector(".reading"),
  }));
  const curves = Array.from(root.querySelectorAll(".curve-box"), (node) => ({ node, cursor: null }));
  let dt = 0.1, length = 0, now = 0, frame = 0, begun = null;

  if (drives.length) load();

  async function load() {
    try {
      await Promise.all(drives.map(fetchDrive));
    } catch (error) {
      const said = one(".failed");
      said.textContent = `The replay cannot be shown: ${error.message}`;
      said.hidden = false;
      return;
    }
    dt = Math.min(...drives.map((drive) => drive.data.dt_s));
    length = Math.max(...drives.map((drive) => drive.steps.at(-1).t_s));
    scrub.max = Math.round(length / dt);
    player.hidden = false;
    for (const { canvas, reading } of drives) canvas.hidden = reading.hidden = false;
    listen();
    seek(0);
  }

  async function fetchDrive(drive) {
    const answer = await fetch(drive.node.dataset.file, { cache: "no-store" });
    if (answer.redirected) throw new Error("please log in again");
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    drive.data = await answer.json();
    drive.steps = drive.data.steps;
    // A gate's replay says of every step whether anybody is near; a recording may have nobody to say it.
    drive.tells = (value) => Boolean(drive.data.outcome) || drive.steps.some((step) => !missing(step[value]));
  }

  function listen() {
    play.addEventListener("click", () => toggle());
    scrub.addEventListener("input", () => { pause(); seek(Number(scrub.value) * dt); });
    follow.addEventListener("change", draw);
    toTrigger?.addEventListener("click", () => { pause(); seek(drives[0].data.triggered_t_s); });
    document.addEventListener("keydown", onKey);
    document.addEventListener("themed", draw);
    const resized = new ResizeObserver(() => { drawCurves(); draw(); });
    for (const { canvas } of drives) resized.observe(canvas);
    for (const { node } of curves) {
      resized.observe(node);
      node.addEventListener("pointerdown", (event) => { pause(); seekAt(event, node); });
      node.addEventListener("pointermove", (event) => { if (event.buttons) seekAt(event, node); });
    }
  }

  // Keys that mean something to what has the focus stay its own.
  function onKey(event) {
    const target = event.target;
    if (event.altKey || event.ctrlKey || event.metaKey || target.closest(".scroll, dialog")) return;
    if (event.key === " " && !target.closest("button, a, summary, input[type=checkbox]")) toggle();
    else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      pause();
      seek(now + (event.key === "ArrowLeft" ? -1 : 1) * (event.shiftKey ? 10 : 1) * dt);
    } else return;
    event.preventDefault();
  }

  function toggle() {
    if (frame) return pause();
    if (now >= length - dt / 2) seek(0);
    begun = null;
    frame = requestAnimationFrame(tick);
    play.textContent = "Pause";
    play.setAttribute("aria-pressed", "true");
  }

  function pause() {
    cancelAnimationFrame(frame);
    frame = 0;
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
  }

  function tick(at) {
    if (begun === null) begun = at - now * 1000;
    seek((at - begun) / 1000);
    if (now >= length) return pause();
    frame = requestAnimationFrame(tick);
  }

  function seekAt(event, node) {
    const box = node.getBoundingClientRect();
    const share = (event.clientX - box.left - MARGIN.left) / (box.width - MARGIN.left - MARGIN.right);
    seek(share * length);
  }

  function seek(time) {
    now = Math.min(Math.max(time, 0), length);
    scrub.value = Math.round(now / dt);
    const words = `${now.toFixed(1)} s`;
    one(".time").textContent = words;
    scrub.setAttribute("aria-valuetext", words);
    draw();
  }

  function placeOf(drive, time = now) {
    let place = 0;
    while (place + 1 < drive.steps.length && drive.steps[place + 1].t_s <= time + 1e-6) place += 1;
    return place;
  }

  const colour = fleetloop.colour;
  const missing = (value) => value === null || value === undefined;

  function draw() {
    for (const drive of drives) drawScene(drive, placeOf(drive));
    const box = curves[0].node.clientWidth;
    const x = MARGIN.left + (now / (length || 1)) * Math.max(box - MARGIN.left - MARGIN.right, 0);
    for (const { cursor } of curves) {
      cursor?.setAttribute("x1", x);
      cursor?.setAttribute("x2", x);
    }
  }

  function drawScene(drive, place) {
    const { canvas, data, steps } = drive, step = steps[place], scale = devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
    if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
    const pen = canvas.getContext("2d"), view = viewOf(drive, step, width, height);
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.setTransform(scale * view.zoom, 0, 0, -scale * view.zoom, scale * (width / 2 - view.x * view.zoom), scale * (height / 2 + view.y * view.zoom));
    const pixel = 1 / view.zoom;
    drawWorld(pen, data.world, pixel);
    for (const other of drives) if (other !== drive) path(pen, other, 0, other.steps.length - 1, pixel, true);
    path(pen, drive, 0, place, pixel, false);
    drawLidar(pen, data.robot, step, pixel);
    drawMovers(pen, step, pixel);
    if (!missing(data.triggered_t_s)) drawTrigger(pen, drive, pixel);
    drawRobot(pen, drive, step, place, pixel);
    tell(drive, step, place);
  }

  function viewOf(drive, step, width, height) {
    if (follow.checked) return { x: step.x_m, y: step.y_m, zoom: width / FOLLOWED_M };
    const boxes = drive.data.world.rectangles, points = drive.data.world.polylines.flat().concat(drive.steps.map((s) => [s.x_m, s.y_m]));
    const xs = boxes.flatMap(([x, , half]) => [x - half, x + half]).concat(points.map((p) => p[0]));
    const ys = boxes.flatMap(([, y, , half]) => [y - half, y + half]).concat(points.map((p) => p[1]));
    const left = Math.min(...xs), right = Math.max(...xs), low = Math.min(...ys), high = Math.max(...ys);
    const zoom = 0.96 * Math.min(width / Math.max(right - left, 1), height / Math.max(high - low, 1));
    return { x: (left + right) / 2, y: (low + high) / 2, zoom };
  }

  function drawWorld(pen, world, pixel) {
    pen.fillStyle = colour("overhead");
    pen.strokeStyle = colour("quiet");
    pen.lineWidth = pixel;
    for (const [x, y, halfX, halfY] of world.rectangles) {
      pen.fillRect(x - halfX, y - halfY, 2 * halfX, 2 * halfY);
      pen.strokeRect(x - halfX, y - halfY, 2 * halfX, 2 * halfY);
    }
    pen.lineWidth = 2 * pixel;
    for (const points of world.polylines) line(pen, points);
  }

  function line(pen, points) {
    pen.beginPath();
    points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    pen.stroke();
  }

  function path(pen, drive, first, last, pixel, ghost) {
    pen.save();
    pen.strokeStyle = colour(drive.series);
    pen.lineWidth = (ghost ? 1.6 : 2.6) * pixel;
    pen.globalAlpha = ghost ? 0.75 : 1;
    if (ghost) pen.setLineDash([5 * pixel, 5 * pixel]);
    line(pen, drive.steps.slice(first, last + 1).map((step) => [step.x_m, step.y_m]));
    pen.restore();
  }

  function drawLidar(pen, robot, step, pixel) {
    pen.save();
    pen.strokeStyle = pen.fillStyle = colour("wait");
    pen.lineWidth = pixel;
    step.ranges_m.forEach((range, i) => {
      const bearing = step.yaw_rad + robot.ray_angles_rad[i], hit = range < robot.range_m - 0.02;
      const x = step.x_m + range * Math.cos(bearing), y = step.y_m + range * Math.sin(bearing);
      pen.globalAlpha = hit ? 0.3 : 0.1;
      line(pen, [[step.x_m, step.y_m], [x, y]]);
      pen.globalAlpha = 1;
      if (hit) disc(pen, x, y, 2 * pixel);
    });
    pen.restore();
  }

  function disc(pen, x, y, radius) {
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fill();
  }

  function drawMovers(pen, step, pixel) {
    pen.fillStyle = colour("bad");
    pen.strokeStyle = colour("card");
    pen.lineWidth = 1.5 * pixel;
    for (const [x, y, radius] of step.movers) {
      disc(pen, x, y, radius);
      pen.stroke();
    }
  }

  // Where the robot was when what triggered the recording happened.
  function drawTrigger(pen, drive, pixel) {
    const at = drive.steps[placeOf(drive, drive.data.triggered_t_s)];
    pen.save();
    pen.strokeStyle = colour("bad");
    pen.lineWidth = 1.6 * pixel;
    pen.setLineDash([4 * pixel, 4 * pixel]);
    pen.beginPath();
    pen.arc(at.x_m, at.y_m, drive.data.robot.radius_m + 10 * pixel, 0, 2 * Math.PI);
    pen.stroke();
    pen.restore();
  }

  function drawRobot(pen, drive, step, place, pixel) {
    const radius = drive.data.robot.radius_m;
    pen.fillStyle = colour(drive.series);
    disc(pen, step.x_m, step.y_m, radius);
    pen.strokeStyle = colour("card");
    pen.lineWidth = 2 * pixel;
    line(pen, [[step.x_m, step.y_m], [step.x_m + radius * Math.cos(step.yaw_rad), step.y_m + radius * Math.sin(step.yaw_rad)]]);
    pen.strokeStyle = colour("ink");
    if (step.command) line(pen, asked(step));
    if (place < drive.steps.length - 1) return;
    pen.beginPath();
    pen.arc(step.x_m, step.y_m, radius + 5 * pixel, 0, 2 * Math.PI);
    pen.stroke();
  }

  // Where the command would lead within a second.
  function asked(step) {
    let x = step.x_m, y = step.y_m, yaw = step.yaw_rad;
    const points = [[x, y]];
    for (let i = 0; i < 10; i += 1) {
      x += (step.command[0] / 10) * Math.cos(yaw);
      y += (step.command[0] / 10) * Math.sin(yaw);
      yaw += step.command[1] / 10;
      points.push([x, y]);
    }
    return points;
  }

  function tell(drive, step, place) {
    const over = place === drive.steps.length - 1, { outcome, triggered_t_s: triggered } = drive.data;
    const said = [`${step.t_s.toFixed(1)} s: drives ${step.speed_mps.toFixed(2)} m/s`];
    if (step.command) said.push(`asked for ${step.command[0].toFixed(2)} m/s and ${step.command[1].toFixed(2)} rad/s`);
    if (drive.tells("clearance_m")) said.push(missing(step.clearance_m) ? "nobody near" : `clearance ${step.clearance_m.toFixed(2)} m`);
    if (drive.tells("ttc_s")) said.push(missing(step.ttc_s) ? "on no course to collide" : `collision in ${step.ttc_s.toFixed(2)} s`);
    if (!missing(triggered) && place === placeOf(drive, triggered)) said.push("the trigger");
    if (over) said.push(outcome ? `over: ${outcome.words}` : "here the recording ends");
    drive.reading.textContent = said.join(" · ");
  }

  function drawCurves() {
    for (const curve of curves) drawCurve(curve);
  }

  function drawCurve(curve) {
    const { value, most, words } = curve.node.dataset, width = Math.max(curve.node.clientWidth, 160);
    const picture = element("svg", { viewBox: `0 0 ${width} ${CURVE_HEIGHT}`, class: "chart", role: "img" });
    picture.append(element("title", {}, `${words}, over time${drives.length > 1 ? ", of both models" : ""}`));
    const x = (time) => MARGIN.left + (time / (length || 1)) * (width - MARGIN.left - MARGIN.right);
    const bottom = CURVE_HEIGHT - MARGIN.bottom;
    const y = (amount) => bottom - (Math.min(Math.max(amount, 0), Number(most)) / Number(most)) * (bottom - MARGIN.top);
    for (const level of [0, Number(most) / 2, Number(most)]) {
      picture.append(element("line", { class: "grid", x1: x(0), x2: x(length), y1: y(level), y2: y(level) }));
      picture.append(element("text", { class: "tick", x: MARGIN.left - 5, y: y(level) + 4, "text-anchor": "end" }, `${level}`));
    }
    const every = [1, 5, 10, 30, 60, 300, 600, 3600].find((seconds) => length / seconds <= 8) ?? length / 8;
    for (let time = 0; time <= length; time += every) {
      picture.append(element("text", { class: "tick", x: x(time), y: CURVE_HEIGHT - 4, "text-anchor": "middle" }, `${time} s`));
    }
    for (const drive of drives) {
      for (const part of parts(drive.steps, value)) {
        const points = part.map((step) => `${x(step.t_s).toFixed(1)},${y(step[value]).toFixed(1)}`).join(" ");
        picture.append(element("polyline", { class: `curve ${drive.series}${drive.node.dataset.side === "champion" ? " dashed" : ""}`, points }));
      }
    }
    for (const { data } of drives.filter((drive) => !missing(drive.data.triggered_t_s))) {
      const at = x(data.triggered_t_s);
      picture.append(element("line", { class: "trigger", y1: MARGIN.top, y2: bottom, x1: at, x2: at }));
    }
    curve.cursor = element("line", { class: "cursor", y1: MARGIN.top, y2: bottom, x1: x(now), x2: x(now) });
    picture.append(curve.cursor);
    curve.node.replaceChildren(picture);
  }

  // Stretches in which there is a value at all.
  function parts(steps, value) {
    const found = [[]];
    for (const step of steps) {
      if (missing(step[value])) found.push([]);
      else found.at(-1).push(step);
    }
    return found.filter((part) => part.length > 1);
  }

  function element(name, attributes, words) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (words !== undefined) made.textContent = words;
    return made;
  }
})();
