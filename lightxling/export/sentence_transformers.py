"""A folder that `SentenceTransformer(path)` opens unchanged: a standard BertModel, pooling, a fast
tokenizer; or, for a bag of vectors without positions, one table that holds all of the encoder.

Weights of pieces are a WordWeights module; there and in a table they are divided by the largest
one, which changes no direction.

BertModel is the same function: post-norm blocks, the feed-forward activation set to silu. What
differs is moved into the tables: positions count from 0 there and from 1 here, where row 0 is the
padding; a factorised table is multiplied out; token types are one row of zeros.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from lightxling.base.errors import UserError
from lightxling.base.files import write_json
from lightxling.base.places import DESCRIPTION, PARAMETERS
from lightxling.base.shapes import Float
from lightxling.config.schema import ModelConfig
from lightxling.corpus.foreign_pieces import is_foreign
from lightxling.corpus.normaliser import own_rules
from lightxling.corpus.pieces import Tokenizer
from lightxling.corpus.tokenizer import read_tokenizer
from lightxling.export.fast_tokenizer import write_tokenizer
from lightxling.model.forward import Forward, weights_of_pieces
from lightxling.model.params import Params, dequantize
from lightxling.saved.bundle import Bundle
from lightxling.saved.parameters import write_params
from lightxling.saved.sentence_transformers import ABOUT

_MADE_FOR = {"format": "pt"}
"""What transformers asks of a file of parameters."""


def check_sentence_transformers(bundle: Bundle) -> None:
    """Refuses an encoder that has something that the modules of sentence-transformers have not.

    Raises:
      UserError: says which formats have it.
    """
    config, others = bundle.config, "use --format onnx, stablehlo, web or safetensors"
    parallel = [adapter.name for adapter in config.adapters if adapter.kind == "parallel"]
    if parallel:  # those of low rank are merged
        names = ", ".join(parallel)
        raise UserError(
            f"a BertModel has no place for the parallel adapters {names}; use --format onnx, or "
            "leave them out with --adapters"
        )
    if is_static(config):
        return
    if config.pooling in ("sum", "attention"):
        raise UserError(f"sentence-transformers has no {config.pooling} pooling; {others}")
    if not config.embedding_norm:
        raise UserError(
            "a BertModel normalises its embeddings, and this encoder does not "
            f"(model.embedding_norm=False); {others}"
        )


def is_static(config: ModelConfig) -> bool:
    """Whether the vector of a sentence is a direction of the sum of its pieces' vectors, so that
    the encoder is a table: StaticEmbedding, which averages rows."""
    is_sum = config.pooling not in ("max", "cls") and not config.dense
    return is_sum and not (config.layers or config.positions or config.ngrams)


def write_sentence_transformers(bundle: Bundle, folder: Path) -> None:
    """Writes the folder's files.

    Raises:
      UserError: see `check_sentence_transformers`.
    """
    check_sentence_transformers(bundle)
    write = _write_static if is_static(bundle.config) else _write_bert
    modules = [*write(bundle, folder), ("Normalize", {})]  # length 1, as Encoder gives them
    listed = []
    for i, (kind, settings) in enumerate(modules):
        path = f"{i}_{kind}" if i else ""
        (folder / path).mkdir(exist_ok=True)
        write_json(folder / path / DESCRIPTION, settings)
        kind = f"sentence_transformers.models.{kind}"
        listed.append({"idx": i, "name": str(i), "path": path, "type": kind})
    write_json(folder / "modules.json", listed)
    write_json(
        folder / "config_sentence_transformers.json",
        {
            "similarity_fn_name": "cosine",
            "prompts": {name or "default": text for name, text in bundle.prompts.items()},
            "default_prompt_name": "default" if "" in bundle.prompts else None,
        },
    )
    (folder / "README.md").write_text(model_card(bundle), "utf-8", newline="\n")


def _write_static(bundle: Bundle, folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Writes table and tokenizer of a StaticEmbedding; returns the modules with their settings.

    Names are those of model2vec, which StaticEmbedding reads too.
    """
    table = static_table(bundle).astype(bundle.params["words"].dtype)
    write_params(folder / PARAMETERS, {"embeddings": table}, _MADE_FOR)
    write_tokenizer(bundle, folder)
    about: dict[str, Any] = {
        "model_type": "model2vec",
        "architectures": ["StaticModel"],
        "normalize": True,
    }
    about[ABOUT] = _told(bundle)
    return [("StaticEmbedding", about)]


