/* An encoder without layers, in JavaScript alone: a vector for every piece, and their mean.
 *
 * The same function as `model/forward.py` has in Python. The file is a safetensors one: eight bytes
 * with the length of the header, the header in JSON, the arrays.
 */

const KINDS = {
  F32: (buffer) => new Float32Array(buffer),
  F16: (buffer) => Float32Array.from(new Uint16Array(buffer), half),
  BF16: (buffer) => new Float32Array(Uint32Array.from(new Uint16Array(buffer), (x) => x << 16).buffer),
  I8: (buffer) => new Int8Array(buffer),
  U8: (buffer) => new Uint8Array(buffer), // two columns to an octet, each plus 8
};
const PIECE_RATE = 10; // a piece's weight is softplus(10 c), c what was learnt
const TINY = 1e-30; // least sum of weights that is divided by

export class Bag {
  /**
   * @param {Uint8Array} bytes content of model.safetensors
   * @param config content of config.json
   */
  constructor(bytes, config) {
    this.arrays = readArrays(bytes);
    this.dimension = config.dimension;
    this.pooling = config.bag.pooling;
    this.epsilon = config.bag.norm_eps;
    this.words = new Table(this.arrays, "words");
    this.positions = this.arrays.positions && new Table(this.arrays, "positions");
    const [query, piece] = [this.arrays.pooling_query, this.arrays.piece_weights];
    this.query = query?.values;
    this.weights = piece && Float32Array.from(piece.values, (c) => softplus(PIECE_RATE * c));
    this.steps = ["word_projection", "dense.kernel", "projection"]
      .filter((name) => name in this.arrays)
      .reduce((all, name) => ({ ...all, [name]: kernel(this.arrays, name) }), {});
  }

  /** Vectors of lists of ids, not normalised. */
  run(ids) {
    return ids.map((row) => (row.length ? this.vector(row) : new Float32Array(this.dimension)));
  }

  vector(ids) {
    const states = ids.map((id, place) => this.state(id, place));
    let pooled = this.pool(ids, states);
    if ("dense.kernel" in this.steps) {
      pooled = times(pooled, this.steps["dense.kernel"]);
      pooled = add(pooled, this.arrays["dense.bias"].values).map(Math.tanh);
    }
    return "projection" in this.steps ? times(pooled, this.steps.projection) : pooled;
  }

  /** The vector of a piece at a place of its sentence, from 0. */
  state(id, place) {
    let x = this.words.row(id);
    if ("word_projection" in this.steps) x = times(x, this.steps.word_projection);
    if (this.positions) x = add(x, this.positions.row(place + 1));
    const scale = this.arrays["embedding_norm.scale"]?.values;
    return scale ? norm(x, scale, this.arrays["embedding_norm.bias"].values, this.epsilon) : x;
  }

  pool(ids, states) {
    const { pooling } = this;
    if (pooling === "cls") return states[0];
    if (pooling === "max") {
      return states[0].map((_, j) => states.reduce((most, x) => Math.max(most, x[j]), -Infinity));
    }
    let weights = ids.map(() => 1);
    if (pooling === "weighted") weights = ids.map((id) => this.weights[id]);
    if (pooling === "attention") {
      const scores = states.map((x) => x.reduce((sum, value, j) => sum + value * this.query[j], 0));
      const most = Math.max(...scores);
      weights = scores.map((score) => Math.exp(score - most));
    }
    let total = Math.max(weights.reduce((a, b) => a + b), TINY);
    if (pooling === "sum") total = 1;
    const mean = new Float32Array(states[0].length);
    states.forEach((x, i) => {
      for (let j = 0; j < mean.length; j++) mean[j] += (weights[i] / total) * x[j];
    });
    return mean;
  }
}

/** Rows of a table, which stay in their own number format until they are asked for. */
class Table {
  constructor(arrays, name) {
    ({ values: this.values, kind: this.kind, shape: [, this.stored] } = arrays[name]);
    this.scales = arrays[`${name}.scales`]?.values;
  }

  row(index) {
    const { values, stored } = this;
    const start = index * stored;
    let found;
    if (this.kind === "U8") {
      found = new Float32Array(2 * stored);
      for (let j = 0; j < stored; j++) {
        found[j] = (values[start + j] & 15) - 8;
        found[stored + j] = (values[start + j] >> 4) - 8;
      }
    } else {
      found = Float32Array.from(values.subarray(start, start + stored));
    }
    if (this.scales) for (let j = 0; j < found.length; j++) found[j] *= this.scales[index];
    return found;
  }
}

function readArrays(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const data = 8 + Number(view.getBigUint64(0, true));
  const { __metadata__, ...header } = JSON.parse(new TextDecoder().decode(bytes.subarray(8, data)));
  const arrays = {};
  for (const [name, { dtype, shape, data_offsets: [start, stop] }] of Object.entries(header)) {
    const { buffer } = bytes.slice(data + start, data + stop); // a copy, which begins where numbers may
    arrays[name] = { values: KINDS[dtype](buffer), kind: dtype, shape };
  }
  return arrays;
}

/** A matrix [inputs, outputs] in floats; integers have a scale for every output. */
function kernel(arrays, name) {
  const { values, shape: [, outputs] } = arrays[name];
  const scales = arrays[`${name}.scales`]?.values;
  if (!scales) return { values, outputs };
  return { values: Float32Array.from(values, (x, i) => x * scales[i % outputs]), outputs };
}

/** The vector x times a matrix. */
function times(x, { values, outputs }) {
  const y = new Float32Array(outputs);
  for (let i = 0, at = 0; i < x.length; i++) {
    for (let j = 0; j < outputs; j++, at++) y[j] += x[i] * values[at];
  }
  return y;
}

function add(x, y) {
  return x.map((value, j) => value + y[j]);
}

/** LayerNorm. */
function norm(x, scale, bias, epsilon) {
  const mean = x.reduce((a, b) => a + b, 0) / x.length;
  const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length;
  const by = 1 / Math.sqrt(variance + epsilon);
  return x.map((value, j) => (value - mean) * by * scale[j] + bias[j]);
}

/** log(1 + exp(x)), written so that nothing overflows. */
function softplus(x) {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}

/** The number that 16 bits of IEEE 754 stand for; those of parameters are finite. */
function half(bits) {
  const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}
