"""What encoding needs, read from a run or from an export: configuration, parameters, tokenizer,
languages; and lightxling's own format of an export, which is written here too."""

import dataclasses
import functools
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lightxling.base import limits
from lightxling.base.errors import UserError
from lightxling.base.extras import needed_by
from lightxling.base.files import read_json, write_json
from lightxling.base.places import DESCRIPTION, PARAMETERS, TOKENIZER, find_model
from lightxling.base.tree import flatten
from lightxling.base.version import __version__
from lightxling.config.files import from_dict
from lightxling.config.identity import identity_of
from lightxling.config.objective import is_stand_in
from lightxling.config.plan import tasks_of, training_in_words
from lightxling.config.rules import validate
from lightxling.config.schema import Config, ModelConfig
from lightxling.model.params import Params, shapes, sinusoids
from lightxling.saved.parameters import (
    check_finite_params,
    read_params,
    write_params,
)
from lightxling.saved.sentence_transformers import is_sentence_transformers, read_folder
from lightxling.saved.sums import check_sums, sums_of

BUNDLE_FORMAT = "lightxling"


@dataclasses.dataclass(frozen=True)
class Bundle:
    """An encoder as plain data.

    Attributes:
      config: of the model.
      params: flat dict of arrays, the encoder's only; `projection` [D, d], where there is one, is
        applied to the pooled vector.
      tokenizer: the bytes of a sentencepiece model, of a vocabulary of words, or of another
        program's tokenizer.json.
      languages: codes that the encoder was trained on.
      scores: what was measured, under any names; ends up in model cards.
      leading: whether the first numbers of a vector may stand alone, because it was trained so
        (objectives.ese) or they are principal components.
      training: how it was trained, a line for every stage; ends up in model cards.
      prompts: what is put before a text, by a name; that of the empty name always.
      cleans: whether texts are cleaned first, as those were that it was trained on. An encoder of
        another program was trained on texts as they are.
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
    prompts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cleans: bool = True

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
        stored = self.params["words"].dtype.name
        return "int4" if stored == "uint8" else stored

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
        if self.prompts or not self.cleans:
            said = [sorted(self.prompts.items()), self.cleans]
            digest.update(json.dumps(said).encode())
        update_digest(digest, self.params)
        return digest.hexdigest()


def update_digest(digest: Any, params: Params) -> None:
    """Adds names, types, shapes and numbers to an object of hashlib."""
    for name in sorted(params):
        array = params[name]
        digest.update(f"{name} {array.dtype.name} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8))


def load_bundle(path: str | os.PathLike[str] | None, checkpoint: str | int | None = None) -> Bundle:
    """Reads a run directory, one of its checkpoints, a `safetensors` export, or a folder of
    sentence-transformers, transformers or model2vec: of an encoder of ours, fine-tuned or not, or
    of another one.

    Args:
      path: or the name of an encoder in the package; None stands for the default.
      checkpoint: of a run: best (the default), last, or a step.

    Raises:
      UserError: nothing is there, it is damaged or has NaN, or it is an export for other programs.
    """
    path, checkpoint = find_model(path, checkpoint)
    if is_sentence_transformers(path):
        return _load_sentence_transformers(path, checkpoint)
    description = read_json(path / DESCRIPTION)
    if "config" in description:
        return _load_run(path, "best" if checkpoint is None else str(checkpoint))
    if description.get("format") != BUNDLE_FORMAT:
        raise UserError(
            f"{path} is not a run, nor an export that lightxling reads; exports for other programs "
            "open there, and `lightxling export RUN --format safetensors` writes one for here"
        )
    _refuse_checkpoint(path, checkpoint)
    return _load_export(path, description)


def _refuse_checkpoint(path: Path, checkpoint: str | int | None) -> None:
    if checkpoint is not None:
        raise UserError(f"{path} is an export and has no checkpoints; leave --checkpoint out")


def _load_sentence_transformers(path: Path, checkpoint: str | int | None) -> Bundle:
    _refuse_checkpoint(path, checkpoint)
    found = read_folder(path)
    _check_sizes(found.config)
    return Bundle(
        found.config,
        found.params,
        found.tokenizer,
        found.languages,
        prompts=found.prompts,
        cleans=found.cleans,
        unescape=found.unescape,
    )


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
    tokenizer_sha256: str = ""


def read_run(path: Path) -> Run:
    """Reads a run's description; no parameters.

    Raises:
      UserError: it is not a run, or damaged.
    """
    description = read_json(path / DESCRIPTION)
    if "config" not in description:
        raise UserError(f"{path} is not the folder of a run: its {DESCRIPTION} has no settings")
    settings = description["config"]
    model = settings.get("model") if isinstance(settings, dict) else None
    _check_adapter_count(model)
    config = from_dict(Config, settings)
    _check_sizes(config.model)
    validate(config)
    taught, store = description.get("teacher"), description.get("store")
    widths = {"teacher.width": taught.get("width") if isinstance(taught, dict) else 0}
    run = Run(
        path,
        config,
        _count(description, "vocab_size", path),
        language_codes(description.get("languages", []), path / DESCRIPTION),
        _count(widths, "teacher.width", path, least=0),
        str(store.get("tokenizer", "")) if isinstance(store, dict) else "",
    )
    read = {**description, "model": model, "unescape": config.corpus.unescape}
    sums = sums_of(path, read, DESCRIPTION)
    check_sums(path, description.get("sha256", {}), sums, DESCRIPTION)
    return run


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
    tokenizer = _read_tokenizer(path / TOKENIZER)
    if run.tokenizer_sha256 not in ("", hashlib.sha256(tokenizer).hexdigest()):
        raise UserError(
            f"{path / TOKENIZER} is damaged: it is not that of the run, which lies in its token "
            f"store too; see store in {path / DESCRIPTION}"
        )
    params = {name: np.asarray(values) for name, values in flatten(encoder).items()}
    check_finite_params(params, f"checkpoint {checkpoint} of {path}")
    if model.sinusoidal:  # where an encoder is used, they are a table like any
        if model.positions:
            params["positions"] = sinusoids(model.max_length, model.width)
        model = dataclasses.replace(model, sinusoidal=False)
    return Bundle(
        model,
        params,
        tokenizer,
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
    bundle = Bundle(
        config,
        params,
        tokenizer,
        language_codes(description.get("languages", []), path / DESCRIPTION),
        _scores(description),
        description.get("leading") is True,
        _training(description),
        prompts=_texts(description.get("prompts")),
        cleans=description.get("cleans") is not False,
        unescape=description.get("unescape") is not False,
    )
    sums = sums_of(path, description, DESCRIPTION, PARAMETERS, TOKENIZER)
    check_sums(path, description.get("sha256", {}), sums, DESCRIPTION)
    return bundle


def _texts(said: Any) -> dict[str, str]:
    """Texts by their names; what is something else is left out."""
    listed = said.items() if isinstance(said, Mapping) else ()
    return {str(name): text for name, text in listed if isinstance(text, str)}


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
        **({"prompts": dict(bundle.prompts)} if bundle.prompts else {}),
        **({} if bundle.cleans else {"cleans": False}),
    }
    description["sha256"] = sums_of(folder, description, DESCRIPTION, PARAMETERS, TOKENIZER)
    write_json(folder / DESCRIPTION, description)
