"""The folder of a run: what describes it, and whether it may be gone on with."""

import json
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import jax

from lightxling import __version__
from lightxling.config import Config, UserError, differences, from_dict, to_dict
from lightxling.corpus.store import Store
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


def check_workdir(workdir: Path, config: Config, store: Store, teacher: str | None = None) -> None:
    """Refuses to go on with a run whose mathematics would change.

    Args:
      teacher: sha256 of the teacher, where there is one.

    Raises:
      UserError: names the settings that differ, the tokenizer or the teacher.
    """
    path = workdir / "config.json"
    if not path.exists():
        if workdir.exists() and not workdir.is_dir():
            raise UserError(f"--workdir {workdir} is a file; give a folder")
        return
    try:
        before = json.loads(path.read_text())
        old = from_dict(Config, before["config"])
        tokenizer = before["store"]["tokenizer"]
        old_teacher = before.get("teacher", {}).get("sha256")
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
    if teacher != old_teacher:
        raise UserError(
            f"{workdir} was trained with another teacher than what is now in "
            f"{config.teacher.source}; choose another --workdir"
        )
