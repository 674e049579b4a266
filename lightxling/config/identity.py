"""What of some settings counts where they are an identity: of an encoder, a store, a kept score.

Identities outlive the code that made them: adapters name the encoder that they belong to by its
checksum, stores and kept scores are found by theirs. So they are not made of the settings that
there are now, but of the frozen tables below, and a file format:

- what stands in `VERSION_1` counts whatever its value;
- of what came since, `SINCE`, only what differs from its first default counts, so that a new
  setting changes no identity. A file that does not have it means its first default, too, whatever
  the default is now;
- a setting that is taken away stays in its table, and counts with its first default.

A new setting is written into `SINCE`, a new class with all its fields into `VERSION_1`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

# fmt: off
VERSION_1: dict[str, dict[str, Any]] = {
    "Config": {
        "name": "", "corpus": ..., "tokenizer": ..., "model": ..., "objectives": ...,
        "teacher": ..., "optimizer": ..., "train": ..., "mesh": ..., "tasks": (),
    },
    "CorpusConfig": {
        "sources": (), "dev": (), "dev_share": 0.01, "dev_limit": 2000, "unescape": True,
        "max_chars": 400, "max_ratio": 4.0, "deduplicate": True, "store": "stores",
    },
    "TokenizerConfig": {
        "model": "bpe", "vocab_size": 50_000, "hash_buckets": 10_000, "lowercase": True,
        "character_coverage": 0.9995, "byte_fallback": False, "sample": 1_000_000, "sampling": 1.0,
        "file": "",
    },
    "ModelConfig": {
        "layers": 2, "width": 512, "heads": 8, "feedforward": 1024, "embedding_width": 0,
        "ngrams": 0, "max_length": 200, "activation": "swish", "positions": True,
        "sinusoidal": False, "pooling": "mean", "dropout": 0.1, "init": "reference",
        "identical_layers": True, "compute_dtype": "float32", "adapters": (),
    },
    "AdapterConfig": {
        "name": "", "kind": "parallel", "reduction": 2, "scale": 4.0, "rank": 16, "alpha": 32.0,
        "targets": ("q", "v"),
    },
    "ObjectivesConfig": {
        "tokens": ..., "mlm": ..., "align": ..., "similarity": ..., "soft": ..., "regression": ...,
        "pivot": ..., "ese": ..., "ranking": ..., "quick_thought": ..., "inference": ...,
        "sts": ...,
    },
    "TokensConfig": {
        "weight": 1.0, "kind": "ugt", "duplicates": "fill", "mlm_overwrite": True,
        "xtr_from": "masked", "mask_inputs": True, "maskable": "words", "language_width": 0,
        "decoder": "tied", "decoder_bias": True, "vocab_block": 8192,
    },
    "MlmConfig": {"weight": 0.0, "share": 0.15, "mask": 0.8, "random": 0.1, "vocab_block": 8192},
    "AlignConfig": {
        "weight": 2.0, "directions": "both", "similarity": "dot", "temperature": 1.0,
        "margin": 0.0, "projection": 0,
    },
    "SimilarityConfig": {"weight": 2.0, "reduction": "sum", "eps": 1e-5},
    "SoftConfig": {
        "weight": 0.0, "labels": "priority", "loss": "cross-entropy", "targets": "softmax",
        "temperature": 0.1, "teacher_temperature": 0.0, "cross": 1.0, "tcm": False,
        "tcm_double": True, "margin": 0.0,
    },
    "RegressionConfig": {"weight": 0.0},
    "PivotConfig": {"weight": 0.0, "loss": "contrastive", "temperature": 0.05},
    "EseConfig": {
        "weight": 0.0, "dimensions": 128, "compression": 1.0, "temperature": 1.0,
        "published_index": False,
    },
    "RankingConfig": {
        "weight": 0.0, "direction": "backward", "head": 0, "similarity": "dot", "scale": 1.0,
        "margin": 0.0, "exclude_positive": False, "negatives": 0, "mined_by": "",
        "mined_among": 65_536, "shared_negatives": False,
    },
    "QuickThoughtConfig": {"weight": 0.0, "hidden": 320},
    "InferenceConfig": {"weight": 0.0, "hidden": 512},
    "StsConfig": {"weight": 0.0, "highest": 5.0},
    "TaskConfig": {"name": "", "share": 1.0, "sources": (), "batch_size": 0, "objectives": ...},
    "TeacherConfig": {"source": "", "text": "", "prefix": "", "priority": ("en",)},
    "OptimizerConfig": {
        "name": "amsgrad", "learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8,
        "l2": 1e-5, "weight_decay": 0.0, "clip": 0.0, "embedding_gradient": 1.0,
        "warmup_steps": 1999, "schedule": "step", "decay_epoch": 3, "decay_factor": 0.1,
    },
    "TrainConfig": {
        "epochs": 12.0, "pairs": 0, "batch_size": 128, "micro_batch": 0,
        "buckets": (8, 12, 16, 24, 32, 48, 64, 96, 128, 200), "sampling_temperature": 1.0,
        "batch_languages": "mixed", "pad_last": "drop", "share": 1.0, "task_order": "cycle",
        "init_from": "", "trainable": (), "seed": 0, "skip_nonfinite": 0, "profile_steps": 0,
        "log_every": 20, "dev_every": 250, "checkpoint_every": 500, "keep": 2,
    },
    "MeshConfig": {"data": 0, "model": 1},
    # the settings of `lightxling evaluate` that count for a task
    "evaluate retrieval": {"scoring": "cosine"},
    "evaluate ranking": {"among": 1000, "product": "dot"},
    "evaluate tatoeba": {"scoring": "cosine"},
    "evaluate europarl": {
        "scoring": "cosine", "queries": 2000, "candidates": 200_000, "lowercase": True,
    },
    "evaluate bucc": {"margin": "ratio", "direction": "max", "neighbours": 4},
    "evaluate classification": {
        "head": "mlp", "train_language": "en", "seeds": 5, "epochs": 0, "few_shot": 0.0,
        "documents": "sentences",
    },
    "evaluate mldoc": {
        "head": "mlp", "train_language": "en", "seeds": 5, "epochs": 0, "few_shot": 0.0,
        "documents": "sentences",
    },
    "evaluate nli": {
        "head": "mlp", "train_language": "en", "seeds": 5, "epochs": 0, "few_shot": 0.0,
    },
    "evaluate sts": {"similarity": "cosine"},
}
"""The settings of lightxling 0.1 with their defaults then; ... is a part, which has a table."""
# fmt: on

SINCE: dict[str, dict[str, Any]] = {}
"""Later settings with their first defaults; that of a part is its plain values."""


def first_defaults(kind: str) -> dict[str, Any]:
    """First default of every setting of a class that is in the tables, as plain values."""
    first = VERSION_1.get(kind, {}) | SINCE.get(kind, {})
    return {name: _plain(value) for name, value in first.items() if value is not ...}


def counting(kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What counts of the settings of a class, as plain values in the order of the tables."""
    always, first = VERSION_1.get(kind, {}), first_defaults(kind)
    whole = dict.fromkeys(always) | first | {name: _plain(now) for name, now in values.items()}
    return {
        name: value
        for name, value in whole.items()
        if name in always or name not in first or value != first[name]
    }


def renewed(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a file as its class has them now.

    What the file does not have, as it came later, has its first default; what was taken away since
    is left out if it has that.
    """
    names, first = {field.name for field in dataclasses.fields(kind)}, first_defaults(kind.__name__)
    later = {name: value for name, value in first.items() if name in names}
    return later | {
        name: value
        for name, value in values.items()
        if name in names or name not in first or value != first[name]
    }


def identity(settings: Any) -> dict[str, Any]:
    """What counts of a dataclass of settings and of its parts, as plain values."""
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return counting(type(settings).__name__, values)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return identity(value)
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
