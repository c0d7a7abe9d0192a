// Click on a picture: the place goes to Python, and the words that come back stand beside it as bars.
function render({ model, el }) {
  const [h, w] = model.get("size");
  const zoom = Math.max(1, Math.round(320 / Math.max(h, w)));
  const stage = document.createElement("div");
  stage.style.cssText = "position:relative;cursor:crosshair;flex:none";
  Object.assign(stage, { tabIndex: 0, ariaLabel: "picture: click, or move the ring by the arrow keys" });
  const picture = new Image();
  picture.src = model.get("picture");
  picture.draggable = false;
  picture.style.cssText = `display:block;width:${w * zoom}px;height:${h * zoom}px;image-rendering:pixelated`;
  const ring = document.createElement("div");
  ring.style.cssText =
    "position:absolute;width:12px;height:12px;margin:-8px 0 0 -8px;border:2px solid #fff;border-radius:50%;box-shadow:0 0 0 1px #000,inset 0 0 0 1px #000;pointer-events:none";
  stage.append(picture, ring);
  const words = document.createElement("div");
  words.style.cssText = "display:grid;grid-template-columns:max-content 10em max-content;gap:1px 0.6em;align-content:start";

  const go = (y, x) => {
    const inside = (value, most) => Math.min(most - 1, Math.max(0, Math.floor(value)));
    model.set("place", [inside(y, h), inside(x, w)]);
    model.save_changes();
  };
  stage.addEventListener("click", (event) => {
    const box = picture.getBoundingClientRect();
    go(((event.clientY - box.top) / box.height) * h, ((event.clientX - box.left) / box.width) * w);
  });
  const STEP = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  stage.addEventListener("keydown", (event) => {
    if (!STEP[event.key]) return;
    event.preventDefault();
    const [y, x] = model.get("place"), far = Math.max(1, Math.round(Math.max(h, w) / 32));
    go(y + far * STEP[event.key][0], x + far * STEP[event.key][1]);
  });
  const point = () => {
    const [y, x] = model.get("place");
    Object.assign(ring.style, { top: `${(y + 0.5) * zoom}px`, left: `${(x + 0.5) * zoom}px` });
    words.style.opacity = 0.4; // until the answer comes
  };
  const show = () => {
    const answer = model.get("answer"), most = Math.max(1e-9, ...answer.map(([, share]) => share));
    words.replaceChildren();
    for (const [word, share] of answer) {
      const name = document.createElement("span"), bar = document.createElement("span"), number = document.createElement("span");
      name.textContent = word;
      number.textContent = `${(100 * share).toFixed(2)} %`;
      bar.style.cssText = `background:#0072b2;height:0.8em;align-self:center;width:${(100 * share) / most}%`;
      words.append(name, bar, number);
    }
    words.style.opacity = 1;
  };
  model.on("change:place", point);
  model.on("change:answer", show);
  model.on("change:asked", show); // the same words again
  point();
  show();
  el.style.cssText += "display:flex;flex-wrap:wrap;gap:1.5em";
  el.append(stage, words);
}
export default { render };
