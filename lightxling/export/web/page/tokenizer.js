/* A sentencepiece model in the browser: the ids that the C++ library gives, for every text.
 *
 * Texts are normalised by the longest match in the model's own table, not by String.normalize,
 * whose Unicode version is the browser's. Scores are added in float32, as the library does, so
 * that equally likely cuts fall the same way.
 */

const UNKNOWN_ID = 1;
const NORMAL = 1, BYTE = 6; // types of pieces
const UNIGRAM = 1;
const SPACE = [0xe2, 0x96, 0x81]; // the sign for a space, U+2581
const LONGEST = 1 << 20; // characters read of a text
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

export class Tokenizer {
  /** @param {Uint8Array} bytes the content of tokenizer.model */
  constructor(bytes) {
    const model = readModel(bytes);
    this.charsmap = new Charsmap(model.charsmap);
    this.scores = model.pieces.map((piece) => piece.score);
    this.byteIds = model.byteFallback ? new Array(256).fill(UNKNOWN_ID) : null;
    this.ids = new Map(); // piece -> id; what only begins a piece -> -1
    let least = Infinity;
    model.pieces.forEach(({ piece, score, type }, id) => {
      if (type === BYTE && this.byteIds) this.byteIds[parseInt(piece.slice(3, 5), 16)] = id;
      if (type !== NORMAL) return;
      least = Math.min(least, score);
      let begin = "";
      for (const char of piece) {
        begin += char;
        if (!this.ids.has(begin)) this.ids.set(begin, -1);
      }
      this.ids.set(piece, id);
    });
    this.unknownScore = Math.fround(least - 10);
    this.cut = model.type === UNIGRAM ? this.unigram : this.bpe;
  }

  /** Ids of a text, the first `limit`. */
  encode(text, limit = Infinity) {
    const chars = Array.from(this.normalize(text));
    const ids = [];
    let wasUnknown = false;
    for (const [piece, id] of this.cut(chars)) {
      const isUnknown = id === UNKNOWN_ID;
      if (isUnknown && this.byteIds) {
        for (const byte of encoder.encode(piece)) ids.push(this.byteIds[byte]);
      } else if (!(isUnknown && wasUnknown)) {
        ids.push(id); // a run of unknown characters is one token
      }
      wasUnknown = isUnknown;
      if (ids.length > limit) break;
    }
    return ids.slice(0, limit);
  }

  /** The text as the pieces spell it: mapped, single spaces written as U+2581, one in front. */
  normalize(text) {
    const input = encoder.encode(text.slice(0, LONGEST).replace(/\p{Surrogate}/gu, "?"));
    const out = [...SPACE];
    let isSpace = true;
    for (let at = 0; at < input.length; ) {
      const [found, length] = this.charsmap.longest(input, at);
      at += length;
      let from = 0;
      while (isSpace && found[from] === 0x20) from++;
      if (from === found.length) continue;
      for (const byte of found.subarray(from)) {
        if (byte === 0x20) out.push(...SPACE);
        else out.push(byte);
      }
      isSpace = found.at(-1) === 0x20;
    }
    while (SPACE.every((byte, i) => out[out.length - SPACE.length + i] === byte)) {
      out.length -= SPACE.length;
    }
    return decoder.decode(Uint8Array.from(out));
  }

  /** The most likely cut. */
  unigram(chars) {
    const best = new Float32Array(chars.length + 1);
    const from = new Int32Array(chars.length + 1).fill(-1);
    const ids = new Int32Array(chars.length + 1);
    const offer = (start, stop, id, score) => {
      const sum = Math.fround(best[start] + score);
      if (from[stop] >= 0 && !(sum > best[stop])) return;
      best[stop] = sum;
      from[stop] = start;
      ids[stop] = id;
    };
    for (let start = 0; start < chars.length; start++) {
      let hasSingle = false;
      let piece = "";
      for (let stop = start + 1; stop <= chars.length; stop++) {
        piece += chars[stop - 1];
        const id = this.ids.get(piece);
        if (id === undefined) break;
        if (id < 0) continue;
        offer(start, stop, id, this.scores[id]);
        hasSingle ||= stop === start + 1;
      }
      if (!hasSingle) offer(start, start + 1, UNKNOWN_ID, this.unknownScore);
    }
    const pieces = [];
    for (let stop = chars.length; stop > 0; stop = from[stop]) {
      pieces.push([chars.slice(from[stop], stop).join(""), ids[stop]]);
    }
    return pieces.reverse();
  }

