"""The folder of a run: what describes it, and whether it may be gone on with."""

import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from lightxling import __version__
from lightxling.config import Config, UserError, differences, from_dict, to_dict
from lightxling.corpus.store import Store
from lightxling.files import parse_json
from lightxling.model import build as models


def commit() -> str | None:
    """The commit of the checkout this code runs from; None for an installed package."""
    here = Path(__file__).parent
    try:
        git = ["git", "-C", str(here), "rev-parse", "HEAD"]
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def describe(
    config: Config, store: Store, languages: Sequence[str], vocab_size: int, params
) -> dict:
    """Everything needed to repeat the run, as written to config.json."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "sentencepiece", "numpy")
    return {
        "config": to_dict(config),
        "languages": list(languages),
        "vocab_size": vocab_size,
        "parameters": {
            "encoder": models.count(params["encoder"]),
            "training": models.count(params),
        },
        "store": {"path": str(store.path), "tokenizer": store.manifest["tokenizer"]["sha256"]},
        "versions": {
            "lightxling": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in packages},
        },
        "commit": commit(),
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    }


def check_workdir(workdir: Path, config: Config, store: Store, frozen: Mapping[str, Any]) -> None:
    """Refuses to go on with a run whose mathematics would change.

    Args:
      frozen: sha256 of the trained encoders that the run asks, see `tasks.digests`.

    Raises:
      UserError: names the settings that differ, the tokenizer, the teacher or the task.
    """
    path = workdir / "config.json"
    if not path.exists():
        if workdir.exists() and not workdir.is_dir():
            raise UserError(f"--workdir {workdir} is a file; give a folder")
        return
    try:
        before = parse_json(path.read_bytes())
        old = from_dict(Config, before["config"])
        tokenizer = before["store"]["tokenizer"]
        old_teacher = before.get("teacher", {}).get("sha256")
        old_miners = dict(before.get("miners", {}))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}); choose another --workdir") from error
    changed = differences(old, config)
    if changed:
        table = "\n".join(f"  {key}: {a!r} -> {b!r}" for key, (a, b) in changed.items())
        raise UserError(
            f"{workdir} holds a run with other settings:\n{table}\n"
            "give the settings of that run to resume it, or another --workdir"
        )
    if tokenizer != store.manifest["tokenizer"]["sha256"]:
        raise UserError(
            f"{workdir} was trained with another tokenizer than {store.tokenizer_path}; "
            "its corpus has changed. Choose another --workdir"
        )
    for name, miner in frozen["miners"].items():
        if old_miners.get(name) != miner:
            raise UserError(
                f"the hard negatives of the task {name} of {workdir} were found by another encoder "
                "than what is now in objectives.ranking.mined_by; choose another --workdir"
            )
    if frozen["teacher"] != old_teacher:
        raise UserError(
            f"{workdir} was trained with another teacher than what is now in "
            f"{config.teacher.source}; choose another --workdir"
        )
