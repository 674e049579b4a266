"""Encoders in the layout of sentence-transformers: those of other programs, and ours that come back
after fine-tuning.

BertModel and XLMRobertaModel are the function that our encoder is, so that their parameters go over
one to one; token types and positions become one table, in which row 0 is the padding. A
StaticEmbedding, or a model of model2vec, is a bag of vectors. Only safetensors are read: a pickle
runs what it likes.

The tokenizer of an encoder that was trained here becomes its sentencepiece model again
(`corpus.tokenizer_json`); another one stays a tokenizer.json, with its pieces numbered anew.
"""

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lightxling.base import limits
from lightxling.base.errors import UserError
from lightxling.base.files import parse_json, read_json
from lightxling.base.places import PARAMETERS
from lightxling.config.rules import validate
from lightxling.config.schema import MAX_TOKENS, Config, ModelConfig
from lightxling.corpus.foreign_pieces import NEW, TOKENIZER_JSON, is_foreign, read_tokenizer_json
from lightxling.corpus.pieces import UNK
from lightxling.corpus.tokenizer_json import MODULES, folder_tokenizer, is_model2vec
from lightxling.model.params import PIECE_RATE, TINY, Params, shapes
from lightxling.saved.parameters import read_arrays

ABOUT = "lightxling"
"""Key of a BertModel's config.json under which an export says what is not of a BertModel."""
_ACTIVATIONS = {
    **{"silu": "swish", "swish": "swish", "relu": "relu", "gelu": "gelu"},
    **{"gelu_new": "gelu_new", "gelu_pytorch_tanh": "gelu_new"},
}
_OFFSET = {"bert": 0, "xlm-roberta": 2, "roberta": 2, "camembert": 2}
"""Kinds of models that are read, with the row of the first position in their table."""


@dataclasses.dataclass(frozen=True)
class Folder:
    """An encoder as a sentence-transformers folder holds it.

    Attributes:
      tokenizer: a sentencepiece model, or a tokenizer.json as `foreign_pieces` writes it.
      languages: that the export named; none for encoders of other programs.
      prompts: by their names, put before a text; "" is the name of the one that is always put.
      cleans: whether its texts are cleaned as those that encoders are trained on here.
      unescape: whether HTML entities are resolved then.
    """

    config: ModelConfig
    params: Params
    tokenizer: bytes
    languages: tuple[str, ...]
    prompts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cleans: bool = True
    unescape: bool = True


@dataclasses.dataclass(frozen=True)
class _Module:
    """One of the modules, by the last part of its type's name."""

    kind: str
    folder: Path
    settings: Mapping[str, Any]


def is_sentence_transformers(path: Path) -> bool:
    """Whether a folder is of sentence-transformers, or of what it opens: transformers, model2vec.

    Exports that lightxling reads have a file of parameters, but no tokenizer.json.
    """
    return (path / MODULES).is_file() or (
        (path / TOKENIZER_JSON).is_file() and (path / PARAMETERS).is_file()
    )


def read_folder(path: Path) -> Folder:
    """Reads a folder of sentence-transformers, transformers or model2vec.

    Raises:
      UserError: it is damaged, or its modules are not such as an encoder here can have.
    """
    modules = _modules(path)
    read = {"StaticEmbedding": _static, "Transformer": _bert}.get(modules[0].kind)
    if read is None:
        raise _other(path, f"its first module is {modules[0].kind}")
    try:
        folder = read(modules)
    except (KeyError, TypeError, AttributeError) as error:  # in a tokenizer of a stranger
        raise _other(path, f"its {TOKENIZER_JSON} is of another kind ({error!r:.80})") from None
    return dataclasses.replace(folder, prompts=_prompts(path))


def _other(path: Path, why: str) -> UserError:
    return UserError(
        f"{path} is no encoder that lightxling reads: {why}; read are BertModel and "
        "XLMRobertaModel with pooling by mean, max or cls, and StaticEmbedding"
    )


def _modules(path: Path) -> list[_Module]:
    if not (path / MODULES).is_file():
        return _modules_of_transformers(path)
    try:
        listed = parse_json(limits.read_bytes(path / MODULES))
        modules = []
        for entry in listed:
            folder = path / str(entry["path"])
            if not folder.resolve().is_relative_to(path.resolve()):
                raise ValueError(f"{entry['path']} is outside of the folder")
            modules.append(_module(str(entry["type"]).rpartition(".")[2], folder))
        if not modules:
            raise ValueError("it lists nothing")
    except OSError as error:
        raise UserError(f"cannot read {path / MODULES}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path / MODULES} is damaged ({error}); save the model again") from None
    return modules


