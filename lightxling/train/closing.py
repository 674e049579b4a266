"""What a run says at its end: what came of it, whether to go on, and what to type next."""

from pathlib import Path

from lightxling.config.schema import Config
from lightxling.evaluate.report.repeat import next_commands
from lightxling.saved.curve import best_point, dev_curve, verdict
from lightxling.saved.run import read_metrics


def outcome(config: Config, workdir: Path) -> str | None:
    """A line about a run that is at its end, from its metrics.jsonl; None without a measurement."""
    curve = dev_curve(read_metrics(workdir / "metrics.jsonl")[0])
    if not curve:
        return None
    step, _ = best_point(curve)
    told = f"the best is of step {step:,}, in {workdir / 'best'}"
    if config.train.best == "loss":
        told = f"{workdir / 'best'} has the step of the lowest dev loss"
    return f"dev P@1 {verdict(curve)}; {told}"


def what_next(config: Config, workdir: Path) -> str:
    """The commands that one types after a run."""
    return "\n".join(["next:", *next_commands(config, workdir)]).replace("\n", "\n  ")
