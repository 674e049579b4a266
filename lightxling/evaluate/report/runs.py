"""What a run directory tells: settings, curves, scores, and the corpus while its store is there."""

import dataclasses
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lightxling.base.errors import UserError
from lightxling.base.places import locate, results_of
from lightxling.base.shapes import Float
from lightxling.config.plan import MAIN
from lightxling.config.schema import Config
from lightxling.corpus.store import Store
from lightxling.saved import bundle
from lightxling.saved.results import Results, load_folder
from lightxling.saved.run import RunFolder, read_folder

DEV = "dev_p@1"
_NO_LOSS = re.compile(
    r"step|epoch|skipped|pairs|pairs/.*|.+/(steps|pairs)|dev_p@1.*|dev_candidates|pairs_per_second"
    r"|input_wait|padding|peak_memory|device_memory|learning_rate|grad_norm"
)
"""Names in metrics.jsonl of counts, measurements and scores."""


@dataclasses.dataclass(frozen=True)
class TrainedRun(RunFolder):
    """The folder of a run, with its settings and its corpus.

    Attributes:
      config: the settings that config.json has.
      store: the token store that it learnt from; None if it is gone, which `no_store` explains.
    """

    config: Config
    vocab_size: int
    languages: tuple[str, ...]
    store: Store | None
    no_store: str

    def measured(self, key: str) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
        """Pairs seen and the value, where a line has the key at all; a value that was not finite
        stays as NaN, a gap in the curve."""
        rows = [(one.get("pairs", np.nan), one[key]) for one in self.records if key in one]
        x, y = np.array(rows, float).reshape(-1, 2).T
        return x[np.isfinite(x)], y[np.isfinite(x)]

    @functools.cached_property
    def logged(self) -> list[str]:
        """Names in metrics.jsonl."""
        return list(dict.fromkeys(key for record in self.records for key in record))

    @property
    def losses(self) -> list[str]:
        """Names of all loss terms: what is not a count, a measurement or a score."""
        return [name for name in self.logged if not _NO_LOSS.fullmatch(name)]

    @property
    def dev_names(self) -> list[str]:
        """Language pairs with a dev score of their own."""
        return [key.removeprefix(f"{DEV}/") for key in self.logged if key.startswith(f"{DEV}/")]

    @property
    def last(self) -> dict[str, int | float]:
        return self.records[-1] if self.records else {}

    @functools.cached_property
    def start_results(self) -> dict[str, Results]:
        """Scores of the encoder that it started from, where they are kept; by the name of the file
        without `.json`."""
        start = self.config.train.init_from
        try:
            return load_folder(results_of(locate(start))) if start else {}
        except UserError:  # it is gone, or its folder has scores of several
            return {}

    @functools.cached_property
    def dev_candidates(self) -> dict[str, int]:
        """Dev pairs of each language pair: the candidates of its dev P@1."""
        return _rows(self.store, "dev_rows")

    @functools.cached_property
    def train_rows(self) -> dict[str, int]:
        """Training pairs of each language pair."""
        return _rows(self.store, "rows")

    @property
    def share_done(self) -> float | None:
        """Of the training that the settings ask for, from 0 to 1; None if nothing was logged."""
        train, last = self.config.train, self.last
        seen = last.get(f"{MAIN}/pairs", last.get("pairs"))
        goal = train.pairs // train.batch_size * train.batch_size
        if goal:
            return None if seen is None else min(seen / goal, 1.0)
        epoch = last.get("epoch")
        return None if epoch is None else min(epoch / train.epochs, 1.0)


def read_trained(path: Path) -> TrainedRun:
    """Reads a run; of config.json all must be in order, of the rest what is there is taken.

    Raises:
      UserError: it is not a run, its config.json is damaged, or its scores are of several encoders.
    """
    found, run = read_folder(path), bundle.read_run(path)
    store, no_store = _open_store(found.about)
    return TrainedRun(
        **vars(found),
        config=run.config,
        vocab_size=run.vocab_size,
        languages=run.languages,
        store=store,
        no_store=no_store,
    )


def _open_store(about: Mapping[str, Any]) -> tuple[Store | None, str]:
    path = about["store"].get("path") if isinstance(about.get("store"), dict) else None
    if not isinstance(path, str):
        return None, "config.json does not name the token store"
    try:
        store = Store.open(path, verify=False)  # sizes are checked; hashing takes minutes
        if store.manifest["tokenizer"]["sha256"] != about["store"].get("tokenizer"):
            return None, f"the token store {path} has another tokenizer than the run"
        _rows(store, "rows"), _rows(store, "dev_rows")
        return store, ""
    except UserError as error:
        return None, str(error)
    except (KeyError, TypeError, AttributeError):
        return None, f"the token store {path} is damaged"


def _rows(store: Store | None, key: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for group in store.groups if store else ():
        name = "-".join(group["languages"])
        counts[name] = counts.get(name, 0) + int(group[key])
    return {name: count for name, count in counts.items() if count}
