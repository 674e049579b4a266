"""What encoding needs, read from a run or from an export: configuration, parameters, tokenizer,
languages.

Parameters are a flat dict of numpy arrays under dotted names (`blocks.0.qkv.kernel`), kept in the
number format of the file. An int8 array has its scales beside it, in `NAME.scales`.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightxling import __version__
from lightxling.config import AdapterConfig, Config, ModelConfig, UserError, from_dict
from lightxling.files import parse_json
from lightxling.validate import validate

PARAMETERS, DESCRIPTION, TOKENIZER = "model.safetensors", "config.json", "tokenizer.model"
FORMAT = "lightxling"
BOXED = Path(__file__).parent / "boxed"
"""The encoder that comes with the package; its card is the README.md in it."""
_JSON_LIMIT = 16 << 20  # bytes
_LARGEST = {
    "layers": 1000,
    "width": 1 << 20,
    "feedforward": 1 << 24,
    "max_length": 1 << 20,
    "ngrams": 1 << 28,
}
_MOST_ADAPTERS, _LARGEST_RANK = 1000, 1 << 20

TABLES = ("words", "ngrams", "positions")
"""Parameters of which single rows are looked up."""

FREE = ("dropout", "init", "identical_layers", "compute_dtype")
"""Settings of the model that are no part of the function that was learnt."""

Params = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Bundle:
    """An encoder as plain data.

    Attributes:
      config: of the model.
      params: flat dict of arrays, the encoder's only; `projection` [D, d], where there is one, is
        applied to the pooled vector.
      tokenizer: the bytes of a sentencepiece model.
      languages: codes that the encoder was trained on.
      scores: what was measured, under any names; ends up in model cards.
      leading: whether the first numbers of a vector may stand alone, because it was trained so
        (objectives.ese) or they are principal components.
    """

    config: ModelConfig
    params: Params
    tokenizer: bytes
    languages: tuple[str, ...] = ()
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    leading: bool = False

    @property
    def vocab_size(self) -> int:
        return len(self.params["words"])

    @property
    def dimension(self) -> int:
        """Width of the sentence vectors."""
        projection = self.params.get("projection")
        return self.config.width if projection is None else projection.shape[1]

    @property
    def dtype(self) -> str:
        """Number format of the matrices."""
        return self.params["words"].dtype.name

    @property
    def nbytes(self) -> int:
        """Bytes of the parameters."""
        return sum(array.nbytes for array in self.params.values())

    def fingerprint(self) -> str:
        """sha256 of everything that a vector depends on."""
        settings = dataclasses.asdict(self.config)
        if not self.config.adapters:
            del settings["adapters"]
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        digest.update(hashlib.sha256(self.tokenizer).digest())
        for name in sorted(self.params):
            array = self.params[name]
            digest.update(f"{name} {array.dtype.name} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).view(np.uint8))
        return digest.hexdigest()


def shapes(config: ModelConfig, vocab_size: int, dimension: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter of an encoder."""
    width, feedforward = config.width, config.feedforward
    table = config.embedding_width or width
    expected: dict[str, tuple[int, ...]] = {"words": (vocab_size, table)}
    if table != width:
        expected["word_projection"] = (table, width)
    if config.ngrams:
        expected["ngrams"] = (config.ngrams + 1, table)
        expected["ngram_layer.kernel"], expected["ngram_layer.bias"] = (table, table), (table,)
    if config.positions:
        expected["positions"] = (config.max_length + 1, width)

    def norm(name):
        expected[f"{name}.scale"] = expected[f"{name}.bias"] = (width,)

    def linear(name, fan_in, fan_out):
        expected[f"{name}.kernel"], expected[f"{name}.bias"] = (fan_in, fan_out), (fan_out,)

    norm("embedding_norm")
    for i in range(config.layers):
        linear(f"blocks.{i}.qkv", width, 3 * width)
        linear(f"blocks.{i}.out", width, width)
        norm(f"blocks.{i}.attention_norm")
        linear(f"blocks.{i}.up", width, feedforward)
        linear(f"blocks.{i}.down", feedforward, width)
        norm(f"blocks.{i}.output_norm")
    for adapter in config.adapters:
        for i in range(config.layers):
            part = f"adapters.{adapter.name}.blocks.{i}"
            if adapter.kind == "parallel":
                narrow = width // adapter.reduction
                linear(f"{part}.down", width, narrow)
                linear(f"{part}.up", narrow, width)
                continue
            for target in adapter.targets:
                fan_in = feedforward if target == "down" else width
                fan_out = feedforward if target == "up" else width
                expected[f"{part}.{target}.a"] = (fan_in, adapter.rank)
                expected[f"{part}.{target}.b"] = (adapter.rank, fan_out)
    if dimension != width:
        expected["projection"] = (width, dimension)
    return expected


def scale_axis(name: str) -> int:
    """Axis of an int8 array that has a scale per index: rows of tables, outputs of kernels."""
    return 0 if name in TABLES else 1


