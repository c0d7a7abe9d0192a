"use strict";
/* The page around a trace: what is typed, drawn and clicked. The mathematics is in trace_reader.js. */
(() => {
  const page = document.getElementById("ask"), at = (name) => document.getElementById(`ask-${name}`);
  const colours = page.dataset.colours.match(/.{6}/g).map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  const picture = new Image(), big = at("picture"), box = at("text"), message = at("message");
  const state = { trace: null, maps: null, chosen: 0, most: 1, cross: null, asked: 0 };
  const shown = (share) => share.toFixed(2).replace(/^0/, "");
  const finest = () => page.querySelector("[name=ask-blocks]:checked").value === "finest";

  function say(text, problem = false) {
    message.textContent = text;
    message.classList.toggle("problem", problem);
    box.setAttribute("aria-invalid", String(problem));
  }

  function colour(share) {
    return colours[Math.round(Math.min(1, Math.max(0, share)) * (colours.length - 1))];
  }

  /* One map as a small picture of its own, a pixel for each place of the grid. */
  function heat(token, alpha) {
    const { grid: [h, w], values } = state.maps, canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [w, h];
    const pixels = new ImageData(w, h);
    for (let i = 0; i < h * w; i++) pixels.data.set([...colour(values[token * h * w + i] / state.most), alpha], 4 * i);
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas;
  }

  function draw() {
    const pen = big.getContext("2d"), { tokens } = state.maps, { width, height } = big;
    pen.imageSmoothingEnabled = true;
    pen.drawImage(picture, 0, 0, width, height);
    pen.drawImage(heat(state.chosen, 153), 0, 0, width, height); // 60 %, as the course's figures
    if (state.cross) {
      const [h, w] = state.trace.grid, [row, column] = state.cross;
      const x = ((column + 0.5) * width) / w, y = ((row + 0.5) * height) / h;
      for (const [style, line] of [["#000", 7], ["#fff", 3]]) {
        [pen.strokeStyle, pen.lineWidth] = [style, line];
        pen.beginPath();
        for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
          pen.moveTo(x + 5 * dx, y + 5 * dy);
          pen.lineTo(x + 19 * dx, y + 19 * dy);
        }
        pen.stroke();
      }
    }
    at("high").textContent = shown(state.most);
    const name = named(state.chosen);
    at("caption").textContent = `Share of attention that goes to ${name}, from 0 to ${shown(state.most)}`;
    big.setAttribute("aria-label", `The picture, and over it the map of ${name}. Press Enter to ask the place under the cross.`);
    at("tokens").querySelectorAll("button").forEach((button, i) => button.setAttribute("aria-pressed", String(i === state.chosen)));
    console.assert(tokens.length === at("tokens").children.length);
  }

  function named(token) {
    const { tokens } = state.maps;
    return token === 0 || token === tokens.length - 1 ? `the ${tokens[token]} token` : `“${tokens[token]}”`;
  }

  const largest = (token) => {
    const { grid: [h, w], values } = state.maps;
    return values.subarray(token * h * w, (token + 1) * h * w).reduce((most, value) => Math.max(most, value), 0);
  };

  function ask() {
    if (!state.trace) return;
    let maps;
    try {
      maps = state.trace.maps(box.value, { finest: finest() });
    } catch (error) {
      say(error.message, true); // the last maps stay
      return;
    }
    if (at("completion").querySelector("input").checked && state.trace.affinity) maps = state.trace.completed(maps);
    const same = state.maps && String(state.maps.tokens) === String(maps.tokens);
    state.maps = maps;
    const words = maps.tokens.map((_, token) => token).slice(1, -1);
    state.most = Math.max(...words.map(largest));
    if (!same) state.chosen = words.reduce((best, token) => (largest(token) > largest(best) ? token : best));
    at("tokens").replaceChildren(...maps.tokens.map((_, token) => {
      const item = document.createElement("li"), button = document.createElement("button"), small = document.createElement("small");
      small.textContent = `at most ${shown(largest(token))}`;
      button.type = "button";
      button.append(heat(token, 255), named(token), small);
      button.addEventListener("click", () => {
        state.chosen = token;
        draw();
      });
      item.append(button);
      return item;
    }));
    draw();
    say(`Asked: ${box.value.trim()}`);
  }

  /* Which words have the most attention under the cross. */
  async function askPlace() {
    const { trace, cross: [row, column] } = state, mine = ++state.asked, status = at("place-status");
    status.textContent = "Asking every word …";
    const progress = (part) => { if (mine === state.asked) status.textContent = `Asking every word … ${Math.round(100 * part)} %`; };
    await new Promise((resolve) => setTimeout(resolve, 20)); // so that this is seen
    const found = await trace.wordsAt(row, column, { progress });
    if (mine !== state.asked) return; // another place was asked meanwhile
    status.textContent = `At row ${row + 1}, column ${column + 1}, these words stand out:`;
    const most = Math.max(...found.map(({ share }) => share));
    at("place-words").replaceChildren(...found.map(({ word, share }) => {
      const item = document.createElement("li"), button = document.createElement("button"), bar = document.createElement("span");
      button.type = "button";
      button.textContent = word;
      button.title = `See the map of “${word}”`;
      button.addEventListener("click", () => {
        box.value = `a photograph of ${word}`;
        ask();
        state.chosen = state.maps.tokens.length - 2;
        draw();
      });
      bar.style.width = `${(100 * share) / most}%`;
      item.append(button, bar, shown(share));
      return item;
    }));
  }

  function point(row, column) {
    const [h, w] = state.trace.grid;
    state.cross = [Math.min(h - 1, Math.max(0, row)), Math.min(w - 1, Math.max(0, column))];
    draw();
  }

  big.addEventListener("click", (event) => {
    if (!state.trace || !event.detail) return; // a key's click has no place
    const { left, top, width, height } = big.getBoundingClientRect(), [h, w] = state.trace.grid;
    point(Math.floor(((event.clientY - top) / height) * h), Math.floor(((event.clientX - left) / width) * w));
    askPlace();
  });
  big.addEventListener("keydown", (event) => {
    const way = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!state.trace || !(way || event.key === "Enter" || event.key === " ")) return;
    event.preventDefault();
    const [row, column] = state.cross ?? state.trace.grid.map((side) => Math.floor(side / 2));
    point(row + (way ? way[0] : 0), column + (way ? way[1] : 0));
    if (!way) askPlace();
  });
  page.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  page.querySelectorAll(".examples button").forEach((button) => button.addEventListener("click", () => {
    box.value = button.textContent;
    ask();
  }));
  page.querySelectorAll("fieldset input").forEach((input) => input.addEventListener("change", ask));

  /* The trace: over http its own file; a page that was opened by a double click may not fetch, but may run a
     script, so there the same bytes come as one. */
  async function bytes() {
    const place = page.dataset.trace;
    if (location.protocol !== "file:") {
      const answer = await fetch(place);
      if (!answer.ok) throw new Error(`The trace is not there (${place}: ${answer.status}).`);
      return answer.arrayBuffer();
    }
    await new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `${place}.js`;
      script.onload = resolve;
      script.onerror = () => reject(new Error("A page opened as a file cannot read the trace: serve its folder by `python -m http.server`, and open http://localhost:8000."));
      document.head.append(script);
    });
    const text = atob(globalThis.ovamnbTrace);
    globalThis.ovamnbTrace = null;
    return Uint8Array.from(text, (letter) => letter.charCodeAt(0)).buffer;
  }

  async function begin() {
    picture.src = page.dataset.picture;
    const [content] = await Promise.all([bytes(), picture.decode()]);
    big.width = 512; // proportions are the picture's own
    big.height = Math.round((512 * picture.naturalHeight) / picture.naturalWidth);
    state.trace = new ovamnb.Trace(content);
    at("completion").hidden = !state.trace.affinity;
    at("bar").width = colours.length;
    at("bar").getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(colours.flatMap((c) => [...c, 255])), colours.length, 1), 0, 0);
    ovamnb.trace = state.trace; // for the curious, in the browser's console
    ask();
  }
  begin().catch((error) => say(error.message, true));
})();
