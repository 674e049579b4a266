"""`lightxling report`: runs as one self-contained page.

`runs` reads what a run left behind and `sentences` asks its encoder about development sentences;
`about`, `curves`, `scores` and `examples` are the sections, drawn with `charts`, and `page` puts
them together in the frame of `page.html` and `style.css`. Nothing is loaded from anywhere when the
page is opened, and it runs no script.
"""

import shlex
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from lightxling.base.errors import UserError
from lightxling.base.files import check_output
from lightxling.evaluate.compare import unique_runs
from lightxling.evaluate.report import page, pieces, runs, sentences


def report(
    paths: Sequence[Path], output: Path, progress: Callable[[str], None] = lambda line: None
) -> None:
    """Writes a page about one run, or about several side by side.

    Sections whose data are gone (token store, checkpoints, scores) say so.

    Args:
      progress: receives a line of text now and then.

    Raises:
      UserError: a path is not a run, or its config.json is damaged.
    """
    paths = unique_runs(paths)
    if not paths:
        raise UserError("no run is given; lightxling report RUN -o report.html")
    check_output(output)
    read = [runs.read_trained(path) for path in paths]  # all, before minutes are spent on one
    shown = []
    for i, run in enumerate(read):
        letter = "" if len(read) == 1 else chr(ord("A") + i) if i < 26 else str(i + 1)
        shown.append(pieces.Shown(run, letter, i, *_views(run, progress)))
    words = ["lightxling", "report", *map(str, paths), "-o", str(output)]
    page.write_page(output, page.title_of(shown), page.body_of(shown, shlex.join(words)))


def _views(
    run: runs.TrainedRun, progress: Callable[[str], None]
) -> tuple[list[sentences.View], str]:
    """What the encoder of a run makes of development sentences, or why it cannot be asked."""
    if run.store is None:
        return [], f"there are no development sentences: {run.no_store}"
    if not run.store.dev.rows:
        return [], "the run has no development sentences"
    from lightxling.encode.encoder import Encoder

    try:
        found = sentences.of_store(run.store)
        if not found:
            return [], "no language pair has two development sentences"
        encoder = Encoder.load(run.path)
        progress(f"{run.name}: encoding {2 * sum(len(one.texts) for one in found):,} sentences")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # long sentences are cut, as in training
            return [sentences.look(one, encoder.encode) for one in found], ""
    except (UserError, ValueError, OSError) as error:
        return [], f"the encoder could not be asked: {error}"
