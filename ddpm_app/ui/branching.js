// Draws the tree that ddpm_app/ui/trees.py tells, and walks it: a row for each branch, time from left to right.
// Pictures come from one file for each branch, x_t in its upper row and x̂₀ in the lower one.

const find = (selector) => element.querySelector(selector);
const LABEL = 17, GAP = 6, FINAL = 64, FRAME = 36, LARGE = 160;
let tree = null, rows = new Map(), picked = { path: "", t: 600 };
const pictures = new Map();

function picture(file) {
  if (!file) return null;
  if (!pictures.has(file)) {
    const image = new Image(), config = window.gradio_config || {};
    image.onload = draw;
    image.src = file.startsWith("data:") ? file : `${config.root || ""}${config.api_prefix || "/gradio_api"}/file=${file}`;
    pictures.set(file, image);
  }
  const image = pictures.get(file);
  return image.complete && image.naturalWidth ? image : null;
}

function load(value) {
  if (!value || !value.branches) return;
  tree = value;
  rows = new Map(tree.branches.map((branch) => [branch.forks, branch]));
  const files = new Set(tree.branches.map((branch) => branch.file));
  for (const file of pictures.keys()) if (!files.has(file) && files.size > 1) pictures.delete(file);
  if (!rows.has(picked.path) || rows.get(picked.path).growing) picked = { path: "", t: picked.t };
  build();
  draw();
}

// every frame on the way to a branch, from x_T down: those of each ancestor end where the next one leaves it
function way(path) {
  const steps = path ? path.split("/") : [], found = [];
  for (let depth = 0; depth <= steps.length; depth += 1) {
    const branch = rows.get(steps.slice(0, depth).join("/"));
    if (!branch || branch.growing) continue;
    const top = depth ? branch.from : Infinity;
    const end = depth < steps.length ? Number(steps[depth].split(":")[0]) : 0;
    branch.t.forEach((t, column) => { if (t >= end && t < top) found.push({ t, column, branch }); });
  }
  return found;
}

function nearest(frames) {
  return frames.reduce((best, frame, k) => (Math.abs(frame.t - picked.t) < Math.abs(frames[best].t - picked.t) ? k : best), 0);
}

// what branching.html has in the visitor's language, with the values in its holes, {} in turn or {0}, {1}
function say(what, ...values) {
  let turn = 0;
  const told = find(".branching").getAttribute(`data-said-${what}`);
  return told.replace(/\{(\d*)\}/g, (_, place) => values[place === "" ? turn++ : place]);
}

function name(branch) {
  return branch.forks ? say("branch", branch.seed, branch.from) : say("trunk", branch.seed);
}

function choose(path, t) {
  picked = { path, t };
  draw();
}

function build() {
  const list = find(".branching-rows"), old = new Map([...list.children].map((row) => [row.dataset.path, row]));
  const wanted = tree.branches.map((branch) => old.get(branch.forks) || row(branch.forks));
  if (wanted.length !== list.children.length || wanted.some((each, k) => each !== list.children[k])) {
    const held = list.contains(document.activeElement) ? document.activeElement : null;
    list.replaceChildren(...wanted);
    if (held && held.isConnected) held.focus();
  }
}

function row(path) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "branching-row";
  made.dataset.path = path;
  made.innerHTML = '<span></span><canvas class="strip"></canvas><canvas class="final"></canvas>';
  return made;
}

// how large a picture of the tree's size is shown within `room`: a whole multiple, or shrunk where it is too large
function fitted(room) {
  const size = sizes();
  if (!size) return room;
  const longest = Math.max(...size);
  return longest > room ? room : longest * Math.floor(room / longest);
}

function sizes() {
  const known = tree.branches.filter((branch) => picture(branch.file));
  const best = known.find((branch) => !branch.growing) || known[0];
  return best ? tile(best) : null;
}

// how wide and how high each picture in a branch's file is; branches that grow share theirs
function tile(branch) {
  const image = picture(branch.file), together = tree.branches.filter((each) => each.growing);
  return [image.naturalWidth / (branch.growing ? together : branch.t).length, image.naturalHeight / 2];
}

// one tile of a branch's file, `line` 0 for x_t and 1 for x̂₀, in the middle of a square of a canvas
function paint(context, branch, column, line, x, y, edge) {
  const image = picture(branch.file);
  if (!image) return;
  const [width, height] = tile(branch), longest = Math.max(width, height);
  const [across, down] = [(edge * width) / longest, (edge * height) / longest];
  context.imageSmoothingEnabled = longest > edge;
  context.drawImage(
    image, column * width, line * height, width, height, x + (edge - across) / 2, y + (edge - down) / 2, across, down,
  );
}

