// Draws what ddpm_app/ui/tabs/score.py packs: the score field of a toy set and particles on their way.
// All numbers come from Python; here they are only placed between two stored levels of t, and painted.

const find = (selector) => element.querySelector(selector);
const SECONDS = 7, TRAIL = 5;
const INK = [[11, 10, 31], [67, 26, 110], [168, 46, 108], [240, 128, 60]];  // from no density to its peak
let film = null, position = 0, playing = false, last = 0;

function bytes(text, type) {
  return new type(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
}

function load(value) {
  if (!value || !value.particles) return;
  film = {
    ...value,
    particles: bytes(value.particles, Int16Array), points: bytes(value.points, Int16Array),
    scores: bytes(value.scores, Int8Array), density: bytes(value.density, Uint8Array),
  };
  position = 0;
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (still) { position = 1000; draw(); } else play();
}

// where `t` lies in a falling list of levels: the place before it, and the share of the way to the next
function between(levels, t) {
  let k = 0;
  while (k < levels.length - 2 && levels[k + 1] > t) k += 1;
  return [k, Math.min(1, Math.max(0, (levels[k] - t) / (levels[k] - levels[k + 1])))];
}

const mix = (values, k, share, size, j) =>
  values[k * size + j] * (1 - share) + values[(k + 1) * size + j] * share;

function paintDensity(context, edge, k, share) {
  const side = film.pixels, picture = new ImageData(side, side);
  for (let j = 0; j < side * side; j += 1) {
    const level = (mix(film.density, k, share, side * side, j) / 255) * (INK.length - 1);
    const low = Math.min(INK.length - 2, Math.floor(level)), part = level - low;
    const place = 4 * ((side - 1 - Math.floor(j / side)) * side + (j % side));  // rows go up
    for (let c = 0; c < 3; c += 1) picture.data[place + c] = INK[low][c] * (1 - part) + INK[low + 1][c] * part;
    picture.data[place + 3] = 255;
  }
  const small = new OffscreenCanvas(side, side);
  small.getContext("2d").putImageData(picture, 0, 0);
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, edge, edge);
}

function paintScores(context, edge, k, share) {
  const side = film.arrows, cell = edge / side;
  context.strokeStyle = "rgba(226, 232, 255, 0.42)";
  context.lineWidth = Math.max(1, edge / 560);
  context.beginPath();
  for (let j = 0; j < side * side; j += 1) {
    const dx = (mix(film.scores, k, share, 2 * side * side, 2 * j) / 127) * cell * 0.8;
    const dy = (-mix(film.scores, k, share, 2 * side * side, 2 * j + 1) / 127) * cell * 0.8;
    const x = ((j % side) + 0.5) * cell - dx / 2, y = (side - Math.floor(j / side) - 0.5) * cell - dy / 2;
    context.moveTo(x, y);
    context.lineTo(x + dx, y + dy);
    context.lineTo(x + 0.62 * dx - 0.22 * dy, y + 0.62 * dy + 0.22 * dx);
    context.moveTo(x + dx, y + dy);
    context.lineTo(x + 0.62 * dx + 0.22 * dy, y + 0.62 * dy - 0.22 * dx);
  }
  context.stroke();
}

function paintParticles(context, edge, t, trails) {
  const [k, share] = between(film.t, t), count = film.count, size = 2 * count;
  const across = (value) => (value / film.unit / film.extent + 1) * (edge / 2);
  const down = (value) => (1 - value / film.unit / film.extent) * (edge / 2);
  for (let j = 0; j < count; j += 1) {
    const hue = (Math.atan2(film.particles[2 * j + 1], film.particles[2 * j]) * 180) / Math.PI;
    const x = across(mix(film.particles, k, share, size, 2 * j));
    const y = down(mix(film.particles, k, share, size, 2 * j + 1));
    if (trails) {
      context.strokeStyle = `hsla(${hue}, 90%, 72%, 0.35)`;
      context.lineWidth = edge / 500;
      context.beginPath();
      context.moveTo(x, y);
      for (let back = k; back >= Math.max(0, k - TRAIL); back -= 1)
        context.lineTo(across(film.particles[back * size + 2 * j]), down(film.particles[back * size + 2 * j + 1]));
      context.stroke();
    }
    context.fillStyle = `hsl(${hue}, 95%, 74%)`;
    context.beginPath();
    context.arc(x, y, edge / 185, 0, 2 * Math.PI);
    context.fill();
  }
}

function paintPoints(context, edge, k, share) {
  const signal = film.signal[k] * (1 - share) + film.signal[k + 1] * share;
  context.fillStyle = "rgba(255, 255, 255, 0.9)";
  for (let j = 0; j < film.points.length; j += 2) {
    const [x, y] = [film.points[j], film.points[j + 1]].map((v) => (signal * v) / film.unit / film.extent);
    context.fillRect((x + 1) * (edge / 2) - edge / 400, (1 - y) * (edge / 2) - edge / 400, edge / 200, edge / 200);
  }
}

function draw() {
  const canvas = find("canvas");
  if (!film || !canvas || !canvas.clientWidth) return;
  const edge = Math.round(canvas.clientWidth * Math.min(2, window.devicePixelRatio || 1));
  if (canvas.width !== edge) canvas.width = canvas.height = edge;
  const context = canvas.getContext("2d"), t = 1000 - position, [k, share] = between(film.levels, t);
  const shown = (name) => find(`input[name=${name}]`).checked;
  context.fillStyle = `rgb(${INK[0]})`;
  context.fillRect(0, 0, edge, edge);
  if (shown("density")) paintDensity(context, edge, k, share);
  if (shown("scores")) paintScores(context, edge, k, share);
  if (shown("points")) paintPoints(context, edge, k, share);
  paintParticles(context, edge, t, shown("trails"));
  const left = film.signal[k] * (1 - share) + film.signal[k + 1] * share;
  find("output").innerHTML = `t = ${Math.round(t)}<span> · √ᾱ = ${left.toFixed(2)}</span>`;
  find("input[type=range]").value = position;
  find("input[type=range]").setAttribute("aria-valuetext", `t = ${Math.round(t)}`);
  find(".plane-play").textContent = playing ? "❚❚" : "▶";
  const button = find(".plane-play");
  button.setAttribute("aria-label", playing ? button.dataset.saidPause : button.dataset.saidPlay);
}

function tick(now) {
  if (!playing || !element.isConnected) return;
  position = Math.min(1000, position + (Math.min(100, now - last) / SECONDS));
  last = now;
  if (position >= 1000) playing = false;
  draw();
  if (playing) requestAnimationFrame(tick);
}

function play() {
  if (playing) return;
  if (position >= 1000) position = 0;
  playing = true;
  last = performance.now();
  requestAnimationFrame(tick);
}

element.addEventListener("input", (event) => {
  if (event.target.type === "range") { playing = false; position = Number(event.target.value); }
  draw();
});
element.addEventListener("click", (event) => {
  if (!event.target.closest(".plane-play")) return;
  if (playing) { playing = false; draw(); } else play();
});
new ResizeObserver(draw).observe(element);
watch("value", () => load(props.value));
load(props.value);