def _module(kind: str, folder: Path) -> _Module:
    about = folder / "config.json"
    return _Module(kind, folder, read_json(about) if about.is_file() else {})


def _modules_of_transformers(path: Path) -> list[_Module]:
    """A folder without modules, as the other programs open it."""
    first = _module("Transformer", path)
    if is_model2vec(first.settings):
        return [_Module("StaticEmbedding", path, {**first.settings, "drop_unknown": True})]
    warnings.warn(
        f"{path} has no {MODULES}, which says how it pools: the mean is taken, as "
        "sentence-transformers takes it",
        stacklevel=2,
    )
    return [first, _Module("Pooling", path, {"pooling_mode": "mean"})]


def _prompts(path: Path) -> dict[str, str]:
    about = path / "config_sentence_transformers.json"
    settings = read_json(about) if about.is_file() else {}
    said, default = settings.get("prompts"), settings.get("default_prompt_name")
    listed = said.items() if isinstance(said, dict) else ()
    prompts = {str(name): text for name, text in listed if text and isinstance(text, str)}
    return prompts | ({"": prompts[default]} if default in prompts else {})


def _rows(table: np.ndarray, order: list[int] | None, place: Path) -> np.ndarray:
    """Rows of a table in the order of the new ids; pieces that are new have zeros."""
    if order is None:
        return table
    if max(order) >= len(table):
        raise _other(
            place, f"{max(order) + 1:,} pieces in its tokenizer, {len(table):,} in its table"
        )
    rows = np.array(order)
    return np.where((rows != NEW)[:, None], table[np.maximum(rows, 0)], 0).astype(table.dtype)


def _static(modules: list[_Module]) -> Folder:
    first, *rest = modules
    arrays = read_arrays(first.folder / PARAMETERS, integers=("mapping",))
    table = arrays.get("embedding.weight", arrays.get("embeddings"))
    if table is None or table.ndim != 2:
        raise _other(first.folder, f"{PARAMETERS} holds no table")
    if "mapping" in arrays:
        table = table[arrays["mapping"]]
    if "weights" in arrays:
        table = table * arrays["weights"].astype(np.float32)[:, None]
    tokenizer, order = folder_tokenizer(first.folder, bare=True)
    table = _rows(table, order, first.folder)
    if first.settings.get("drop_unknown"):
        table = table.copy()
        table[UNK] = 0  # which the mean's direction does not see
    length = _cut(read_tokenizer_json(first.folder / TOKENIZER_JSON))
    length = length or first.settings.get("max_length")
    config = ModelConfig(
        layers=0,
        width=table.shape[1],
        heads=1,
        positions=False,
        embedding_norm=False,
        max_length=min(length, MAX_TOKENS) if type(length) is int and length > 0 else MAX_TOKENS,
        dropout=0.0,
    )
    return _finished(first, rest, config, {"words": table}, tokenizer)


def _cut(tokenizer: Mapping[str, Any]) -> int | None:
    """Tokens that a tokenizer.json cuts texts to."""
    cut = tokenizer.get("truncation")
    length = cut.get("max_length") if isinstance(cut, dict) else None
    return length if type(length) is int and length > 0 else None


def _bert(modules: list[_Module]) -> Folder:
    first, *rest = modules
    place, about = first.folder, first.settings
    kind, activation = about.get("model_type"), about.get("hidden_act")
    if kind not in _OFFSET or activation not in _ACTIVATIONS:
        raise _other(place, f"it is a {kind!r:.40} with {activation!r:.40}")
    if about.get("position_embedding_type", "absolute") != "absolute":
        raise _other(place, f"its positions are {about['position_embedding_type']!r:.40}")
    offset = _OFFSET[kind]
    dropout, eps = (about.get(n, 0.0) for n in ("hidden_dropout_prob", "layer_norm_eps"))
    config = ModelConfig(
        layers=_size(about, "num_hidden_layers", place, least=0),
        width=_size(about, "hidden_size", place),
        heads=_size(about, "num_attention_heads", place),
        feedforward=_size(about, "intermediate_size", place),
        max_length=_length(place, _size(about, "max_position_embeddings", place) - offset),
        activation=_ACTIVATIONS[activation],
        norm_eps=float(eps) if isinstance(eps, int | float) else 0.0,
        dropout=float(dropout) if isinstance(dropout, int | float) else 0.0,
    )
    arrays = _arrays(place)
    tokenizer, order = folder_tokenizer(place)
    try:
        params = encoder_params(arrays, config, offset)
    except (KeyError, ValueError, IndexError) as error:
        raise _other(place, f"{PARAMETERS} has not the arrays of a BertModel ({error})") from None
    params["words"] = _rows(params["words"], order, place)
    if not params["positions"].any():
        del params["positions"]
        config = dataclasses.replace(config, positions=False)
    return _finished(first, rest, config, params, tokenizer)