function sized(canvas, width, height, ratio) {
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== across) canvas.width = across;
  if (canvas.height !== down) canvas.height = down;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

function draw() {
  const box = find(".branching-rows");
  if (!tree || !box || !box.clientWidth) return;
  const ratio = Math.max(1, Math.min(3, window.devicePixelRatio || 1));
  const frame = fitted(FRAME), last = fitted(FINAL), high = Math.max(last, LABEL + frame) + GAP;
  const area = box.clientWidth - last - GAP - 4, across = (t) => Math.round((1 - t / tree.T) * (area - frame));
  const frames = way(picked.path), here = frames[nearest(frames)];
  if (here) picked.t = here.t;
  const middle = Math.round((high - GAP - frame + LABEL) / 2), shown = spread(across, frame);
  [...box.children].forEach((each, k) => drawRow(each, tree.branches[k], { ratio, frame, last, high, area, across, middle, here, shown }));
  drawLines(box, { frame, area, across, middle });
  drawAxis(across, frame);
  drawFrame(frames, here, ratio);
}

function drawRow(each, branch, at) {
  const way = shownWay(), [label, strip, final] = each.children;
  each.style.height = `${at.high}px`;
  each.setAttribute("aria-pressed", branch.forks === picked.path);
  const growing = branch.growing ? say("growing", name(branch)) : name(branch);
  each.setAttribute("aria-label", way.has(branch.forks) ? say("way", growing) : growing);
  label.textContent = name(branch);
  const start = at.across(branch.from), width = label.offsetWidth || 110;
  label.style.left = `${Math.max(0, Math.min(start + (branch.forks ? at.frame / 2 + 5 : 0), at.area - width))}px`;
  strip.style.left = "0";
  strip.style.top = `${at.middle}px`;
  const context = sized(strip, at.area, at.frame, at.ratio);
  let edge = -Infinity;
  branch.t.forEach((t, column) => {
    if (!t || at.across(t) <= edge || !(branch.growing || t === branch.from || at.shown.has(t))) return;
    paint(context, branch, branch.growing ? branch.column : column, 1, at.across(t), 0, at.frame);
    edge = at.across(t) + at.frame;
  });
  if (at.here && at.here.branch === branch && at.here.t) {
    const x = at.across(at.here.t);
    paint(context, branch, at.here.column, 1, x, 0, at.frame);
    context.strokeStyle = "#f59e0b";
    context.lineWidth = 3;
    context.strokeRect(x + 1.5, 1.5, at.frame - 3, at.frame - 3);
  }
  final.style.left = `${at.area + GAP}px`;
  final.style.top = `${Math.round((at.high - at.last) / 2)}px`;
  const end = sized(final, at.last, at.last, at.ratio);
  if (!branch.growing) paint(end, branch, branch.t.length - 1, 1, 0, 0, at.last);
}

// the t whose frames find room side by side, evenly
function spread(across, frame) {
  const t = tree.branches.find((branch) => !branch.forks).t.filter((each) => each > 0);
  const apart = Math.min(...t.slice(1).map((each, k) => across(each) - across(t[k])));
  const every = Math.max(1, Math.ceil((frame + 1) / apart));
  return new Set(t.filter((_, k) => k % every === 0));
}

// the paths of the branches that lead to the picked one, itself among them
function shownWay() {
  const steps = picked.path ? picked.path.split("/") : [];
  return new Set(["", ...steps.map((_, k) => steps.slice(0, k + 1).join("/"))]);
}

function drawLines(box, at) {
  const svg = find(".branching-lines"), on = shownWay();
  const places = new Map(tree.branches.map((branch, k) => [branch.forks, k]));
  svg.setAttribute("width", box.clientWidth);
  svg.setAttribute("height", box.offsetTop + box.offsetHeight);
  const level = (path) => box.offsetTop + box.children[places.get(path)].offsetTop + at.middle + at.frame / 2;
  const lines = tree.branches.map((branch) => {
    const x = at.across(branch.from) + at.frame / 2;
    const end = branch.growing ? at.across(branch.t[0]) + at.frame / 2 : at.area + 4;
    const down = branch.forks ? `M${x},${level(branch.parent)} V${level(branch.forks)}` : `M${x},${level("")}`;
    return [`${down} H${Math.max(x, end)}`, on.has(branch.forks)];
  });
  lines.sort((a, b) => a[1] - b[1]);
  svg.innerHTML = lines.map(([d, lit]) => `<path d="${d}"${lit ? ' class="on"' : ""}/>`).join("");
}

