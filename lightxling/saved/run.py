"""What the folder of a run, or of an export, tells about itself: everything but parameters."""

import dataclasses
from pathlib import Path
from typing import Any

from lightxling.base.errors import UserError
from lightxling.base.files import read_json
from lightxling.saved.bundle import DESCRIPTION
from lightxling.saved.metrics import read_metrics
from lightxling.saved.results import Results, load_folder


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A folder, read once.

    Attributes:
      about: config.json as it is; of a run, `config` in it are the settings.
      records: of metrics.jsonl, in the order of their steps.
      damaged: lines of it that could not be read.
      results: of evaluation/*.json, by the name of the file without `.json`.
      damaged_results: names of those files that have no scores that can be read.
    """

    path: Path
    about: dict[str, Any]
    records: list[dict[str, int | float]]
    damaged: int
    results: dict[str, Results]
    damaged_results: list[str]

    @property
    def name(self) -> str:
        return self.path.absolute().name


def read_folder(path: Path) -> RunFolder:
    """Reads config.json, metrics.jsonl and evaluation/*.json; the last two may be missing.

    Raises:
      UserError: there is no config.json, it is damaged, or the scores are of several encoders.
    """
    if not (path / DESCRIPTION).is_file():
        raise UserError(
            f"{path} is not a run: it has no {DESCRIPTION}; give the folder that `lightxling "
            "train` or `lightxling export` wrote"
        )
    about = read_json(path / DESCRIPTION)
    records, damaged = read_metrics(path / "metrics.jsonl")
    found = load_folder(path / "evaluation")
    return RunFolder(
        path,
        about,
        records,
        damaged,
        {name: results for name, results in found.items() if results["results"]},
        [f"{name}.json" for name, results in found.items() if not results["results"]],
    )
