"""What encoding needs, read from a run or from an export: configuration, parameters, tokenizer,
languages; and lightxling's own format of an export, which is written here too."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lightxling.base import limits
from lightxling.base.errors import UserError
from lightxling.base.extras import needed_by
from lightxling.base.files import file_sha256, read_json, write_json
from lightxling.base.places import DESCRIPTION, PARAMETERS, TOKENIZER, find_model
from lightxling.base.tree import flatten
from lightxling.base.version import __version__
from lightxling.config.files import from_dict
from lightxling.config.identity import identity_of
from lightxling.config.objective import is_stand_in
from lightxling.config.plan import tasks_of, training_in_words
from lightxling.config.rules import validate
from lightxling.config.schema import Config, ModelConfig
from lightxling.model.params import Params, scale_axis, shapes, sinusoids

BUNDLE_FORMAT = "lightxling"


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
      training: how it was trained, a line for every stage; ends up in model cards.
      unescape: whether HTML entities were resolved in the text that it was trained on
        (corpus.unescape), and so they are in use.
    """

    config: ModelConfig
    params: Params
    tokenizer: bytes
    languages: tuple[str, ...] = ()
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    leading: bool = False
    training: tuple[str, ...] = ()
    unescape: bool = True

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
        settings = identity_of(self.config)
        if not self.config.adapters:
            del settings["adapters"]  # which earlier encoders did not have
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        digest.update(hashlib.sha256(self.tokenizer).digest())
        if not self.unescape:  # others are as they were before there was a choice
            digest.update(b"entities stay")
        update_digest(digest, self.params)
        return digest.hexdigest()