  /** Merges neighbours, the pair of the best score first, of equal ones the leftmost. */
  bpe(chars) {
    const next = chars.map((_, i) => (i + 1 < chars.length ? i + 1 : -1));
    const before = chars.map((_, i) => i - 1);
    const symbols = [...chars];
    const heap = new Heap(
      (a, b) => a.score > b.score || (a.score === b.score && a.left < b.left),
    );
    const propose = (left, right) => {
      if (left < 0 || right < 0) return;
      const piece = symbols[left] + symbols[right];
      const id = this.ids.get(piece) ?? -1;
      if (id >= 0) heap.push({ left, right, piece, score: this.scores[id] });
    };
    for (let i = 1; i < symbols.length; i++) propose(i - 1, i);
    for (let top = heap.pop(); top; top = heap.pop()) {
      const { left, right, piece } = top;
      const [a, b] = [symbols[left], symbols[right]];
      if (!a || !b || a.length + b.length !== piece.length) continue; // merged since
      symbols[left] = piece;
      symbols[right] = "";
      next[left] = next[right];
      if (next[right] >= 0) before[next[right]] = left;
      propose(before[left], left);
      propose(left, next[left]);
    }
    return symbols.filter(Boolean).map((piece) => {
      const id = this.ids.get(piece) ?? -1;
      return [piece, id < 0 ? UNKNOWN_ID : id];
    });
  }
}

/** The table of replacements: a double-array trie over UTF-8, then values that end in a zero.
 *
 * A unit of the trie holds the byte that leads to it, the place of its children relative to its
 * own, and whether a key ends there.
 */
class Charsmap {
  constructor(blob) {
    const size = blob.length ? new DataView(blob.buffer, blob.byteOffset).getUint32(0, true) : 0;
    this.units = new Uint32Array(blob.slice(4, 4 + size).buffer);
    this.values = blob.subarray(4 + size);
  }

  /** What the longest key at `at` stands for, or the character there, and the key's length. */
  longest(input, at) {
    const { units, values } = this;
    let node = units.length ? offset(units[0]) : 0;
    let [value, length] = [-1, 0];
    for (let i = at; i < input.length; i++) {
      node ^= input[i];
      const unit = units[node];
      if (unit === undefined || (unit & 0x800000ff) >>> 0 !== input[i]) break;
      node ^= offset(unit);
      if ((unit >>> 8) & 1) [value, length] = [units[node] & 0x7fffffff, i + 1 - at];
    }
    if (length) return [values.subarray(value, values.indexOf(0, value)), length];
    const lead = input[at];
    length = lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    return [input.subarray(at, at + length), length];
  }
}

function offset(unit) {
  return (unit >>> 10) << ((unit & 0x200) >>> 6);
}

/** What encoding needs of a sentencepiece model, out of its protocol buffer. */
function readModel(bytes) {
  const model = { pieces: [], charsmap: new Uint8Array(), type: UNIGRAM, byteFallback: false };
  for (const [field, value] of fields(bytes)) {
    if (field === 1) {
      const piece = { piece: "", score: 0, type: NORMAL };
      for (const [part, content] of fields(value)) {
        if (part === 1) piece.piece = decoder.decode(content);
        if (part === 2) piece.score = content;
        if (part === 3) piece.type = content;
      }
      model.pieces.push(piece);
    } else if (field === 2) {
      for (const [part, content] of fields(value)) {
        if (part === 3) model.type = content;
        if (part === 35) model.byteFallback = content !== 0;
      }
    } else if (field === 3) {
      for (const [part, content] of fields(value)) if (part === 2) model.charsmap = content;
    }
  }
  return model;
}

/** Fields of a protocol buffer as [number, value]: integers, float32, or bytes. */
function* fields(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const integer = () => {
    let [value, unit, byte] = [0, 1, 0];
    do {
      byte = view.getUint8(at++);
      value += (byte & 127) * unit;
      unit *= 128;
    } while (byte > 127);
    return value;
  };
  while (at < bytes.length) {
    const key = integer();
    const [field, kind] = [key >>> 3, key & 7];
    if (kind === 0) {
      yield [field, integer()];
    } else if (kind === 2) {
      const length = integer();
      yield [field, bytes.subarray(at, at + length)];
      at += length;
    } else if (kind === 5) {
      yield [field, view.getFloat32(at, true)];
      at += 4;
    } else {
      throw new Error("tokenizer.model is damaged");
    }
  }
}

class Heap {
  constructor(isBefore) {
    this.isBefore = isBefore;
    this.items = [];
  }

  push(item) {
    const { items } = this;
    let at = items.push(item) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.isBefore(items[at], items[parent])) break;
      [items[at], items[parent]] = [items[parent], items[at]];
      at = parent;
    }
  }

  pop() {
    const { items } = this;
    const top = items[0];
    const last = items.pop();
    if (!items.length) return top;
    items[0] = last;
    for (let at = 0; ; ) {
      let first = at;
      for (const child of [2 * at + 1, 2 * at + 2]) {
        if (child < items.length && this.isBefore(items[child], items[first])) first = child;
      }
      if (first === at) return top;
      [items[at], items[first]] = [items[first], items[at]];
      at = first;
    }
  }
}
