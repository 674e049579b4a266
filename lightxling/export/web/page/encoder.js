/* Sentences to vectors: the tokenizer, and the model (graph.js, or bag.js where it has no layers).
 *
 * All runs on the page's own thread, a batch at a time, so that the policy of index.html holds for
 * every line of it (a worker would have a policy of its own) and the page answers in between.
 */

import { Bag } from "./bag.js";
import { Graph } from "./graph.js";
import { Tokenizer } from "./tokenizer.js";

const FRAME = 40; // ms that the page may be busy without a pause
const TOKENS = { least: 64, first: 256, most: 4096 }; // of a batch, padding too

/** Fetches files of the folder; `advance(bytes)` is called as they come. */
export async function fetchFile(name, size, advance = () => {}) {
  let response;
  try {
    // asks the server whether a kept copy is still right: an export may have been written anew
    response = await fetch(new URL(name, import.meta.url), { cache: "no-cache" });
  } catch {
    throw new Error(`${name} cannot be fetched: the server does not answer.`);
  }
  if (!response.ok) {
    throw new Error(
      `${name} cannot be fetched: the server answers ${response.status}. ` +
        "Is the whole folder there?",
    );
  }
  const parts = [];
  let count = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    count += value.length;
    advance(value.length);
  }
  if (size !== undefined && count !== size) {
    throw new Error(`${name} has ${count} bytes instead of ${size}; copy the folder again.`);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

export class Encoder {
  /**
   * Fetches all that is needed and starts the model.
   *
   * @param config content of config.json
   * @param {(share: number) => void} progress receives the share of the bytes that are there
   */
  static async load(config, progress = () => {}) {
    const { files, runtime } = config; // without layers there is none
    const names = [config.model, config.tokenizer, runtime?.binary, config.entities];
    const total = names.reduce((sum, name) => sum + (name ? files[name] : 0), 0);
    let count = 0;
    const advance = (bytes) => progress((count += bytes) / total);
    const fetched = names.map((name) => name && fetchFile(name, files[name], advance));
    const module = runtime && new URL(runtime.module, import.meta.url);
    const [ort, bytes, tokenizer, binary, entities] = await Promise.all([
      module &&
        import(module).catch(() => {
          throw new Error(`${runtime.module} cannot be loaded. Is the whole folder there?`);
        }),
      ...fetched,
    ]);
    const model = runtime
      ? await Graph.start(ort, binary, bytes, config.dimension)
      : new Bag(bytes, config);
    const encoder = new Encoder(config, new Tokenizer(tokenizer), model);
    if (entities) {
      const named = JSON.parse(new TextDecoder().decode(entities));
      encoder.entities = new Map(Object.entries(named));
    }
    return encoder;
  }

  constructor(config, tokenizer, model) {
    this.dimension = config.dimension;
    this.maxLength = config.max_length;
    this.tokenizer = tokenizer;
    this.model = model;
    this.entities = null; // by name; without them, entities stay
    this.turn = Promise.resolve();
    this.tokens = TOKENS.first;
    this.paused = performance.now();
  }

  /** The vector of one text, of length 1; zeros for an empty one. */
  async encodeOne(text) {
    for await (const { vectors } of this.encode([text])) return vectors[0];
  }

  /**
   * Vectors of many texts, batch by batch, short texts first.
   *
   * Yields { rows, vectors, cut }: places in `texts`, their vectors (Float32Array of length 1, or
   * zeros where a text is empty), and the places of those that were longer than the model reads.
   */
  async *encode(texts) {
    const all = [];
    for (const text of texts) {
      all.push(this.tokenizer.encode(clean(text, this.entities), this.maxLength + 1));
      if (performance.now() - this.paused > FRAME) await this.pause();
    }
    const order = all.map((_, row) => row).sort((a, b) => all[a].length - all[b].length);
    for (let start = 0; start < order.length; ) {
      let stop = start + 1;
      const length = (row) => Math.min(all[row].length, this.maxLength);
      while (
        stop < order.length &&
        (stop + 1 - start) * length(order[stop]) <= this.tokens &&
        length(order[start]) > 0 === length(order[stop]) > 0
      ) {
        stop++;
      }
      const rows = order.slice(start, stop);
      const ids = rows.map((row) => all[row].slice(0, this.maxLength));
      const cut = rows.filter((row) => all[row].length > this.maxLength);
      yield { rows, vectors: await this.batch(ids), cut };
      start = stop;
    }
  }

  /** Vectors of lists of ids, of length 1. One batch at a time is computed. */
  batch(ids) {
    const found = this.turn.then(() => this.compute(ids));
    this.turn = found.catch(() => {});
    return found;
  }

  async compute(ids) {
    const longest = Math.max(...ids.map((row) => row.length));
    if (!longest) return ids.map(() => new Float32Array(this.dimension));
    await this.pause();
    const start = performance.now();
    const vectors = await this.model.run(ids);
    vectors.forEach(normalize);
    const took = performance.now() - start;
    const full = ids.length * longest > this.tokens / 2;
    if (took > FRAME) this.tokens = Math.max(TOKENS.least, this.tokens / 2);
    else if (took < FRAME / 3 && full) this.tokens = Math.min(TOKENS.most, this.tokens * 2);
    return vectors;
  }

  /** Lets the page answer; timers would be slowed down in a tab that is not seen. */
  async pause() {
    await new Promise((resolve) => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => {
        port1.close();
        resolve();
      };
      port2.postMessage(null);
    });
    this.paused = performance.now();
  }
}

