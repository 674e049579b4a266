"""A sentence-transformers folder of ours, read back after somebody has fine-tuned it there.

The inverse of `export.sentence_transformers`: BertModel is the same function, so that its
parameters go back one to one; token types and positions become one table. A StaticEmbedding is a
bag of vectors. What a BertModel never had does not come back: a factorised table has become a full
one.
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
from lightxling.config.rules import validate
from lightxling.config.schema import Config, ModelConfig
from lightxling.corpus.tokenizer_json import FILE, pieces_model, read_tokenizer_json
from lightxling.model.params import NORM_EPS, PIECE_RATE, TINY, Params, shapes
from lightxling.saved.parameters import PARAMETERS, read_arrays

MODULES = "modules.json"
"""Lists the modules of a sentence-transformers folder."""
ABOUT = "lightxling"
"""Key of a BertModel's config.json under which an export says what is not of a BertModel."""
_ACTIVATIONS = {"silu": "swish", "swish": "swish", "relu": "relu"}


@dataclasses.dataclass(frozen=True)
class Folder:
    """An encoder as a sentence-transformers folder holds it.

    Attributes:
      languages: that the export named; the modules of a bag have no place for them.
    """

    config: ModelConfig
    params: Params
    tokenizer: bytes
    languages: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Module:
    """One of the modules, by the last part of its type's name."""

    kind: str
    folder: Path
    settings: Mapping[str, Any]


def is_sentence_transformers(path: Path) -> bool:
    return (path / MODULES).is_file()


def read_folder(path: Path) -> Folder:
    """Reads a folder that `export --format sentence-transformers` wrote, fine-tuned or not.

    Raises:
      UserError: it is damaged, or its modules are not those that an encoder of ours has.
    """
    modules = _modules(path)
    if modules[0].kind == "StaticEmbedding":
        return _static(modules)
    if modules[0].kind == "Transformer":
        return _bert(modules)
    raise _other(path, f"its first module is {modules[0].kind}")


def _other(path: Path, why: str) -> UserError:
    return UserError(
        f"{path} is no encoder of lightxling: {why}; read are folders that `lightxling export "
        "--format sentence-transformers` wrote, also after fine-tuning"
    )


def _modules(path: Path) -> list[_Module]:
    try:
        listed = parse_json(limits.read_bytes(path / MODULES))
        modules = []
        for entry in listed:
            folder = path / str(entry["path"])
            if not folder.resolve().is_relative_to(path.resolve()):
                raise ValueError(f"{entry['path']} is outside of the folder")
            about = folder / "config.json"
            settings = read_json(about) if about.is_file() else {}
            modules.append(_Module(str(entry["type"]).rpartition(".")[2], folder, settings))
        if not modules:
            raise ValueError("it lists nothing")
    except OSError as error:
        raise UserError(f"cannot read {path / MODULES}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path / MODULES} is damaged ({error}); save the model again") from None
    return modules


def _static(modules: list[_Module]) -> Folder:
    first, *rest = modules
    arrays = read_arrays(first.folder / PARAMETERS)
    table = arrays.get("embedding.weight", arrays.get("embeddings"))
    if table is None or table.ndim != 2:
        raise _other(first.folder, f"{PARAMETERS} holds no table")
    tokenizer = first.folder / FILE
    config = ModelConfig(
        layers=0,
        width=table.shape[1],
        positions=False,
        embedding_norm=False,
        max_length=_cut(read_tokenizer_json(tokenizer)) or ModelConfig().max_length,
        dropout=0.0,
    )
    return _finished(first, rest, config, {"words": table}, pieces_model(tokenizer))


def _cut(tokenizer: Mapping[str, Any]) -> int | None:
    """Tokens that a tokenizer.json cuts texts to."""
    cut = tokenizer.get("truncation")
    length = cut.get("max_length") if isinstance(cut, dict) else None
    return length if type(length) is int and length > 0 else None


def _bert(modules: list[_Module]) -> Folder:
    first, *rest = modules
    place, about = first.folder, first.settings
    if about.get("model_type") != "bert" or about.get("hidden_act") not in _ACTIVATIONS:
        raise _other(
            place, f"it is a {about.get('model_type')!r:.40} with {about.get('hidden_act')!r:.40}"
        )
    if not np.isclose(about.get("layer_norm_eps", 0), float(NORM_EPS), rtol=1e-3):
        raise _other(place, f"layer_norm_eps={about.get('layer_norm_eps')!r:.40}, not 1e-12")
    length = _size(about, "max_position_embeddings", place)
    for name, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
    ):
        said = read_json(place / name).get(key) if (place / name).is_file() else None
        if type(said) is int and said > 0:
            length = min(length, said)
    dropout = about.get("hidden_dropout_prob", 0.0)
    config = ModelConfig(
        layers=_size(about, "num_hidden_layers", place, least=0),
        width=_size(about, "hidden_size", place),
        heads=_size(about, "num_attention_heads", place),
        feedforward=_size(about, "intermediate_size", place),
        max_length=length,
        activation=_ACTIVATIONS[about["hidden_act"]],
        dropout=float(dropout) if isinstance(dropout, int | float) else 0.0,
    )
    arrays = read_arrays(place / PARAMETERS)
    try:
        params = encoder_params(arrays, config)
    except (KeyError, ValueError) as error:
        raise _other(place, f"{PARAMETERS} has not the arrays of a BertModel ({error})") from None
    if not params["positions"].any():
        del params["positions"]
        config = dataclasses.replace(config, positions=False)
    return _finished(first, rest, config, params, pieces_model(place / FILE))


def _size(about: Mapping[str, Any], name: str, place: Path, least: int = 1) -> int:
    value = about.get(name)
    if type(value) is not int or value < least:
        raise UserError(f"{name}={value!r:.40} in {place}/config.json should be a number")
    return value


def encoder_params(arrays: Mapping[str, np.ndarray], config: ModelConfig) -> Params:
    """Parameters of an encoder from those of a BertModel; torch's kernels are [out, in].

    Raises:
      KeyError: one is missing.
      ValueError: it has a shape that the settings do not give it.
    """
    tokens = arrays["embeddings.token_type_embeddings.weight"][0].astype(np.float32)
    positions = arrays["embeddings.position_embeddings.weight"][: config.max_length]
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
            kernel = _dense(module)
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
    told = first.settings.get(ABOUT)
    languages = told.get("languages") if isinstance(told, dict) else None
    is_list = isinstance(languages, list) and all(isinstance(code, str) for code in languages)
    return Folder(config, params, tokenizer, tuple(languages) if is_list else ())


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
    modes = [said] if isinstance(said, str) else list(said)
    if modes == ["mean"]:
        return before
    if modes == ["max"] and before == "mean":
        return "max"
    raise _other(module.folder, f"it pools by {' and '.join(map(str, modes))}, not mean or max")


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


def _dense(module: _Module) -> np.ndarray:
    """Its kernel [in, out]."""
    activation = str(module.settings.get("activation_function", ""))
    arrays = read_arrays(module.folder / PARAMETERS)
    kernel, bias = arrays.get("linear.weight"), arrays.get("linear.bias")
    if not activation.endswith("Identity") or kernel is None or kernel.ndim != 2:
        raise _other(module.folder, f"its Dense module has {activation or 'no kernel'}")
    if bias is not None and bias.any():
        raise _other(module.folder, "its Dense module has a bias")
    return np.ascontiguousarray(kernel.T)
