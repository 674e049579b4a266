"""One ONNX graph from token ids to sentence vectors, in the folder layout of transformers.js.

    session = onnxruntime.InferenceSession("onnx/model.onnx")
    (vectors,) = session.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": mask})

Inputs are int64 [B, L]; both dimensions are free, L up to `max_length`. `sentence_embedding` [B, d]
is the pooled vector, not normalised; `last_hidden_state` [B, L, D] serves tools that pool by
themselves. Weights keep the number format of the bundle and are unpacked inside the graph; it
computes in float32.
"""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from lightxling.base.files import write_json
from lightxling.base.places import DESCRIPTION
from lightxling.base.version import __version__
from lightxling.export.sentence_transformers import bert_config, model_card, write_tokenizer_files
from lightxling.model.params import GELU_CUBE, GELU_SCALE, PIECE_RATE, TINY, scale_axis
from lightxling.saved.bundle import Bundle

OPSET = 17
ONNX_FILES = {
    "float32": "model.onnx",
    "float16": "model_fp16.onnx",
    "bfloat16": "model_bf16.onnx",
    "int8": "model_quantized.onnx",
    "int4": "model_q4.onnx",
}
"""Names under which transformers.js looks for the number formats."""

_USAGE = """\
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.enable_padding(pad_id=0)
session = onnxruntime.InferenceSession("onnx/FILE")
texts = tokenizer.encode_batch(["Where is the station?", "Où est la gare ?"])
inputs = {
    "input_ids": np.array([text.ids for text in texts], np.int64),
    "attention_mask": np.array([text.attention_mask for text in texts], np.int64),
}
(vectors,) = session.run(["sentence_embedding"], inputs)
"""


def write_onnx(bundle: Bundle, folder: Path) -> None:
    """Writes the graph, the tokenizer and the configuration."""
    (folder / "onnx").mkdir()
    model = graph(bundle)
    (folder / "onnx" / ONNX_FILES[bundle.dtype]).write_bytes(model.SerializeToString())
    write_tokenizer_files(bundle, folder)
    write_json(folder / DESCRIPTION, bert_config(bundle))
    usage = _USAGE.replace("FILE", ONNX_FILES[bundle.dtype])
    (folder / "README.md").write_text(model_card(bundle, "onnx", usage), "utf-8", newline="\n")


class _Builder:
    """A graph in the making; methods add nodes and return the name of the last one's output."""

    def __init__(self, bundle: Bundle, onnx):
        self.bundle, self.onnx = bundle, onnx
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.number = itertools.count()
        self.known: dict[str, str] = {}

    def add(self, kind: str, *inputs: str, output: str | None = None, **attributes) -> str:
        output = output or f"{kind.lower()}_{next(self.number)}"
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def weight(self, values: np.ndarray | np.generic, name: str | None = None) -> str:
        """A constant in its own number format."""
        name = name or f"constant_{next(self.number)}"
        self.weights.append(self.onnx.numpy_helper.from_array(np.array(values, order="C"), name))
        return name

    def stored(self, name: str) -> str:
        """A parameter, as stored; once in the graph however often it is used."""
        if name not in self.known:
            values = self.bundle.params[name]
            if values.dtype.name == "bfloat16":
                kind = self.onnx.TensorProto.BFLOAT16
                self.weights.append(
                    self.onnx.helper.make_tensor(
                        name, kind, values.shape, values.tobytes(), raw=True
                    )
                )
            else:
                self.weight(values, name)
            self.known[name] = name
        return name

    def unpack(self, values: str, name: str, *, scales: str | None = None) -> str:
        """Float32 values of what was stored; `scales` where they are not the stored ones."""
        dtype = self.bundle.params[name].dtype.name
        if dtype == "float32":
            return values
        values = self.add("Cast", values, to=self.onnx.TensorProto.FLOAT)
        if dtype == "uint8":  # two columns to an octet, each plus 8
            high = self.add("Floor", self.add("Mul", values, self.weight(np.float32(1 / 16))))
            low = self.add("Sub", values, self.add("Mul", high, self.weight(np.float32(16))))
            both = self.add("Concat", low, high, axis=-1)
            values = self.add("Sub", both, self.weight(np.float32(8)))
        return values if scales is None else self.add("Mul", values, scales)

    def matrix(self, name: str) -> str:
        """A whole parameter. Not DequantizeLinear: runtimes then round activations too."""
        scales = None
        if f"{name}.scales" in self.bundle.params:
            axis = self.weight(np.array([1 - scale_axis(name)]))
            scales = self.add("Unsqueeze", self.stored(f"{name}.scales"), axis)
        return self.unpack(self.stored(name), name, scales=scales)

    def rows(self, name: str, ids: str) -> str:
        """Rows of a table: only those that are looked up are unpacked."""
        found, scales = self.add("Gather", self.stored(name), ids), None
        if f"{name}.scales" in self.bundle.params:
            scales = self.add("Gather", self.stored(f"{name}.scales"), ids)
            scales = self.add("Unsqueeze", scales, self.weight(np.array([-1])))
        return self.unpack(found, name, scales=scales)

    def linear(self, x: str, name: str) -> str:
        return self.add(
            "Add", self.add("MatMul", x, self.matrix(f"{name}.kernel")), self.stored(f"{name}.bias")
        )

    def norm(self, x: str, name: str, output: str | None = None) -> str:
        scale, bias = self.stored(f"{name}.scale"), self.stored(f"{name}.bias")
        epsilon = self.bundle.config.norm_eps
        return self.add(
            "LayerNormalization", x, scale, bias, output=output, epsilon=epsilon, axis=-1
        )

    def activate(self, x: str) -> str:
        kind = self.bundle.config.activation
        if kind == "relu":
            return self.add("Relu", x)
        if kind == "swish":
            return self.add("Mul", x, self.add("Sigmoid", x))
        if kind == "gelu_new":  # (1 + tanh z) / 2 is the sigmoid of 2 z
            cube = self.add("Mul", self.add("Mul", x, x), x)
            cube = self.add("Mul", cube, self.weight(np.float32(GELU_CUBE)))
            z = self.add("Mul", self.add("Add", x, cube), self.weight(np.float32(2 * GELU_SCALE)))
            return self.add("Mul", x, self.add("Sigmoid", z))
        erf = self.add("Erf", self.add("Mul", x, self.weight(np.float32(0.5**0.5))))
        half = self.add("Mul", x, self.weight(np.float32(0.5)))
        return self.add("Mul", half, self.add("Add", erf, self.weight(np.float32(1))))