function normalize(vector) {
  let sum = 0;
  for (const x of vector) sum += x * x;
  const norm = Math.sqrt(sum);
  if (norm > 0) for (let i = 0; i < vector.length; i++) vector[i] /= norm;
}

/** Cosine of two vectors of length 1. */
export function similarity(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/* What is not seen: controls, bidirectional marks, zero-width spaces, surrogates and private use. */
const INVISIBLE = new RegExp(
  "[\\0-\\x08\\x0e-\\x1b\\x7f-\\x84\\x86-\\x9f\\xad\\u061c\\u180e\\u200b\\u200e\\u200f\\u202a-\\u202e" +
    "\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb\\ud800-\\udfff\\ue000-\\uf8ff\\u{e0000}-\\u{e007f}" +
    "\\u{f0000}-\\u{10ffff}]",
  "gu",
);

/** A text as the ones that were learnt from: as `corpus.cleaning.clean` in Python leaves it. */
function clean(text, entities) {
  if (entities && text.includes("&")) text = unescape(unescape(text, entities), entities);
  return text.replace(INVISIBLE, "").normalize("NFKC").replace(/[\s\x1c-\x1f\x85]+/g, " ").trim();
}

/** A text with its entities resolved, as `html.unescape` of Python has them. */
function unescape(text, entities) {
  return text.replace(
    /&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\f <&#;]{1,32};?)/gu,
    (whole, name) => {
      const number = /^#(x?)([0-9a-f]+)/i.exec(name);
      if (number) return numbered(parseInt(number[2], number[1] ? 16 : 10));
      for (let end = name.length; end > 1; end--) {
        const found = entities.get(name.slice(0, end)); // &notit; is \u00ac and it;
        if (found !== undefined) return found + name.slice(end);
      }
      return whole;
    },
  );
}

const WINDOWS =
  "\u20ac\x81\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\x8d\u017d\x8f" +
  "\x90\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\x9d\u017e\u0178";

/** The character of a number; those of Windows' own code page are what was meant. */
function numbered(code) {
  if (code === 0 || (code >= 0xd800 && code < 0xe000) || code > 0x10ffff) return "\ufffd";
  if (code >= 0x80 && code < 0xa0) return WINDOWS[code - 0x80];
  const isControl = code === 0x7f || (code < 0x20 && ![9, 10, 12, 13].includes(code));
  const isNoCharacter = (code >= 0xfdd0 && code < 0xfdf0) || (code & 0xfffe) === 0xfffe;
  return isControl || isNoCharacter ? "" : String.fromCodePoint(code);
}