def array(params: Params, name: str) -> np.ndarray:
    """A parameter in float32, whatever its format."""
    values = np.asarray(params[name], np.float32)
    scales = params.get(f"{name}.scales")
    if scales is None:
        return values
    return values * np.expand_dims(scales, 1 - scale_axis(name))


def dequantize(params: Params) -> Params:
    """All parameters in float32."""
    return {name: array(params, name) for name in params if not name.endswith(".scales")}


def nest(params: Mapping[str, Any]) -> dict[str, Any]:
    """The `encoder` part of the tree of `lightxling.model.build`; digits become integer keys."""
    tree: dict[Any, Any] = {}
    for name, value in params.items():
        *folders, last = (int(part) if part.isdecimal() else part for part in name.split("."))
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = value
    return tree


def flatten(tree: Mapping, prefix: str = "") -> Params:
    """The inverse of `nest`."""
    flat: Params = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = np.asarray(value)
    return flat


def folder_of(path: Path) -> Path:
    """The folder of a model, which may be named by the file of its parameters."""
    return path.parent if path.name == PARAMETERS else path


def load(path: str | Path, checkpoint: str | int | None = None) -> Bundle:
    """Reads a run directory, one of its checkpoints, or a `safetensors` export.

    Args:
      checkpoint: of a run: best (the default), last, or a step.

    Raises:
      UserError: nothing is there, it is damaged or has NaN, or it is an export for other programs.
    """
    if path == "":  # of a shell variable that is not set
        raise UserError("the path of the model is empty; give the folder of a run or of an export")
    path = folder_of(Path(path))
    if not os.path.exists(path):  # also of names that are too long
        raise UserError(f"no model at {path}; give the folder of a run or of an export")
    if not (path / DESCRIPTION).is_file() and checkpoint is None:  # RUN/best, RUN/checkpoints/STEP
        if path.name == "best" and (path.parent / DESCRIPTION).is_file():
            return load(path.parent, "best")
        if path.parent.name == "checkpoints" and (path.parent.parent / DESCRIPTION).is_file():
            return load(path.parent.parent, path.name)
    description = read_json(path / DESCRIPTION)
    if "config" in description:
        return _load_run(path, str(checkpoint or "best"))
    if description.get("format") != FORMAT:
        raise UserError(
            f"{path} is no run and no export that lightxling reads; exports for other programs "
            "open there, and `lightxling export RUN --format safetensors` writes one for here"
        )
    if checkpoint is not None:
        raise UserError(f"{path} is an export and has no checkpoints; leave --checkpoint out")
    return _load_export(path, description)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file that may come from a stranger."""
    try:
        with open(path, "rb") as file:
            text = file.read(_JSON_LIMIT + 1)
        if len(text) > _JSON_LIMIT:
            raise ValueError("too large")
        value = parse_json(text)
        if not isinstance(value, dict):
            raise ValueError("no JSON object")
        return value
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}; a model is the folder of a run or of an export"
        ) from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); export or copy it again") from None


def _read_tokenizer(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the tokenizer {path}: {error.strerror}") from None


def _languages(description: Mapping[str, Any]) -> tuple[str, ...]:
    codes = description.get("languages", [])
    if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
        raise UserError(f"languages={codes!r} in {DESCRIPTION} should be a list of codes")
    return tuple(codes)


def _scores(description: Mapping[str, Any]) -> dict[str, float]:
    scores = description.get("scores", {})
    if not isinstance(scores, dict) or not all(
        type(value) in (int, float) and abs(value) <= sys.float_info.max
        for value in scores.values()
    ):
        raise UserError(
            f"scores={scores!r:.100} in {DESCRIPTION} should be numbers by name; export it again"
        )
    return {name: float(value) for name, value in scores.items()}


@dataclasses.dataclass(frozen=True)
class Run:
    """What the config.json of a run says about its parameters."""

    path: Path
    config: Config
    vocab_size: int
    languages: tuple[str, ...]
    teacher_width: int = 0


def read_run(path: Path) -> Run:
    """Reads a run's description; no parameters.

    Raises:
      UserError: it is no run, or damaged.
    """
    description = read_json(path / DESCRIPTION)
    if "config" not in description:
        raise UserError(f"{path} is not the folder of a run: its {DESCRIPTION} has no settings")
    config = from_dict(Config, description["config"])
    validate(config)
    vocab_size = description.get("vocab_size")
    if type(vocab_size) is not int or vocab_size < 1:
        raise UserError(f"vocab_size={vocab_size!r} in {path / DESCRIPTION} should be a number")
    taught = description.get("teacher")
    teacher_width = taught.get("width") if isinstance(taught, dict) else 0
    if type(teacher_width) is not int or teacher_width < 0:
        raise UserError(f"teacher.width={teacher_width!r} in {path / DESCRIPTION} is no number")
    return Run(path, config, vocab_size, _languages(description), teacher_width)


def read_run_params(run: Run, checkpoint: str) -> dict[str, Any]:
    """All parameters of a run, heads included, as the tree of `lightxling.model.parts`."""
    import jax

    from lightxling.objectives.combine import initialise_tasks
    from lightxling.train.checkpoint import load_params

    initialise = functools.partial(
        initialise_tasks,
        run.config,
        run.vocab_size,
        languages=len(run.languages),
        teacher_width=run.teacher_width,
    )
    shapes = jax.eval_shape(initialise, jax.random.key(0))
    return load_params(run.path, checkpoint, shapes)[0]


def _load_run(path: Path, checkpoint: str) -> Bundle:
    run = read_run(path)
    params, model = flatten(read_run_params(run, checkpoint)["encoder"]), run.config.model
    _check_finite(params, f"checkpoint {checkpoint} of {path}")
    if model.sinusoidal:  # where an encoder is used, they are a table like any
        from lightxling.model.forward import sinusoids

        if model.positions:
            params["positions"] = sinusoids(model.max_length, model.width)
        model = dataclasses.replace(model, sinusoidal=False)
    return Bundle(
        model,
        params,
        _read_tokenizer(path / TOKENIZER),
        run.languages,
        leading=run.config.objectives.ese.weight > 0,
    )


def _load_export(path: Path, description: Mapping[str, Any]) -> Bundle:
    version = description.get("format_version")
    if version != 1:
        raise UserError(
            f"{path} has format version {version!r}, this lightxling {__version__} reads version 1"
        )
    if not isinstance(description.get("model"), dict):
        raise UserError(f"{path / DESCRIPTION} has no model; export it again")
    config = from_dict(ModelConfig, description["model"], "model.")
    validate(dataclasses.replace(Config(), model=config))
    for field, largest in _LARGEST.items():
        if getattr(config, field) > largest:
            raise UserError(f"model.{field}={getattr(config, field)} should be at most {largest}")
    _check_sizes(config.adapters)
    vocab_size, dimension = description.get("vocab_size"), description.get("dimension")
    for name, value in {"vocab_size": vocab_size, "dimension": dimension}.items():
        if type(value) is not int or value < 1:
            raise UserError(f"{name}={value!r} in {path / DESCRIPTION} should be a number")
    params = read_params(path / PARAMETERS, shapes(config, vocab_size, dimension))
    return Bundle(
        config,
        params,
        _read_tokenizer(path / TOKENIZER),
        _languages(description),
        _scores(description),
        description.get("leading") is True,
    )


def _check_sizes(adapters: Sequence[AdapterConfig]) -> None:
    if len(adapters) > _MOST_ADAPTERS or any(a.rank > _LARGEST_RANK for a in adapters):
        raise UserError(
            f"model.adapters should be at most {_MOST_ADAPTERS}, of rank {_LARGEST_RANK} or less"
        )


def write_params(path: Path, params: Params, metadata: Mapping[str, str]) -> None:
    """Writes arrays as a safetensors file."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(values) for name, values in params.items()}
    path.write_bytes(save(arrays, dict(metadata)))  # `save_file` lets nobody else read it


