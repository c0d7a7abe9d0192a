"use strict";
/* A saved trace, read and asked in the browser: the mathematics of ovamnb/maps.py, nothing of the page.

     const trace = new ovamnb.Trace(buffer);              // an ArrayBuffer: the bytes of `trace.save(path)`
     const maps = trace.maps("a kitten on grass");        // {tokens, grid: [h, w], values: token after token}
     trace.completed(maps)                                // the same, completed by self-attention
     await trace.wordsAt(20, 9)                           // who has the most attention at row 20, column 9

   Shares, as `trace.maps(text).share` in Python: at every pixel the tokens sum to 1. What cannot be answered is
   an Error whose message is meant for the reader. */
globalThis.ovamnb = (() => {
  const FORMAT = "ovamnb trace 1";
  const PUNCTUATION = /[\p{P}!-/:-@[-`{-~]/u; // what the tokenizer (BERT's) splits off
  const SAYS_NOTHING = /^[\p{P}\p{Z}]*$/u; // an unknown comma does no harm; another unknown symbol does

  /* float16 by hand: browsers learn Float16Array only now. */
  const HALVES = new Float32Array(65536).map((_, bits) => {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  });

  /* {tensors: {name: {shape, data}}, metadata} of a safetensors file; floats become Float32Array. */
  function readSafetensors(buffer) {
    const length = buffer.byteLength < 8 ? Infinity : Number(new DataView(buffer).getBigUint64(0, true));
    if (length > buffer.byteLength - 8) throw new Error("This file is damaged, or no safetensors file.");
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
    const { __metadata__: metadata = {}, ...entries } = header;
    const tensors = {};
    for (const [name, { dtype, shape, data_offsets: [begin, end] }] of Object.entries(entries)) {
      const bytes = buffer.slice(8 + length + begin, 8 + length + end);
      if (dtype === "U8") tensors[name] = { shape, data: new Uint8Array(bytes) };
      else if (dtype === "F32") tensors[name] = { shape, data: new Float32Array(bytes) };
      else if (dtype === "F16") tensors[name] = { shape, data: Float32Array.from(new Uint16Array(bytes), (bits) => HALVES[bits]) };
      else tensors[name] = { shape, data: null }; // position numbers and the like: nothing here needs them
    }
    return { tensors, metadata };
  }

  const asJson = (tensor) => JSON.parse(new TextDecoder().decode(tensor.data));

  /* The bundled model's text side: whole words, and a text encoder of no layers, so that a word's state is its
     embedding plus its place's, normalised. */
  class TextSide {
    constructor(tensors) {
      const config = tensors["text/text_encoder/config.json"], words = tensors["text/tokenizer/tokenizer.json"];
      if (!config || !words) throw new Error("This trace was saved without its text encoder: save it with `text_encoder=True`.");
      const { num_hidden_layers: layers, layer_norm_eps: eps } = asJson(config), { model } = asJson(words);
      if (layers !== 0 || model.type !== "WordLevel") {
        throw new Error("This page reads the bundled model's text encoder only, which has no layers and whole words.");
      }
      const inside = readSafetensors(tensors["text/text_encoder/model.safetensors"].data.buffer).tensors;
      const named = (ending) => inside[Object.keys(inside).find((name) => name.endsWith(ending))];
      const token = named("token_embedding.weight");
      Object.assign(this, {
        eps, vocabulary: new Map(Object.entries(model.vocab)), unknown: model.vocab[model.unk_token],
        dim: token.shape[1], embedding: token.data,
        places: named("position_embedding.weight").data, longest: named("position_embedding.weight").shape[0],
        gain: named("final_layer_norm.weight").data, bias: named("final_layer_norm.bias").data,
      });
      this.words = [...this.vocabulary.keys()].filter((word) => /^\p{L}/u.test(word));
      this.start = model.vocab["<|startoftext|>"];
      this.end = model.vocab["<|endoftext|>"];
    }

    /* {names, ids} of a text, start and end token included. */
    split(text) {
      const names = [...text.normalize("NFC")].map((c) => (PUNCTUATION.test(c) ? ` ${c} ` : c)).join("").split(/\s+/).filter(Boolean);
      if (!names.some((name) => !SAYS_NOTHING.test(name))) throw new Error("Type at least one word.");
      const ids = names.map((name) => this.vocabulary.get(name.normalize("NFKC").toLowerCase()) ?? this.unknown);
      const lost = names.find((name, i) => ids[i] === this.unknown && !SAYS_NOTHING.test(name));
      if (lost !== undefined) {
        const near = this.near(lost.toLowerCase()).map((word) => `“${word}”`);
        throw new Error(`The model does not know the word “${lost}”. ${near.length ? `Did you mean ${near.join(" or ")}?` : "Please use another word."}`);
      }
      if (names.length + 2 > this.longest) throw new Error(`That is ${names.length} words. The model reads ${this.longest - 2} at most.`);
      return { names: ["start", ...names, "end"], ids: [this.start, ...ids, this.end] };
    }

    /* Up to three words that are a slip or two away, the more common ones first. */
    near(word) {
      const most = word.length > 5 ? 2 : 1, found = [];
      for (const other of this.words) {
        if (Math.abs(other.length - word.length) > most) continue;
        const slips = slipsBetween(word, other);
        if (slips <= most) found.push([slips, other]);
      }
      return found.sort((a, b) => a[0] - b[0]).slice(0, 3).map(([, other]) => other);
    }

    /* The states of tokens at consecutive places from `place` on: (token, dim). */
    states(ids, place = 0, samePlace = false) {
      const { dim, eps, embedding, places, gain, bias } = this, states = new Float32Array(ids.length * dim);
      ids.forEach((id, i) => {
        const state = states.subarray(i * dim, (i + 1) * dim), at = (samePlace ? place : place + i) * dim;
        let mean = 0, variance = 0;
        for (let d = 0; d < dim; d++) mean += (state[d] = embedding[id * dim + d] + places[at + d]) / dim;
        for (let d = 0; d < dim; d++) variance += (state[d] - mean) ** 2 / dim;
        const scale = 1 / Math.sqrt(variance + eps);
        for (let d = 0; d < dim; d++) state[d] = (state[d] - mean) * scale * gain[d] + bias[d];
      });
      return states;
    }
  }

  /* Letters to add, drop, change or swap on the way from one word to the other. */
  function slipsBetween(a, b) {
    let before, above = [], row = Array.from({ length: b.length + 1 }, (_, j) => j);
    for (let i = 1; i <= a.length; i++) {
      [before, above, row] = [above, row, [i]];
      for (let j = 1; j <= b.length; j++) {
        row[j] = Math.min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] !== b[j - 1]));
        if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) row[j] = Math.min(row[j], before[j - 2] + 1);
      }
    }
    return row[b.length];
  }

  /* Where pixel `i` of `size` falls among `cells` when the corners are not aligned: [[cell, weight], …]. */
  function taps(i, size, cells) {
    const at = Math.max(0, ((i + 0.5) * cells) / size - 0.5), low = Math.min(Math.floor(at), cells - 1), part = at - low;
    return part > 0 && low + 1 < cells ? [[low, 1 - part], [low + 1, part]] : [[low, 1]];
  }

  /* exp(x - max) / Σ, in place. */
  function softmax(scores) {
    let most = -Infinity, sum = 0;
    for (let t = 0; t < scores.length; t++) most = Math.max(most, scores[t]);
    for (let t = 0; t < scores.length; t++) sum += scores[t] = Math.exp(scores[t] - most);
    for (let t = 0; t < scores.length; t++) scores[t] /= sum;
  }

  class Trace {
    constructor(buffer) {
      const { tensors, metadata } = readSafetensors(buffer);
      if (metadata.format !== FORMAT) throw new Error("This safetensors file is no trace that this page can read.");
      const header = JSON.parse(metadata.trace), half = header.halves.includes("conditional") ? "conditional" : header.halves[0];
      this.steps = header.steps;
      this.text = new TextSide(tensors);
      this.blocks = Object.entries(header.blocks).filter(([name]) => !name.startsWith("mid_block")).map(([name, block]) => {
        const query = tensors[`queries/${half}/${name}`], weight = tensors[`key_weights/${name}`];
        const [, images, pixels, dim] = query.shape; // (step, image, h·w, head·head_dim)
        return { ...block, name, pixels, dim, images, query: query.data, weight: weight.data };
      });
      const pixels = Math.max(...this.blocks.map((block) => block.pixels));
      this.grid = this.blocks.find((block) => block.pixels === pixels).grid; // the largest
      this.means = tensors["dictionary/means"]?.data ?? null; // (word,) of the whole picture, by token number
      const affinity = tensors[`self_attention/${this.grid.join("x")}`];
      this.affinity = affinity ? affinity.data.subarray(0, pixels * pixels) : null; // (h·w, h·w) of the first image
    }

    /* All blocks but the mid one, or those on the finest grid alone; and heads × steps, summed over them. */
    chosen(finest) {
      const blocks = finest ? this.blocks.filter((block) => String(block.grid) === String(this.grid)) : this.blocks;
      return [blocks, blocks.reduce((sum, block) => sum + block.heads * this.steps.length, 0)];
    }

    /* The share of attention of each token of a text, summed over heads, steps and blocks, each block resized
       bilinearly to the finest grid: OVAM's map (arXiv 2403.14291), divided by what was summed. */
    maps(text, { finest = false } = {}) {
      const { names, ids } = this.text.split(text), states = this.text.states(ids);
      const [h, w] = this.grid, [blocks, count] = this.chosen(finest), values = new Float32Array(ids.length * h * w);
      for (const block of blocks) {
        const sums = this.blockSums(block, states, ids.length), [rows, columns] = block.grid;
        for (let y = 0; y < h; y++) {
          const down = taps(y, h, rows);
          for (let x = 0; x < w; x++) {
            for (const [column, across] of taps(x, w, columns)) {
              for (const [row, along] of down) {
                const from = row * columns + column, weight = (across * along) / count;
                for (let t = 0; t < ids.length; t++) values[(t * h + y) * w + x] += weight * sums[t * block.pixels + from];
              }
            }
          }
        }
      }
      return { tokens: names, grid: [h, w], values };
    }

    /* Σ over steps and heads of softmax over tokens (scale · Q Kᵀ), K = W_K X: (token, h·w). */
    blockSums(block, states, count) {
      const { pixels, dim, heads, scale, query, images } = block, wide = dim / heads;
      const keys = this.keys(block, states, count), sums = new Float32Array(count * pixels), scores = new Float64Array(count);
      for (let s = 0; s < this.steps.length; s++) {
        for (let p = 0; p < pixels; p++) {
          const q = (s * images * pixels + p) * dim; // of the first image
          for (let head = 0; head < heads; head++) {
            for (let t = 0; t < count; t++) {
              let score = 0;
              for (let d = head * wide; d < (head + 1) * wide; d++) score += query[q + d] * keys[t * dim + d];
              scores[t] = scale * score;
            }
            softmax(scores);
            for (let t = 0; t < count; t++) sums[t * pixels + p] += scores[t];
          }
        }
      }
      return sums;
    }

    /* K = W_K X: states (token, dim) → (token, head·head_dim); the last row of the weight is the bias. */
    keys({ dim, weight }, states, count) {
      const inside = this.text.dim, keys = new Float32Array(count * dim);
      for (let t = 0; t < count; t++) {
        for (let d = 0; d < dim; d++) {
          let sum = weight[inside * dim + d];
          for (let j = 0; j < inside; j++) sum += states[t * inside + j] * weight[j * dim + d];
          keys[t * dim + d] = sum;
        }
      }
      return keys;
    }

    /* Every pixel takes the mean of the pixels that it attends to: A · heat, for each token. */
    completed(maps) {
      const pixels = maps.grid[0] * maps.grid[1], { affinity } = this, values = new Float32Array(maps.values.length);
      for (let t = 0; t < maps.tokens.length; t++) {
        for (let i = 0; i < pixels; i++) {
          let sum = 0;
          for (let j = 0; j < pixels; j++) sum += affinity[i * pixels + j] * maps.values[t * pixels + j];
          values[t * pixels + i] = sum;
        }
      }
      return { ...maps, values };
    }

    /* The words of one place of the finest grid, each asked alone in "a photograph of …", which stand out there
       most: by share · log(share / mean), as `trace.words_at(…, together=False, contrast=True)` in Python. Without
       recorded means by their share. [{word, share, mean}, …]. `progress` gets 0 to 1; the page stays awake. */
    async wordsAt(row, column, { most = 10, progress = () => {} } = {}) {
      const { text } = this, [h, w] = this.grid, [blocks, count] = this.chosen(false), inside = text.dim;
      const { ids } = text.split("a photograph of cat"), place = ids.length - 2; // of the word that changes
      const frame = text.states(ids), others = ids.map((_, t) => t).filter((t) => t !== place);
      const asking = []; // for each pixel, step and head: scale · W_K q, what it scores in the space of words
      for (const block of blocks) {
        const { pixels, dim, heads, scale, query, weight, images, grid } = block, wide = dim / heads;
        for (const [y, along] of taps(row, h, grid[0])) for (const [x, across] of taps(column, w, grid[1])) {
          for (let s = 0; s < this.steps.length; s++) for (let head = 0; head < heads; head++) {
            const direction = new Float32Array(inside + 1), q = (s * images * pixels + y * grid[1] + x) * dim;
            for (let j = 0; j <= inside; j++) for (let d = head * wide; d < (head + 1) * wide; d++) direction[j] += scale * weight[j * dim + d] * query[q + d];
            const rest = others.reduce((sum, t) => sum + Math.exp(dot(direction, frame, t * inside)), 0);
            asking.push({ direction, rest, weight: (along * across) / count });
          }
        }
      }
      const found = [], piece = 500;
      for (let begin = 0; begin < text.words.length; begin += piece) {
        const words = text.words.slice(begin, begin + piece), shares = new Float64Array(words.length);
        const states = text.states(words.map((word) => text.vocabulary.get(word)), place, true);
        for (const { direction, rest, weight } of asking) {
          for (let i = 0; i < words.length; i++) {
            const own = Math.exp(dot(direction, states, i * inside));
            shares[i] += (weight * own) / (own + rest);
          }
        }
        words.forEach((word, i) => {
          const share = shares[i], mean = this.means ? this.means[text.vocabulary.get(word)] : null;
          found.push({ word, share, mean, score: mean ? share * Math.log(share / mean) : share });
        });
        if ((begin / piece) % 4 === 3) {
          progress(begin / text.words.length);
          await new Promise((resolve) => setTimeout(resolve));
        }
      }
      return found.sort((a, b) => b.score - a.score).slice(0, most);
    }
  }

  /* direction · state + bias, which stands last in the direction. */
  function dot(direction, states, at) {
    let sum = direction[direction.length - 1];
    for (let j = 0; j < direction.length - 1; j++) sum += direction[j] * states[at + j];
    return sum;
  }

  return { Trace, readSafetensors, slipsBetween };
})();
