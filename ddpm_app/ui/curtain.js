// Two sheets one behind the other, and a curtain between them that a finger, a mouse or the arrow keys draw.
// The pictures, their names and the numbers come from ddpm_app/ui/tabs/compare.py.

const find = (selector) => element.querySelector(selector);
const range = find("input[type=range]"), stage = find(".curtain-stage");

function draw() {
  const share = Number(range.value);
  find(".a").style.clipPath = `inset(0 ${100 - share}% 0 0)`;
  find(".b").style.clipPath = `inset(0 0 0 ${share}%)`;
  find(".curtain-stage i").style.left = `${share}%`;
}

function load(value) {
  if (!value || !value.a) return;
  for (const side of ["a", "b"]) {
    find(`.${side}`).src = value[side].picture;
    find(`.${side}`).alt = `${side.toUpperCase()}: ${value[side].name}`;
    find(`.${side}`).hidden = false;
    find(`.name-${side}`).textContent = `${side.toUpperCase()}: ${value[side].name}`;
  }
  find(".curtain-empty").hidden = true;
  find(".curtain-stage i").hidden = false;
  range.disabled = false;
  for (const [name, number] of Object.entries(value.numbers)) find(`[data-number=${name}]`).textContent = number;
  draw();
}

function follow(event) {
  if (range.disabled || !(event.buttons & 1)) return;
  const box = stage.getBoundingClientRect();
  range.value = Math.round((100 * (event.clientX - box.left)) / box.width);
  draw();
}

stage.addEventListener("dragstart", (event) => event.preventDefault());
stage.addEventListener("pointerdown", (event) => {
  stage.setPointerCapture(event.pointerId);
  follow(event);
});
stage.addEventListener("pointermove", follow);
range.addEventListener("input", draw);
watch("value", () => load(props.value));
load(props.value);
