/* An encoder with layers: its ONNX graph, in onnxruntime's WebAssembly. */

export class Graph {
  /** @param ort the module of onnxruntime-web; the others are the bytes of files */
  static async start(ort, binary, model, dimension) {
    ort.env.logLevel = "error";
    ort.env.wasm.numThreads = 1; // more need response headers that a plain server does not send
    ort.env.wasm.wasmBinary = binary.buffer;
    try {
      const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
      return new Graph(session, ort.Tensor, dimension);
    } catch (error) {
      throw new Error(
        `${error.message || error} (Current versions of Firefox, Chrome, Edge and Safari run it.)`,
      );
    }
  }

  constructor(session, Tensor, dimension) {
    this.session = session;
    this.Tensor = Tensor;
    this.dimension = dimension;
  }

  /** Vectors of lists of ids, not normalised. The lists are padded to the longest. */
  async run(ids) {
    const longest = Math.max(...ids.map((row) => row.length));
    const tokens = new BigInt64Array(ids.length * longest);
    const mask = new BigInt64Array(ids.length * longest);
    ids.forEach((row, i) =>
      row.forEach((id, j) => {
        tokens[i * longest + j] = BigInt(id);
        mask[i * longest + j] = 1n;
      }),
    );
    const shape = [ids.length, longest];
    const inputs = {
      input_ids: new this.Tensor("int64", tokens, shape),
      attention_mask: new this.Tensor("int64", mask, shape),
    };
    const { sentence_embedding: output } = await this.session.run(inputs, ["sentence_embedding"]);
    const { dimension } = this;
    const vectors = ids.map((_, i) => output.data.slice(i * dimension, (i + 1) * dimension));
    output.dispose();
    return vectors;
  }
}