def update_digest(digest: Any, params: Params) -> None:
    """Adds names, types, shapes and numbers to an object of hashlib."""
    for name in sorted(params):
        array = params[name]
        digest.update(f"{name} {array.dtype.name} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8))


def load_bundle(path: str | os.PathLike[str] | None, checkpoint: str | int | None = None) -> Bundle:
    """Reads a run directory, one of its checkpoints, or a `safetensors` export.

    Args:
      path: or the name of an encoder in the package; None stands for the default.
      checkpoint: of a run: best (the default), last, or a step.

    Raises:
      UserError: nothing is there, it is damaged or has NaN, or it is an export for other programs.
    """
    path, checkpoint = find_model(path, checkpoint)
    description = read_json(path / DESCRIPTION)
    if "config" in description:
        return _load_run(path, "best" if checkpoint is None else str(checkpoint))
    if description.get("format") != BUNDLE_FORMAT:
        raise UserError(
            f"{path} is not a run, nor an export that lightxling reads; exports for other programs "
            "open there, and `lightxling export RUN --format safetensors` writes one for here"
        )
    if checkpoint is not None:
        raise UserError(f"{path} is an export and has no checkpoints; leave --checkpoint out")
    return _load_export(path, description)


def _read_tokenizer(path: Path) -> bytes:
    try:
        return limits.read_bytes(path, limits.TOKENIZER)
    except OSError as error:
        raise UserError(f"cannot read the tokenizer {path}: {error.strerror}") from None


def _check_adapter_count(model: Any) -> None:
    """Looks at a list of adapters before any of them is looked at."""
    adapters = model.get("adapters") if isinstance(model, dict) else None
    if isinstance(adapters, list) and len(adapters) > limits.ADAPTERS:
        raise UserError(
            f"model.adapters has {len(adapters):,}; it should be at most {limits.ADAPTERS:,}"
        )


def _check_sizes(config: ModelConfig) -> None:
    """Refuses what would fill the memory before it could be compared with a file.

    Raises:
      UserError: a size is beyond `limits`.
    """
    for field, largest in limits.LARGEST.items():
        if getattr(config, field) > largest:
            raise UserError(f"model.{field}={getattr(config, field)} should be at most {largest}")
    adapters = config.adapters
    if any(one.rank > limits.RANK for one in adapters):
        raise UserError(f"model.adapters should be of rank {limits.RANK} or less")
    if config.layers * len(adapters) > limits.ADAPTED:
        raise UserError(
            f"{len(adapters)} model.adapters in {config.layers} model.layers are too many; their "
            f"product should be at most {limits.ADAPTED}"
        )


def language_codes(codes: Any, path: Path) -> tuple[str, ...]:
    """The languages that a file names, if they are codes.

    Raises:
      UserError: they are not.
    """
    if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
        raise UserError(
            f"{path} is damaged (languages={codes!r:.100} should be a list of codes); export "
            "or copy it again"
        )
    return tuple(codes)


def _count(description: Mapping[str, Any], name: str, path: Path, least: int = 1) -> int:
    value = description.get(name)
    if type(value) is not int or value < least:
        raise UserError(f"{name}={value!r} in {path / DESCRIPTION} should be a number")
    return value


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


def _training(description: Mapping[str, Any]) -> tuple[str, ...]:
    """What an export says of its training; earlier ones say nothing."""
    told = description.get("training")
    return tuple(map(str, told)) if isinstance(told, list) else ()


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
      UserError: it is not a run, or damaged.
    """
    description = read_json(path / DESCRIPTION)
    if "config" not in description:
        raise UserError(f"{path} is not the folder of a run: its {DESCRIPTION} has no settings")
    settings = description["config"]
    _check_adapter_count(settings.get("model") if isinstance(settings, dict) else None)
    config = from_dict(Config, settings)
    _check_sizes(config.model)
    validate(config)
    taught = description.get("teacher")
    widths = {"teacher.width": taught.get("width") if isinstance(taught, dict) else 0}
    return Run(
        path,
        config,
        _count(description, "vocab_size", path),
        language_codes(description.get("languages", []), path / DESCRIPTION),
        _count(widths, "teacher.width", path, least=0),
    )


def read_run_params(run: Run, checkpoint: str) -> dict[str, Any]:
    """All parameters of a run, heads included, as the tree of `lightxling.model.parts`."""
    with needed_by(f"the run {run.path} (an export does not)"):
        import jax

        from lightxling.objectives.combine import initialise_tasks
        from lightxling.saved.checkpoint import load_params

    initialise = functools.partial(
        initialise_tasks,
        run.config,
        run.vocab_size,
        languages=len(run.languages),
        teacher_width=run.teacher_width,
    )
    shapes = jax.eval_shape(initialise, jax.random.key(0))
    # the heads of an objective whose file is not at hand stay where they are
    tasks = tasks_of(run.config).values()
    partial = any(is_stand_in(one) for t in tasks for one in t.objectives.active().values())
    return load_params(run.path, checkpoint, shapes, partial=partial)[0]


def _load_run(path: Path, checkpoint: str) -> Bundle:
    run = read_run(path)
    encoder, model = read_run_params(run, checkpoint)["encoder"], run.config.model
    params = {name: np.asarray(values) for name, values in flatten(encoder).items()}
    _check_finite(params, f"checkpoint {checkpoint} of {path}")
    if model.sinusoidal:  # where an encoder is used, they are a table like any
        if model.positions:
            params["positions"] = sinusoids(model.max_length, model.width)
        model = dataclasses.replace(model, sinusoidal=False)
    return Bundle(
        model,
        params,
        _read_tokenizer(path / TOKENIZER),
        run.languages,
        leading=run.config.objectives.ese.weight > 0,
        training=training_in_words(run.config),
        unescape=run.config.corpus.unescape,
    )


def _load_export(path: Path, description: Mapping[str, Any]) -> Bundle:
    version = description.get("format_version")
    if version != 1:
        raise UserError(
            f"{path} has format version {version!r}, this lightxling {__version__} reads version 1"
        )
    if not isinstance(description.get("model"), dict):
        raise UserError(f"{path / DESCRIPTION} has no model; export it again")
    _check_adapter_count(description["model"])
    config = from_dict(ModelConfig, description["model"], "model.")
    _check_sizes(config)
    validate(dataclasses.replace(Config(), model=config))
    vocab_size, dimension = (_count(description, n, path) for n in ("vocab_size", "dimension"))
    params = read_params(path / PARAMETERS, shapes(config, vocab_size, dimension))
    tokenizer = _read_tokenizer(path / TOKENIZER)
    _check_sums(path, description)
    return Bundle(
        config,
        params,
        tokenizer,
        language_codes(description.get("languages", []), path / DESCRIPTION),
        _scores(description),
        description.get("leading") is True,
        _training(description),
        description.get("unescape") is not False,
    )


def _check_sums(path: Path, description: Mapping[str, Any]) -> None:
    """Compares the files of an export with their sha256, which those made before do not have."""
    sums = description.get("sha256", {})
    if not isinstance(sums, dict):
        raise UserError(f"sha256 in {path / DESCRIPTION} should be by name; export it again")
    for name in (PARAMETERS, TOKENIZER):
        if name in sums and sums[name] != file_sha256(path / name):
            raise UserError(
                f"{path / name} is damaged: its sha256 is not the one in {DESCRIPTION}; export or "
                "copy it again"
            )


def write_bundle(bundle: Bundle, folder: Path) -> None:
    """Writes the files of an export into a folder that exists."""
    write_params(folder / PARAMETERS, bundle.params, {"format": BUNDLE_FORMAT})
    (folder / TOKENIZER).write_bytes(bundle.tokenizer)
    description = {
        "format": BUNDLE_FORMAT,
        "format_version": 1,
        "lightxling": __version__,
        "dtype": bundle.dtype,
        "dimension": bundle.dimension,
        "leading": bundle.leading,
        "vocab_size": bundle.vocab_size,
        "languages": list(bundle.languages),
        "model": dataclasses.asdict(bundle.config),
        "scores": dict(bundle.scores),
        "training": list(bundle.training),
        "unescape": bundle.unescape,
        "sha256": {name: file_sha256(folder / name) for name in (PARAMETERS, TOKENIZER)},
    }
    write_json(folder / DESCRIPTION, description)


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
        limits.check_parameters(path)
        with safe_open(path, framework="np") as file:
            yield file
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot read {path}: {reason}") from None
    except SafetensorError as error:
        raise UserError(
            f"{path} is damaged or not a safetensors file ({error}); export it again"
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
