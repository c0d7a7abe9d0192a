// A brush and a polygon over an image; the mask goes back as a PNG in a data URL.
function render({ model, el }) {
  const [h, w] = model.get("size");
  const zoom = Math.max(1, Math.round(384 / Math.max(h, w)));
  const picture = new Image();
  picture.src = model.get("picture");
  picture.style.cssText = `position:absolute;width:${w * zoom}px;height:${h * zoom}px;image-rendering:pixelated`;
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: w, height: h, tabIndex: 0, ariaLabel: "drawing area" });
  canvas.style.cssText =
    `position:relative;width:${w * zoom}px;height:${h * zoom}px;opacity:0.6;cursor:crosshair;touch-action:none;image-rendering:pixelated`;
  const stage = document.createElement("div");
  stage.style.position = "relative";
  stage.append(picture, canvas);

  const pen = canvas.getContext("2d", { willReadFrequently: true });
  let corners = [], drawing = false, undo = [];
  const radius = () => model.get("radius");
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * w, ((event.clientY - box.top) / box.height) * h];
  };
  const remember = () => { undo.push(pen.getImageData(0, 0, w, h)); if (undo.length > 20) undo.shift(); };
  const send = () => { model.set("drawn", canvas.toDataURL("image/png")); model.save_changes(); };
  const paint = (colour) => {
    pen.globalCompositeOperation = tool.value === "eraser" ? "destination-out" : "source-over";
    pen.fillStyle = pen.strokeStyle = colour;
  };
  const COLOUR = "#d55e00";

  canvas.addEventListener("pointerdown", (event) => {
    const [x, y] = place(event);
    if (tool.value === "polygon") {
      corners.push([x, y]);
      if (corners.length === 1) remember();
      pen.putImageData(undo[undo.length - 1], 0, 0);
      paint(COLOUR);
      pen.beginPath();
      corners.forEach(([cx, cy]) => pen.lineTo(cx, cy));
      corners.length > 2 ? pen.fill() : pen.fillRect(x - 1, y - 1, 2, 2);
      if (corners.length > 2) send();
      return;
    }
    remember();
    canvas.setPointerCapture(event.pointerId);
    drawing = [x, y];
    dab(x, y);
  });
  const dab = (x, y) => {
    paint(COLOUR);
    pen.lineWidth = 2 * radius();
    pen.lineCap = "round";
    pen.beginPath();
    pen.moveTo(...drawing);
    pen.lineTo(x + 0.01, y);
    pen.stroke();
    drawing = [x, y];
  };
  canvas.addEventListener("pointermove", (event) => { if (drawing) dab(...place(event)); });
  canvas.addEventListener("pointerup", () => { if (drawing) send(); drawing = false; });

  const button = (label, act) => {
    const b = document.createElement("button");
    b.textContent = label;
    b.addEventListener("click", act);
    return b;
  };
  const tool = document.createElement("select");
  tool.ariaLabel = "tool";
  for (const name of ["brush", "eraser", "polygon"]) tool.append(new Option(name, name));
  tool.addEventListener("change", () => { corners = []; });
  const back = button("undo", () => {
    corners = [];
    if (undo.length) { pen.putImageData(undo.pop(), 0, 0); send(); }
  });
  const clear = button("clear", () => { corners = []; remember(); pen.clearRect(0, 0, w, h); send(); });
  const bar = document.createElement("div");
  bar.style.cssText = "display:flex;gap:0.5em;margin:0.3em 0";
  bar.append(tool, back, clear);
  el.append(bar, stage);
}
export default { render };
