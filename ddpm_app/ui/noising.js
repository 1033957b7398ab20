// Mixes a picture with noise at any t, as equation 4 has it, from what ddpm_app/ui/tabs/forward.py packs.
// The schedule's numbers come from Python; only the sum of x₀ and ε is done here, while t is dragged.

const find = (selector) => element.querySelector(selector);
const SECONDS = 5;
let given = null, t = 250, asked = t, playing = false, last = 0;

function bytes(text, type) {
  return new type(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
}

function load(value) {
  if (!value || !value.x_0) {
    given = null;
    for (const canvas of element.querySelectorAll("canvas")) canvas.width = canvas.width; // which clears it
    return;
  }
  given = { ...value, x_0: bytes(value.x_0, Float32Array), noise: bytes(value.noise, Float32Array) };
  for (const name of ["beta", "alpha_bar", "snr", "posterior"]) given[name] = bytes(value[name], Float32Array);
  const line = Array.from(given.alpha_bar, (share, k) => `${((k + 1) * 600) / 1000},${(120 - 116 * share).toFixed(2)}`);
  find(".area").setAttribute("d", `M0,120 L0,4 L${line.join(" ")} L600,120 Z`);
  if (value.t !== asked) t = asked = value.t; // the slider below was moved, by a hand or by a link
  draw();
}

// a canvas of the picture's own size; `level` gives the value of each of its numbers in [-1, 1]
function paint(canvas, level) {
  const { width, height, channels } = given, size = width * height;
  canvas.width = width;
  canvas.height = height;
  const picture = new ImageData(width, height);
  for (let j = 0; j < size; j += 1) {
    for (let c = 0; c < 3; c += 1)
      picture.data[4 * j + c] = Math.round((level((channels === 1 ? 0 : c) * size + j) + 1) * 127.5);
    picture.data[4 * j + 3] = 255;
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

const short = (number) => (number >= 0.001 && number < 10000 ? number.toPrecision(3) : number.toExponential(2));

function draw() {
  if (!given) return;
  const share = t === 0 ? 1 : given.alpha_bar[t - 1];
  const signal = Math.sqrt(share), amount = Math.sqrt(1 - share);
  paint(find(".x0"), (j) => given.x_0[j]);
  paint(find(".eps"), (j) => given.noise[j]);
  paint(find(".xt"), (j) => signal * given.x_0[j] + amount * given.noise[j]);
  find(".signal").textContent = `× ${signal.toFixed(3)}`;
  find(".amount").textContent = `${amount.toFixed(3)} ×`;
  for (const name of ["beta", "alpha_bar", "snr", "posterior"])
    find(`.${name}`).textContent = t === 0 ? "–" : short(given[name][t - 1]);
  for (const end of ["x1", "x2"]) find(".here").setAttribute(end, (t * 600) / 1000);
  find("output").textContent = `t = ${t}`;
  find("input[type=range]").value = t;
  find("input[type=range]").setAttribute("aria-valuetext", `t = ${t}`);
  find(".noising-play").textContent = playing ? "❚❚" : "▶";
  const button = find(".noising-play");
  button.setAttribute("aria-label", playing ? button.dataset.saidPause : button.dataset.saidPlay);
}

function tick(now) {
  if (!playing || !element.isConnected) return;
  t = Math.min(1000, t + Math.max(1, Math.round(Math.min(100, now - last) / SECONDS)));
  last = now;
  if (t >= 1000) playing = false;
  draw();
  if (playing) requestAnimationFrame(tick);
}

element.addEventListener("input", (event) => {
  if (event.target.type !== "range") return;
  playing = false;
  t = Number(event.target.value);
  draw();
});
element.addEventListener("click", (event) => {
  if (!event.target.closest(".noising-play")) return;
  playing = !playing;
  if (t >= 1000) t = 0;
  last = performance.now();
  if (playing) requestAnimationFrame(tick);
  draw();
});
watch("value", () => load(props.value));
load(props.value);