def static_table(bundle: Bundle) -> Float[np.ndarray, "V D"]:
    """The encoder as a table: a row is its piece's vector alone times its weight.

    The sum of the rows of a sentence is a multiple of the sentence's vector. Rows are divided by
    the largest weight, which changes no direction.
    """
    config, p = bundle.config, dequantize(bundle.params)
    plain = dataclasses.replace(config, pooling="sum")
    ids = np.arange(bundle.vocab_size)[:, None]
    rows = Forward(plain, {n: v for n, v in p.items() if n != "projection"})([ids])
    if config.pooling == "weighted":
        weight = weights_of_pieces(p["piece_weights"])
        rows *= (weight / weight.max())[:, None]
    if config.pooling == "attention":
        scores = rows @ p["pooling_query"]
        rows *= np.exp(scores - scores.max())[:, None]
    return rows @ p["projection"] if "projection" in p else rows


def _write_bert(bundle: Bundle, folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Writes parameters and tokenizer of a BertModel; returns the modules with their settings."""
    config = bundle.config
    params = bert_params(bundle)
    projection, kernel, bias = (params.pop(n, None) for n in ("projection", "dense", "dense_bias"))
    modules: list[tuple[str, dict[str, Any]]] = [("Transformer", bert_config(bundle))]
    if config.pooling == "weighted":
        pieces = Tokenizer(bundle.tokenizer).pieces()
        weight = weights_of_pieces(bundle.params["piece_weights"])
        weights = dict(zip(pieces, (weight / weight.max()).tolist(), strict=True))
        modules.append(("WordWeights", {"vocab": list(pieces), "word_weights": weights}))
    modules.append(
        (
            "Pooling",
            {
                "word_embedding_dimension": config.width,
                "pooling_mode_mean_tokens": config.pooling not in ("max", "cls"),
                "pooling_mode_max_tokens": config.pooling == "max",
                "pooling_mode_cls_token": config.pooling == "cls",
                "pooling_mode_mean_sqrt_len_tokens": False,
            },
        )
    )
    for activation, values in (
        ("activation.Tanh", {"linear.weight": kernel, "linear.bias": bias}),
        ("linear.Identity", {"linear.weight": projection}),
    ):
        if values["linear.weight"] is None:
            continue
        values["linear.weight"] = values["linear.weight"].T
        dense = folder / f"{len(modules)}_Dense"
        dense.mkdir()
        write_params(dense / PARAMETERS, values, _MADE_FOR)
        settings = {
            "in_features": config.width,
            "out_features": len(values["linear.weight"]),
            "bias": "linear.bias" in values,
            "activation_function": f"torch.nn.modules.{activation}",
        }
        modules.append(("Dense", settings))
    write_params(folder / PARAMETERS, params, _MADE_FOR)
    write_tokenizer_files(bundle, folder)
    write_json(
        folder / "sentence_bert_config.json",
        {"max_seq_length": config.max_length, "do_lower_case": False},
    )
    return modules


def bert_config(bundle: Bundle) -> dict[str, Any]:
    """config.json of the BertModel."""
    config = bundle.config
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": bundle.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads if config.layers else 1,
        "intermediate_size": config.feedforward,
        "hidden_act": {"swish": "silu"}.get(config.activation, config.activation),
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "max_position_embeddings": config.max_length,
        "type_vocab_size": 2,  # tools for BertModels make numbers of type 1 too
        "layer_norm_eps": config.norm_eps,
        "pad_token_id": 0,
        "dtype": "float32",
        "torch_dtype": "float32",  # its name until transformers 5
        ABOUT: _told(bundle),
    }


def _told(bundle: Bundle) -> dict[str, Any]:
    """What config.json keeps through fine-tuning that is not of a BertModel."""
    told: dict[str, Any] = {"dimension": bundle.dimension, "languages": list(bundle.languages)}
    if not bundle.unescape:
        told["unescape"] = False
    return told | ({"cleans": bundle.cleans} if is_foreign(bundle.tokenizer) else {})


def bert_params(bundle: Bundle) -> Params:
    """BertModel's parameters, in the bundle's number format; torch's kernels are [out, in]."""
    config, p = bundle.config, dequantize(bundle.params)
    words = p["words"] @ p["word_projection"] if "word_projection" in p else p["words"]
    positions = (
        p["positions"][1:] if "positions" in p else np.zeros((config.max_length, config.width))
    )
    out: Params = {
        "embeddings.word_embeddings.weight": words,
        "embeddings.position_embeddings.weight": positions,
        "embeddings.token_type_embeddings.weight": np.zeros((2, config.width)),
        "pooler.dense.weight": np.zeros((config.width, config.width)),  # unused, but asked for
        "pooler.dense.bias": np.zeros(config.width),
    }

    def norm(target, source):
        out[f"{target}.weight"], out[f"{target}.bias"] = p[f"{source}.scale"], p[f"{source}.bias"]

    def linear(target, kernel, bias):
        out[f"{target}.weight"], out[f"{target}.bias"] = kernel.T, bias

    norm("embeddings.LayerNorm", "embedding_norm")
    for i in range(config.layers):
        source, target = f"blocks.{i}", f"encoder.layer.{i}"
        kernels = np.split(p[f"{source}.qkv.kernel"], 3, axis=1)
        biases = np.split(p[f"{source}.qkv.bias"], 3)
        for name, kernel, bias in zip(("query", "key", "value"), kernels, biases, strict=True):
            linear(f"{target}.attention.self.{name}", kernel, bias)
        for part, name in {
            "attention.output.dense": "out",
            "intermediate.dense": "up",
            "output.dense": "down",
        }.items():
            linear(f"{target}.{part}", p[f"{source}.{name}.kernel"], p[f"{source}.{name}.bias"])
        norm(f"{target}.attention.output.LayerNorm", f"{source}.attention_norm")
        norm(f"{target}.output.LayerNorm", f"{source}.output_norm")
    if "projection" in p:
        out["projection"] = p["projection"]
    if config.dense:
        out["dense"], out["dense_bias"] = p["dense.kernel"], p["dense.bias"]
    dtype = bundle.params["words"].dtype
    return {
        name: np.ascontiguousarray(value, np.float32 if value.ndim < 2 else dtype)
        for name, value in out.items()
    }


def write_tokenizer_files(bundle: Bundle, folder: Path) -> None:
    """Writes tokenizer.json and what transformers and transformers.js want beside it."""
    write_tokenizer(bundle, folder)
    pad, unknown, mask, *_ = read_tokenizer(bundle.tokenizer).pieces()
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": bundle.config.max_length,
            "pad_token": pad,
            "unk_token": unknown,
            "mask_token": mask,
            "padding_side": "right",
            "truncation_side": "right",
            "clean_up_tokenization_spaces": False,
            # a text that spells <MASK> holds no mask; those of other programs decide themselves
            "split_special_tokens": not is_foreign(bundle.tokenizer),
            "model_input_names": ["input_ids", "attention_mask"],
        },
    )