def _arrays(place: Path) -> Params:
    """The parameters of a model, whatever head it stood under."""
    if not (place / PARAMETERS).is_file() and (place / "pytorch_model.bin").is_file():
        raise UserError(
            f"{place} has its parameters as pytorch_model.bin, a pickle, which can run code and is "
            f"not read; save it as safetensors: SentenceTransformer({str(place)!r}).save(FOLDER)"
        )
    arrays = read_arrays(place / PARAMETERS)
    for prefix in ("bert.", "roberta."):
        if any(name.startswith(f"{prefix}embeddings.") for name in arrays):
            return {n.removeprefix(prefix): v for n, v in arrays.items() if n.startswith(prefix)}
    return arrays


def _length(place: Path, longest: int) -> int:
    """Tokens that a text is cut to."""
    for name, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
    ):
        said = read_json(place / name).get(key) if (place / name).is_file() else None
        if type(said) is int and said > 0:
            longest = min(longest, said)
    return min(longest, MAX_TOKENS)


def _size(about: Mapping[str, Any], name: str, place: Path, least: int = 1) -> int:
    value = about.get(name)
    if type(value) is not int or value < least:
        raise UserError(f"{name}={value!r:.40} in {place}/config.json should be a number")
    return value


def encoder_params(
    arrays: Mapping[str, np.ndarray], config: ModelConfig, offset: int = 0
) -> Params:
    """Parameters of an encoder from those of a BertModel; torch's kernels are [out, in].

    Args:
      offset: row of the first position in its table.

    Raises:
      KeyError: one is missing.
      ValueError: it has a shape that the settings do not give it.
    """
    tokens = arrays["embeddings.token_type_embeddings.weight"][0].astype(np.float32)
    positions = arrays["embeddings.position_embeddings.weight"][offset:][: config.max_length]
    params: Params = {
        "words": arrays["embeddings.word_embeddings.weight"],
        # row 0 is the padding here, and every text is of token type 0
        "positions": np.concatenate([np.zeros_like(tokens)[None], positions + tokens]),
    }

    def norm(target: str, source: str) -> None:
        params[f"{target}.scale"] = arrays[f"{source}.weight"]
        params[f"{target}.bias"] = arrays[f"{source}.bias"]

    def linear(target: str, *sources: str) -> None:
        kernels = [arrays[f"{source}.weight"].T for source in sources]
        params[f"{target}.kernel"] = np.concatenate(kernels, axis=1)
        params[f"{target}.bias"] = np.concatenate([arrays[f"{name}.bias"] for name in sources])

    norm("embedding_norm", "embeddings.LayerNorm")
    for i in range(config.layers):
        block, layer = f"blocks.{i}", f"encoder.layer.{i}"
        parts = (f"{layer}.attention.self.{name}" for name in ("query", "key", "value"))
        linear(f"{block}.qkv", *parts)
        linear(f"{block}.out", f"{layer}.attention.output.dense")
        norm(f"{block}.attention_norm", f"{layer}.attention.output.LayerNorm")
        linear(f"{block}.up", f"{layer}.intermediate.dense")
        linear(f"{block}.down", f"{layer}.output.dense")
        norm(f"{block}.output_norm", f"{layer}.output.LayerNorm")
    for name, shape in shapes(config, len(params["words"]), config.width).items():
        if params[name].shape != shape:
            raise ValueError(f"{name} is {params[name].shape}, not {shape}")
    return params


