"""The folder of a run: what describes it, and whether it may be gone on with."""

import contextlib
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from lightxling.base import limits
from lightxling.base.errors import UserError
from lightxling.base.files import lock, parse_json
from lightxling.base.places import DESCRIPTION
from lightxling.base.tree import flatten
from lightxling.base.version import __version__
from lightxling.config.files import differences, from_dict, load, recipes, to_dict
from lightxling.config.plan import MAIN
from lightxling.config.schema import Config
from lightxling.config.settings import change
from lightxling.corpus.store import Store
from lightxling.model import build as models
from lightxling.saved.sums import settings_sum

LOCK = ".lock"


def commit() -> str | None:
    """The commit of the checkout this code runs from; None for an installed package, which may lie
    within a checkout of something else."""
    here = Path(__file__)

    def git(*words: str) -> str:
        command = ["git", "-C", str(here.parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)
        return git("rev-parse", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return None


def description(
    config: Config, store: Store, languages: Sequence[str], vocab_size: int, params
) -> dict:
    """Everything needed to repeat the run, as written to config.json."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "sentencepiece", "numpy")
    settings = to_dict(config)
    read = {
        "model": settings["model"],
        "languages": list(languages),
        "vocab_size": vocab_size,
        "unescape": config.corpus.unescape,
    }
    return {
        "config": settings,
        "languages": list(languages),
        "vocab_size": vocab_size,
        "sha256": {DESCRIPTION: settings_sum(read)},
        "parameters": {
            "encoder": models.count_parameters(params["encoder"]),
            "training": models.count_parameters(params),
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


@contextlib.contextmanager
def alone_in(workdir: Path) -> Iterator[None]:
    """Makes the folder and holds its lock: two processes in one would remove each other's files.

    Raises:
      UserError: the folder cannot be made or written to, or another process trains in it.
    """

    def refuse():
        raise UserError(
            f"another process is training in {workdir}; wait for its end, or give another --workdir"
        )

    with contextlib.ExitStack() as held:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            held.enter_context(lock(workdir / LOCK, refuse))
        except OSError as error:
            raise UserError(
                f"--workdir {workdir} is not a folder that can be written to ({error.strerror}); "
                "give another"
            ) from None
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # which would hide why the run ended
                if os.listdir(workdir) == [LOCK]:  # nothing came of it
                    (workdir / LOCK).unlink()
                    workdir.rmdir()


def as_begun(config: Config, workdir: Path, say: Callable[[str], None]) -> Config:
    """The settings with which a run goes on whose recipe has got new ones since.

    A setting that config.json does not have, as there was none, keeps its first default, where the
    recipe and not the command line asks for something else now.
    """
    path, shipped = workdir / DESCRIPTION, recipes()
    if not path.is_file() or config.name not in shipped:
        return config
    try:
        written = parse_json(path.read_bytes())["config"]
        begun = flatten(to_dict(from_dict(Config, written)))
    except (ValueError, KeyError, TypeError, UserError):
        return config  # which `refuse_another_run` says
    asked, recipe = flatten(to_dict(config)), flatten(to_dict(load(config.name)))
    kept = {
        name: begun[name]
        for name in asked.keys() - flatten(written).keys()
        if asked[name] == recipe.get(name) and begun.get(name, asked[name]) != asked[name]
    }
    for name, value in kept.items():
        say(f"{workdir} was begun before there was {name}: it goes on with {value}")
    return change(config, **{name.replace(".", "__"): value for name, value in kept.items()})


def as_fitted(config: Config, workdir: Path) -> Config:
    """The settings with the micro-batch that `train.memory` chose when the run was begun, perhaps
    on another machine: with another one, other dropout is drawn."""
    path, train = workdir / DESCRIPTION, config.train
    if not (train.memory and not train.micro_batch and path.is_file()):
        return config
    try:
        begun = from_dict(Config, parse_json(path.read_bytes())["config"]).train
    except (ValueError, KeyError, TypeError, UserError):
        return config  # which `refuse_another_run` says
    return change(config, train__micro_batch=begun.micro_batch if begun.memory else 0)


def _is_moved(key: str, before: Any, after: Any) -> bool:
    """Whether a setting names the same sources but for their paths."""
    if not key.endswith((".sources", "corpus.dev")) or not (before and after):
        return False
    return [text.partition("=")[0] for text in before] == [t.partition("=")[0] for t in after]


def refuse_another_run(
    workdir: Path,
    config: Config,
    *,
    frozen: Mapping[str, Any] | None = None,
    stores: Mapping[str, Store] | None = None,
) -> None:
    """Refuses to go on with a run whose mathematics would change; nothing is compared that is not
    known yet.

    Args:
      frozen: sha256 of the frozen encoders that the run asks, see `frozen.digests`.
      stores: of every task, the main one first.

    Raises:
      UserError: names the settings that differ, the tokenizer, the data, the teacher or the task.
    """

    def refusal(difference: str) -> UserError:
        return UserError(f"{workdir} was trained {difference}; choose another --workdir")

    path = workdir / "config.json"
    if not path.exists():
        return
    try:
        before = parse_json(limits.read_bytes(path))
        old = from_dict(Config, before["config"])
        tokenizer = before["store"]["tokenizer"]
        old_teacher = before.get("teacher", {}).get("sha256")
        old_miners, old_data = dict(before.get("miners", {})), dict(before.get("data", {}))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}); choose another --workdir") from error
    changed = differences(old, config)
    if old_data:  # the sentences are compared below, wherever they lie
        changed = {key: pair for key, pair in changed.items() if not _is_moved(key, *pair)}
    if own := [key for key in changed if key.endswith(".source.sha256")]:
        raise UserError(
            f"{workdir} was trained with another content of the file that defines "
            f"{own[0].removesuffix('.source.sha256')}, so its loss may be another; give that file "
            "(sha256 in config.json), or another --workdir"
        )
    if changed:
        table = "\n".join(f"  {key}: {a!r} -> {b!r}" for key, (a, b) in changed.items())
        raise UserError(
            f"{workdir} holds a run with other settings:\n{table}\n"
            "give the settings of that run to resume it, or another --workdir"
        )
    for name, store in (stores or {}).items():
        if name == MAIN and tokenizer != store.manifest["tokenizer"]["sha256"]:
            cause = "its corpus changed"
            if config.tokenizer.file and config.tokenizer.lowercase:
                cause = (
                    f"{config.tokenizer.file} changed, or the run was begun when it was not made "
                    "to fold case, and goes on with --tokenizer.lowercase False"
                )
            raise refusal(f"with another tokenizer than {store.tokenizer_path}: {cause}")
        if old_data.get(name, store.content) != store.content:
            raise refusal(
                f"on other sentences of the task {name}: its corpus or its dev pairs have changed"
            )
    for name, miner in frozen["miners"].items() if frozen else ():
        if old_miners.get(name) != miner:
            raise refusal(
                f"with hard negatives of the task {name} that another encoder found than what is "
                "now in objectives.ranking.mined_by"
            )
    if frozen and frozen["teacher"] != old_teacher:
        raise refusal(f"with another teacher than what is now in {config.teacher.source}")