def graph(bundle: Bundle):
    """The ONNX model."""
    import onnx

    config, b = bundle.config, _Builder(bundle, onnx)
    width, heads = config.width, config.heads
    last = "last_hidden_state"
    x = b.rows("words", "input_ids")  # [B, L, E]
    if "word_projection" in bundle.params:
        x = b.add("MatMul", x, b.matrix("word_projection"))
    if config.positions:
        length = b.add("Shape", "input_ids", start=1, end=2)
        one = b.weight(np.array([1]))
        stop = b.add("Squeeze", b.add("Add", length, one))
        ids = b.add("Range", b.weight(np.array(1)), stop, b.weight(np.array(1)))
        x = b.add("Add", x, b.rows("positions", ids))
    output_of_embeddings = last if not config.layers else None
    if config.embedding_norm:
        x = b.norm(x, "embedding_norm", output_of_embeddings)
    elif output_of_embeddings:
        x = b.add("Identity", x, output=output_of_embeddings)
    real = b.add("Cast", "attention_mask", to=onnx.TensorProto.FLOAT)  # [B, L]
    if config.layers:
        blocked = b.add("Sub", real, b.weight(np.float32(1)))
        blocked = b.add("Mul", blocked, b.weight(np.float32(1e9)))  # 0 for real tokens
        blocked = b.add("Unsqueeze", blocked, b.weight(np.array([1, 2])))  # [B, 1, 1, L]
        split = b.weight(np.array([0, 0, 3, heads, width // heads]))
        join = b.weight(np.array([0, 0, width]))
    for i in range(config.layers):
        name = f"blocks.{i}"
        qkv = b.add("Reshape", b.linear(x, f"{name}.qkv"), split)
        qkv = b.add("Transpose", qkv, perm=[2, 0, 3, 1, 4])  # [3, B, H, L, K]
        q, k, v = (b.add("Gather", qkv, b.weight(np.array(part)), axis=0) for part in range(3))
        scores = b.add("MatMul", q, b.add("Transpose", k, perm=[0, 1, 3, 2]))
        scores = b.add("Mul", scores, b.weight(np.float32((width // heads) ** -0.5)))
        weights = b.add("Softmax", b.add("Add", scores, blocked), axis=-1)
        mixed = b.add("Transpose", b.add("MatMul", weights, v), perm=[0, 2, 1, 3])
        mixed = b.linear(b.add("Reshape", mixed, join), f"{name}.out")
        x = b.norm(b.add("Add", x, mixed), f"{name}.attention_norm")
        hidden = b.linear(x, f"{name}.up")
        hidden = b.linear(b.activate(hidden), f"{name}.down")
        for adapter in config.adapters:  # parallel ones: the others are merged
            part = f"adapters.{adapter.name}.{name}"
            change = b.linear(b.add("Relu", b.linear(x, f"{part}.down")), f"{part}.up")
            change = b.add("Mul", change, b.weight(np.float32(adapter.scale)))
            hidden = b.add("Add", hidden, change)
        is_last = i == config.layers - 1
        x = b.norm(b.add("Add", x, hidden), f"{name}.output_norm", last if is_last else None)

    output = "sentence_embedding"
    is_last = not (config.dense or "projection" in bundle.params)
    pooled = _pool(b, x, real, output if is_last else None)
    if config.dense:
        is_last = "projection" not in bundle.params
        pooled = b.add("Tanh", b.linear(pooled, "dense"), output=output if is_last else None)
    if "projection" in bundle.params:
        b.add("MatMul", pooled, b.matrix("projection"), output=output)

    helper, kinds = onnx.helper, onnx.TensorProto
    ids = [
        helper.make_tensor_value_info(name, kinds.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask")
    ]
    vectors = [
        helper.make_tensor_value_info(last, kinds.FLOAT, ["batch", "length", width]),
        helper.make_tensor_value_info(output, kinds.FLOAT, ["batch", bundle.dimension]),
    ]
    model = helper.make_model(
        helper.make_graph(b.nodes, "encoder", ids, vectors, b.weights),
        producer_name="lightxling",
        producer_version=__version__,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
    )
    helper.set_model_props(model, _properties(bundle))
    onnx.checker.check_model(model)
    return model


def _properties(bundle: Bundle) -> dict[str, str]:
    """What the file says of itself to programs that have nothing else."""
    return {
        "dimension": str(bundle.dimension),
        "dtype": bundle.dtype,
        "languages": " ".join(bundle.languages),
        "max_length": str(bundle.config.max_length),
        "normalized": "false",
        "pad_token_id": "0",
    }


def _pool(b: _Builder, x: str, real: str, output: str | None) -> str:
    """Pools [B, L, D] over real tokens; a sentence without tokens gives zeros."""
    axis = b.weight(np.array([1]))
    weight = b.add("Unsqueeze", real, b.weight(np.array([2])))  # [B, L, 1]
    count = b.add("ReduceSum", weight, axis, keepdims=0)  # [B, 1]
    if b.bundle.config.pooling == "max":
        low = b.add("Mul", b.add("Sub", weight, b.weight(np.float32(1))), b.weight(np.float32(1e9)))
        best = b.add("ReduceMax", b.add("Add", b.add("Mul", x, weight), low), axes=[1], keepdims=0)
        some = b.add("Min", count, b.weight(np.float32(1)))
        return b.add("Mul", best, some, output=output)
    if b.bundle.config.pooling == "cls":
        found = b.add("Gather", x, b.weight(np.array(0)), axis=1)
        some = b.add("Min", count, b.weight(np.float32(1)))
        return b.add("Mul", found, some, output=output)
    if b.bundle.config.pooling in ("weighted", "attention"):
        weight = b.add("Mul", _learnt_weights(b, x, weight), weight)  # [B, L, 1]
        total = b.add("ReduceSum", b.add("Mul", x, weight), axis, keepdims=0)
        least = b.add("Max", b.add("ReduceSum", weight, axis, keepdims=0), b.weight(TINY))
        return b.add("Div", total, least, output=output)
    total = b.add("ReduceSum", b.add("Mul", x, weight), axis, keepdims=0)
    if b.bundle.config.pooling == "sum":
        return b.add("Identity", total, output=output)
    return b.add("Div", total, b.add("Max", count, b.weight(np.float32(1))), output=output)


def _learnt_weights(b: _Builder, x: str, real: str) -> str:
    """Weights of the states [B, L, D] in the mean, of any size at padding; [B, L, 1] as `real`."""
    if b.bundle.config.pooling == "weighted":
        column = b.add("Mul", b.stored("piece_weights"), b.weight(np.float32(PIECE_RATE)))
        found = b.add("Softplus", b.add("Gather", column, "input_ids"))
        return b.add("Unsqueeze", found, b.weight(np.array([2])))
    query = b.add("Unsqueeze", b.stored("pooling_query"), b.weight(np.array([1])))
    blocked = b.add("Mul", b.add("Sub", real, b.weight(np.float32(1))), b.weight(np.float32(1e30)))
    return b.add("Softmax", b.add("Add", b.add("MatMul", x, query), blocked), axis=1)
