"""What of some settings counts where they are an identity: of an encoder, a store, a kept score.

Identities outlive the code that made them: adapters name the encoder that they belong to by its
checksum, stores and kept scores are found by theirs. So they are a file format, not made of the
settings that there are now:

- what stands in `VERSION_1` counts whatever its value;
- of what came since, only what differs from its first default counts, so that a new setting or part
  changes no identity. That is the default in its class, and nothing is to be written here;
- a later setting whose default is changed, or that is taken away, gets its first default written
  into `SINCE`. A file that does not have it means that one, whatever the default is now;
- a setting that is taken away stays in its table; one of `VERSION_1` goes on counting.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

# fmt: off
_HEAD = {"head": "mlp", "train_language": "en", "seeds": 5, "epochs": 0, "few_shot": 0.0}
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
    "evaluate classification": _HEAD | {"documents": "sentences"},
    "evaluate mldoc": _HEAD | {"documents": "sentences"},
    "evaluate nli": _HEAD,
    "evaluate sts": {"similarity": "cosine"},
}
"""The settings of lightxling 0.1 with their defaults then; ... is a part, which has a table."""
# fmt: on

SINCE: dict[str, dict[str, Any]] = {"CorpusConfig": {"length_unit": "characters"}}
"""First defaults of later settings that have another one now, or are gone; plain values."""


def first_defaults(kind: type, table: str = "") -> dict[str, Any]:
    """First default of every setting of a class, as a plain value; parts of version 1 have none.

    Args:
      table: where the class stands in the tables, if not under its name.
    """
    now = {field.name: field.default for field in dataclasses.fields(kind)}
    first = now | _written(kind, table)
    return {name: _plain(value) for name, value in first.items() if value is not ...}


def counting(kind: type, values: Mapping[str, Any], table: str = "") -> dict[str, Any]:
    """What counts of the settings of a class, as plain values: first what always does, in the order
    of its table, then the others by their names."""
    always, first = VERSION_1.get(table or kind.__name__, {}), first_defaults(kind, table)
    whole = dict.fromkeys(always) | first | {name: _plain(now) for name, now in values.items()}
    later = sorted(name for name in whole.keys() - always if whole[name] != first[name])
    return {name: whole[name] for name in (*always, *later)}


def renewed(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a file as its class has them now.

    What the file does not have, as it came later, has its first default; what was taken away since
    is left out if it has that.
    """
    names = {field.name for field in dataclasses.fields(kind)}
    first = {name: _plain(now) for name, now in _written(kind).items() if now is not ...}
    later = {name: value for name, value in first.items() if name in names}
    return later | {
        name: value
        for name, value in values.items()
        if name in names or name not in first or value != first[name]
    }


def identity_of(settings: Any) -> dict[str, Any]:
    """What counts of a dataclass of settings and of its parts, as plain values."""
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return counting(type(settings), values)


def _written(kind: type, table: str = "") -> dict[str, Any]:
    table = table or kind.__name__
    return VERSION_1.get(table, {}) | SINCE.get(table, {})


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return identity_of(value)
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