function drawAxis(across, frame) {
  const shares = across(0) > 300 ? [1, 0.75, 0.5, 0.25] : [1, 0.5];
  const marks = shares.map((share) => Math.round(share * tree.T));
  find(".branching-axis").innerHTML = marks
    .map((t, k) => `<span style="left:${across(t) + (k ? frame / 2 : 0)}px">${k ? t : `t = ${t}`}</span>`)
    .join("") + '<span style="left:100%">x₀</span>';
}

function drawFrame(frames, here, ratio) {
  const root = find(".branching"), range = find("input[type=range]");
  const large = fitted(Math.min(LARGE, (root.clientWidth - 16) / 2));
  root.dataset.path = picked.path;
  root.dataset.t = picked.t;
  for (const [line, selector] of [[0, "canvas.xt"], [1, "canvas.guess"]]) {
    const context = sized(find(selector), large, large, ratio);
    if (here) paint(context, here.branch, here.column, line, 0, 0, large);
  }
  const branch = rows.get(picked.path), said = here ? `t = ${here.t}` : "";
  range.max = Math.max(1, frames.length - 1);
  range.value = here ? frames.indexOf(here) : 0;
  range.setAttribute("aria-valuetext", said);
  find("output").textContent = said;
  find("canvas.xt").setAttribute("aria-label", here ? say("noisy", here.t, name(here.branch)) : say("nothing"));
  find("canvas.guess").setAttribute("aria-label", here ? say("guess", here.t) : say("nothing"));
  drawPath();
  const told = [];
  if (branch && branch.forks) told.push(branch.distance ? say("apart", branch.distance) : say(branch.again ? "alike" : "noiseless"));
  if (here) told.push(here.t ? say("fork", here.t, name(here.branch)) : say("end"));
  if (find(".branching-told").textContent !== told.join(" ")) find(".branching-told").textContent = told.join(" ");
}

function drawPath() {
  const steps = picked.path ? picked.path.split("/") : [], nav = find(".branching-path");
  const wanted = ["", ...steps.map((_, k) => steps.slice(0, k + 1).join("/"))].filter((path) => rows.has(path));
  const told = wanted.join(" ") + tree.seed;
  if (nav.dataset.told === told) return;
  nav.dataset.told = told;
  nav.replaceChildren(...wanted.map((path, k) => {
    const crumb = document.createElement("button");
    crumb.type = "button";
    crumb.dataset.path = path;
    crumb.textContent = name(rows.get(path));
    if (k === wanted.length - 1) crumb.setAttribute("aria-current", "true");
    return crumb;
  }).flatMap((crumb, k) => (k ? [document.createTextNode("›"), crumb] : [crumb])));
}

element.addEventListener("click", (event) => {
  const target = event.target.closest(".branching-row, .branching-path button");
  if (!target || !tree || (rows.get(target.dataset.path) || {}).growing) return;
  const strip = target.querySelector(".strip");
  let t = picked.t;
  if (strip && event.clientX) {
    const box = strip.getBoundingClientRect(), frame = fitted(FRAME), branch = rows.get(target.dataset.path);
    const share = (event.clientX - box.left - frame / 2) / (box.width - frame);
    t = share > 1 ? 0 : Math.min(branch.from, (1 - share) * tree.T);
  }
  choose(target.dataset.path, t);
});
element.addEventListener("input", (event) => {
  if (event.target.type !== "range" || !tree) return;
  const frame = way(picked.path)[Number(event.target.value)]; // none while a new trunk grows
  if (frame) choose(picked.path, frame.t);
});
element.addEventListener("keydown", (event) => {
  const target = event.target.closest(".branching-row");
  if (!target || !tree) return;
  const list = [...find(".branching-rows").children], place = list.indexOf(target), frames = way(picked.path);
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    const next = list[place + (event.key === "ArrowDown" ? 1 : -1)];
    if (!next || rows.get(next.dataset.path).growing) return;
    next.focus();
    choose(next.dataset.path, picked.t);
  } else if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
    const next = frames[nearest(frames) + (event.key === "ArrowRight" ? 1 : -1)];
    if (next) choose(picked.path, next.t);
  } else return;
  event.preventDefault();
});
new ResizeObserver(draw).observe(element);
watch("value", () => load(props.value));
load(props.value);