def read_params(path: Path, expected: Mapping[str, tuple[int, ...]]) -> Params:
    """Arrays of a safetensors file, if they are those that its configuration describes.

    The header is checked before an array is made: the file may come from a stranger.

    Raises:
      UserError: the file is missing, damaged, or holds other arrays or NaN.
    """
    import ml_dtypes  # noqa: F401, a part of jax: tells numpy what bfloat16 is

    with _open(path) as file:
        _check({name: file.get_slice(name) for name in file.keys()}, expected, path)  # noqa: SIM118
        params = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    _check_finite(params, str(path))
    return params


def _check_finite(params: Params, place: str) -> None:
    for name, values in params.items():
        if not np.isfinite(values).all():
            raise UserError(
                f"{place} has NaN or infinity in {name}, so that no sentence has a vector; take "
                "another checkpoint, or train again with a lower optimizer.learning_rate"
            )


def read_header(path: Path) -> dict[str, str]:
    """What a safetensors file says about itself.

    Raises:
      UserError: the file is missing or damaged.
    """
    with _open(path) as file:
        return file.metadata() or {}


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            yield file
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot read {path}: {reason}") from None
    except SafetensorError as error:
        raise UserError(
            f"{path} is damaged or no safetensors file ({error}); export it again"
        ) from None


def _check(given: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Compares the arrays that a file announces with those that it should hold."""
    names = {name for name in given if not name.endswith(".scales")}
    if names != expected.keys():
        odd = sorted(names ^ expected.keys())
        raise UserError(f"{path} does not fit its {DESCRIPTION}: see {', '.join(odd[:5])}")
    for name, shape in expected.items():
        found = tuple(given[name].get_shape())
        if found != shape:
            raise UserError(
                f"{path} does not fit its {DESCRIPTION}: {name} is {found}, not {shape}"
            )
        kind, scales = given[name].get_dtype(), given.get(f"{name}.scales")
        if kind not in ("F32", "F16", "BF16", "I8"):
            raise UserError(f"{path}: {name} is {kind}; parameters are floats or int8")
        rows = [shape[scale_axis(name)]] if len(shape) > 1 else []
        if (kind == "I8") != (scales is not None) or (
            scales is not None and (scales.get_shape() != rows or scales.get_dtype() != "F32")
        ):
            raise UserError(f"{path}: the scales of {name} do not fit it")
