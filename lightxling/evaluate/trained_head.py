"""The inference head that a run has trained beside its encoder, in numpy."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lightxling.base.errors import UserError
from lightxling.base.places import find_model
from lightxling.base.shapes import Float, Real
from lightxling.base.tree import flatten
from lightxling.config.plan import tasks_of
from lightxling.model import parts
from lightxling.saved.bundle import read_run, read_run_params


@dataclasses.dataclass(frozen=True)
class Head:
    """Vectors of premises and of hypotheses, not normalised -> logits of `NLI_LABELS`."""

    weights: Mapping[str, np.ndarray]

    def __call__(
        self, premises: Real[np.ndarray, "N D"], hypotheses: Real[np.ndarray, "N D"]
    ) -> Float[np.ndarray, "N 3"]:
        return apply_head(self.weights, premises, hypotheses)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of its numbers: two runs may share an encoder that stays as it is, and not the head."""
        digest = hashlib.sha256()
        for name in sorted(self.weights):
            digest.update(f"{name} {self.weights[name].shape} ".encode())
            digest.update(np.ascontiguousarray(self.weights[name], np.float32).tobytes())
        return digest.hexdigest()


def inference_head(path: Path, checkpoint: str | int | None = None) -> Head:
    """The head of the first task of a run that has the objective `inference`.

    Raises:
      UserError: it is not a run, or none of its tasks has that objective.
    """
    folder, checkpoint = find_model(path, checkpoint)
    run = read_run(folder)
    tasks = [name for name, one in tasks_of(run.config).items() if one.objectives.inference.weight]
    if not tasks:
        raise UserError(
            f"{path} has no head for inference: no task of it has the objective inference with "
            "text. Leave --head out, which trains one on NAME.train.en.tsv"
        )
    params = read_run_params(run, "best" if checkpoint is None else str(checkpoint))
    own = parts.own(params, tasks[0])
    weights = {name: np.asarray(values) for name, values in flatten(own["inference"]).items()}
    return Head(weights)


def apply_head(
    weights: Mapping[str, np.ndarray],
    u: Real[np.ndarray, "N D"],
    v: Real[np.ndarray, "N D"],
) -> Float[np.ndarray, "N 3"]:
    """Logits of entailment, neutral and contradiction: tanh([u, v, |u - v|, u * v] W + b) V + c."""
    features = np.concatenate([u, v, np.abs(u - v), u * v], axis=1)
    hidden = np.tanh(features @ weights["hidden.kernel"] + weights["hidden.bias"])
    return hidden @ weights["out.kernel"] + weights["out.bias"]
