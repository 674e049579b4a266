"""What a run shows and leaves behind: the live line, metrics.jsonl, TensorBoard events."""

import datetime
import json
import math
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from lightxling.saved.run import forget_after, number

DAY = 24 * 3600


def peak_memory() -> int | None:
    """Largest resident size of this process so far, in bytes; None where the system has no such
    count, as Windows."""
    try:
        import resource
    except ModuleNotFoundError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Progress:
    """Writes one object per logged step, and keeps the live line of a terminal.

    Where the output is not a terminal, a line is printed at every measurement on dev instead.
    """

    def __init__(
        self, workdir: Path | None, *, start: int, stop: int, console: Console | None = None
    ):
        """
        Args:
          workdir: None: nothing is written, as in all processes but the first.
        """
        self.console = console or Console(highlight=False)
        self.file = self.events = None
        if workdir is not None:
            from tensorboardX import SummaryWriter

            path = workdir / "metrics.jsonl"
            forget_after(path, start or -1)  # the score of the start is measured again
            self.file = path.open("a", buffering=1, encoding="utf-8", newline="\n")
            self.events = SummaryWriter(str(workdir), purge_step=start + 1)
        self.bar = Bar(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=self.console,
            speed_estimate_period=DAY,  # the default forgets steps that are older than 30 s
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task("train", total=stop, completed=start, text="compiling")
        self.begun, self.start, self.stop = time.monotonic(), start, stop

    def __enter__(self) -> "Progress":
        self.bar.start()
        return self

    def __exit__(self, *_) -> None:
        self.bar.stop()
        if self.file:
            self.file.close()
            self.events.close()

    def say(self, message: str) -> None:
        """Prints a line above the live one."""
        self.console.print(message, markup=False, soft_wrap=True)

    def show(self, text: str) -> None:
        """Changes the text of the live line until the next record."""
        self.bar.update(self.task, text=text)

    def log(self, record: dict[str, float | int], terms: list[str]) -> None:
        """Appends a record; `terms` names the loss terms to show on the live line."""
        if self.file:
            finite = {k: v if math.isfinite(v) else None for k, v in record.items()}
            self.file.write(json.dumps(finite) + "\n")
            for name, value in record.items():
                if name != "step":
                    self.events.add_scalar(name, value, record["step"])
        shown = dict.fromkeys(["loss", *terms]) if len(terms) > 1 else ["loss"]
        text = "  ".join(f"{name} {number(record[name])}" for name in shown if name in record)
        if "pairs_per_second" in record:
            text = f"{record['pairs_per_second']:,.0f} pairs/s  {text}"
        self.bar.update(self.task, completed=record["step"], text=text)
        if "dev_p@1" in record:
            left = "" if self.bar.disable is False else self._left(record["step"])
            loss = f"dev loss {number(record['dev_loss'])}" if "dev_loss" in record else ""
            parts = [text, f"dev P@1 {record['dev_p@1']:.1f}{among(record)}", loss, left]
            self.say(f"step {record['step']:,}: {'  '.join(filter(None, parts))}")

    def _left(self, step: int) -> str:
        """The time until the last step, at the pace so far; nothing where there is none."""
        if not self.start < step < self.stop:
            return ""
        pace = (time.monotonic() - self.begun) / (step - self.start)
        return f"{datetime.timedelta(seconds=round(pace * (self.stop - step)))} left"


def among(record: dict[str, float | int]) -> str:
    """The number of candidates of a dev P@1, in words."""
    size = record.get("dev_candidates", 0)
    if not size:
        return ""
    return f" among {size:,.0f}" if size == int(size) else f" among {size:,.0f} on average"