def _finished(
    first: _Module,
    rest: list[_Module],
    config: ModelConfig,
    params: Params,
    tokenizer: bytes,
) -> Folder:
    """The encoder with what the modules after the first make of its states."""
    projection, pooled = None, first.kind == "StaticEmbedding"
    for module in rest:
        if module.kind == "Normalize":
            continue  # which `Encoder.encode` does
        if module.kind == "Pooling" and not pooled:
            pooled = True
            config = dataclasses.replace(config, pooling=_pooling(module, config.pooling))
        elif module.kind == "WordWeights" and not pooled:
            params["piece_weights"] = _piece_weights(module, len(params["words"]))
            config = dataclasses.replace(config, pooling="weighted")
        elif module.kind == "Dense" and pooled:
            kernel, bias, is_tanh = _dense(module)
            if is_tanh and projection is None and not config.dense:
                if kernel.shape != (config.width, config.width):
                    raise _other(module.folder, f"its Dense module is {kernel.shape}, not square")
                config = dataclasses.replace(config, dense=True)
                params["dense.kernel"], params["dense.bias"] = kernel, bias
            elif is_tanh or bias.any():
                raise _other(module.folder, "a linear Dense module has a bias, or two have tanh")
            else:
                projection = kernel if projection is None else projection @ kernel
        else:
            raise _other(module.folder, f"an encoder has no {module.kind} there")
    if not pooled:
        raise _other(first.folder, "it does not pool")
    if projection is not None:
        if len(projection) != config.width:
            raise _other(first.folder, f"its Dense module takes {len(projection)} numbers")
        params["projection"] = projection
    validate(dataclasses.replace(Config(), model=config))
    said = first.settings.get(ABOUT)
    told = said if isinstance(said, dict) else {}
    languages = told.get("languages")
    is_list = isinstance(languages, list) and all(isinstance(code, str) for code in languages)
    cleans = told.get("cleans") is True or not is_foreign(tokenizer)
    return Folder(
        config,
        params,
        tokenizer,
        tuple(languages) if is_list else (),
        cleans=cleans,
        unescape=told.get("unescape") is not False,
    )


def _pooling(module: _Module, before: str) -> str:
    """As sentence-transformers 5 writes it, `pooling_mode`, or as earlier ones did, in flags."""
    said = module.settings.get("pooling_mode")
    if said is None:
        prefix, suffix = "pooling_mode_", "_tokens"
        said = [
            name.removeprefix(prefix).removesuffix(suffix)
            for name, value in module.settings.items()
            if name.startswith(prefix) and value is True
        ]
        said = ["cls" if name == "cls_token" else name for name in said]
    modes = [said] if isinstance(said, str) else list(said) or ["nothing"]
    if modes == ["mean"]:
        return before
    if modes[0] in ("max", "cls") and before == "mean" and len(modes) == 1:
        return modes[0]
    raise _other(module.folder, f"it pools by {' and '.join(map(str, modes))}")


def _piece_weights(module: _Module, pieces: int) -> np.ndarray:
    """What the weights are softplus(10 c) of, by the row of the table.

    They are those of config.json, as sentence-transformers reads them: it trains them and saves
    what came out beside that file, but does not read it (6.2).
    """
    vocab, weights = module.settings.get("vocab"), module.settings.get("word_weights")
    if not isinstance(vocab, list) or not isinstance(weights, dict) or len(vocab) != pieces:
        raise _other(module.folder, "its weights are not those of the pieces")
    unknown = module.settings.get("unknown_word_weight", 1)
    weight = np.array([weights.get(piece, unknown) for piece in vocab], np.float64)
    if not (np.isfinite(weight) & (weight >= 0)).all():
        raise _other(module.folder, "a weight is below zero or not a number")
    if (module.folder / PARAMETERS).is_file():
        trained = read_arrays(module.folder / PARAMETERS).get("emb_layer.weight")
        if trained is not None and not np.allclose(trained.ravel(), weight, atol=1e-6):
            warnings.warn(
                f"{module.folder}: fine-tuning has moved the weights of pieces, and they are read "
                "as sentence-transformers reads them, which is as they were before; freeze that "
                "module when you fine-tune: model[1].requires_grad_(False)",
                stacklevel=2,
            )
    weight = np.maximum(weight, float(TINY))
    inverse = np.where(weight < 30, np.log(np.expm1(np.minimum(weight, 30))), weight)
    return (inverse / PIECE_RATE).astype(np.float32)


def _dense(module: _Module) -> tuple[np.ndarray, np.ndarray, bool]:
    """Its kernel [in, out], its bias, and whether a tanh follows."""
    activation = str(module.settings.get("activation_function", "")).rpartition(".")[2]
    arrays = read_arrays(module.folder / PARAMETERS)
    kernel, bias = arrays.get("linear.weight"), arrays.get("linear.bias")
    if activation not in ("Identity", "Tanh") or kernel is None or kernel.ndim != 2:
        raise _other(module.folder, f"its Dense module has {activation or 'no kernel'}")
    if bias is None:
        bias = np.zeros(len(kernel), np.float32)
    return np.ascontiguousarray(kernel.T), bias, activation == "Tanh"