_USAGE = """\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/of/this/folder")
vectors = model.encode(["Where is the station?", "Où est la gare ?"])
"""


def model_card(bundle: Bundle, library: str = "sentence-transformers", usage: str = _USAGE) -> str:
    """README.md of an export: what it is, what was measured, how to use it.

    Args:
      library: that opens the folder.
      usage: Python that encodes two sentences.
    """
    languages = "".join(f"\n- {code}" for code in bundle.languages)
    lines = [
        "---",
        f"language:{languages}" if languages else "language: multilingual",
        f"library_name: {library}",
        "pipeline_tag: sentence-similarity",
        f"tags:\n- {library}\n- feature-extraction\n- lightxling",
        "---",
        "",
        "# A small cross-lingual sentence encoder",
        "",
        f"{bundle.config.layers} layers of width {bundle.config.width}, {bundle.vocab_size:,} "
        f"pieces, vectors of {bundle.dimension} dimensions, trained with lightxling. Translations "
        "lie close together; compare vectors by cosine.",
        "",
        f"```python\n{usage}```",
    ]
    if bundle.training:
        lines += ["", "## Training", "", *(f"- {line}" for line in bundle.training)]
    if bundle.scores:
        lines += ["", "## Measured", "", "| what | score |", "| --- | --- |"]
        lines += [f"| {name} | {value:.2f} |" for name, value in bundle.scores.items()]
    lines += ["", f"Texts are cut to {bundle.config.max_length} tokens."]
    if said := own_rules(bundle.tokenizer):
        lines += [f"The tokenizer {said}, which fold case in full."]
    if not bundle.unescape:
        lines += ["HTML entities such as `&amp;` are read as they stand, as in training."]
    lines += [""]
    return "\n".join(lines)
