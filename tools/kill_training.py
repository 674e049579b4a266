"""Kills commands that go on where they were, again and again: do they end in the same numbers?

    python tools/kill_training.py
    python tools/kill_training.py --kills 10 --commands train modular quickstart

Every command is killed (kill -9) at random moments, started again, and so on until it ends; then
its encoders must have the same parameters, bit for bit, as those of a command that was left alone.
If that took fewer kills than asked for, another folder is begun. A checkpoint that was there and is
gone without a newer one, or damaged under the name of a whole one, and steps that the log has lost
before a checkpoint, count as lost. With anything lost or different the exit code is 1.
"""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kill_commands import campaign, fork, left_behind

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # compiles faster

SMALL = (
    *("--model.layers", "1", "--model.width", "16", "--model.heads", "2"),
    *("--model.feedforward", "16", "--tokenizer.vocab-size", "80"),
    *("--train.batch-size", "16", "--train.epochs", "1", "--train.log-every", "1"),
    *("--train.checkpoint-every", "3", "--train.dev-every", "4", "--corpus.dev-share", "0.1"),
)
COMMANDS = {
    "train": ("train", "light", "--workdir", "out", "--corpus.sources", "en-fr=pairs.tsv", *SMALL),
    "modular": (
        *("modular", "base", "--workdir", "out", "--sources", "en-fr=pairs.tsv", "--pivot", "en"),
        *("--vocab-size", "70", "--epochs", "0.5", "0.5", "0.5"),
    ),
    "quickstart": ("quickstart", "--workdir", "out"),
}


def shorten_quickstart() -> None:
    """Its model and its text are made as small as those of the others."""
    from lightxling.config.settings import change
    from lightxling.train import quickstart

    recipe = quickstart.load("quickstart")
    sizes = {"layers": 1, "width": 16, "heads": 2, "feedforward": 16, "max_length": 24}
    small = change(
        recipe,
        **{f"model__{name}": value for name, value in sizes.items()},
        tokenizer__vocab_size=400,
        train__pairs=16 * 12,
        train__batch_size=16,
        train__buckets=(24,),
        train__log_every=1,
        train__checkpoint_every=3,
        train__dev_every=4,
    )
    quickstart.load, quickstart.COMPOSED_SENTENCES = (lambda name: small), 300


def write_text(folder: Path) -> None:
    """Sentences with two translations each, and an encoder with random parameters."""
    from export_samples import bundle

    from lightxling.config.schema import TokenizerConfig
    from lightxling.corpus.tokenizer import train_tokenizer
    from lightxling.export.formats import write_format

    rng, lines = random.Random(0), []
    words = ["".join(rng.choices("fgklmnprst", k=3)) for _ in range(40)]
    for _ in range(80):
        chosen = rng.choices(words, k=rng.randint(4, 6))
        en, fr = (" ".join(word + last for word in chosen) for last in "ab")
        lines += [f"{en} x\t{fr}\n", f"{en}\t{fr}\n", f"{en}\t{fr} y\n"]
    (folder / "pairs.tsv").write_text("".join(lines))
    model = folder / "base.model"
    texts = [line.replace("\t", " ") for line in lines]
    train_tokenizer(texts, TokenizerConfig(model="unigram", vocab_size=80), model)
    (folder / "base").mkdir()
    small = bundle(model.read_bytes(), width=16, heads=2, feedforward=16, max_length=32)
    write_format(small, folder / "base", "safetensors")


def start(folder: Path, work: Callable[[], int]) -> int:
    """Forks a process that computes with jax; returns its number. The first process never does:
    a fork would leave its threads behind."""

    def compute() -> int:
        import jax

        jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        return work()

    return fork(folder, compute)


def wait(folder: Path, child: int) -> int:
    """How a process ended: 0, or -9 for one that was killed; anything else ends this program."""
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ended not in (0, -signal.SIGKILL):
        raise SystemExit(f"a command fails: {(folder / 'log').read_text()}")
    return ended


def runs_in(out: Path) -> list[Path]:
    return sorted(path.parent for path in out.rglob("checkpoints") if path.is_dir())


def encoders(folder: Path) -> dict[str, str]:
    """Checksums of the encoders of all runs in a folder."""

    def look() -> int:
        from lightxling.saved.bundle import load_bundle

        found = {
            f"{run} {which}": load_bundle(run, which).fingerprint()
            for run in runs_in(Path("out"))
            for which in ("best", "last")
        }
        Path("encoders").write_text(json.dumps(found))
        return 0

    wait(folder, start(folder, look))
    return json.loads((folder / "encoders").read_text())


def newest(out: Path) -> dict[str, int]:
    """Of every run, the step of its newest checkpoint; -1 where one that has its name is damaged,
    or where steps that the log has before it are gone."""
    from lightxling.saved import checkpoint
    from lightxling.saved.run import read_metrics

    found = {}
    for run in runs_in(out):
        steps = checkpoint.steps(run / "checkpoints")
        is_whole = all(checkpoint.is_whole(run / "checkpoints" / str(step)) for step in steps)
        last = steps[-1] if steps else 0
        logged = {record["step"] for record in read_metrics(run / "metrics.jsonl")[0]}
        is_logged = run.name == "out" and not set(range(1, last + 1)) <= logged
        found[str(run)] = last if is_whole and not is_logged else -1
    return found


def torture(name: str, kills: int) -> bool:
    """Prints a row; whether all was well."""

    def work() -> int:
        from lightxling.cli import main

        shorten_quickstart()
        return main(list(COMMANDS[name]))

    draw, done, runs, lost, different = random.Random(name), 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_text(folder)
        for _ in range(2):  # the second finds what the first has compiled
            shutil.rmtree(folder / "out", ignore_errors=True)
            began = time.monotonic()
            wait(folder, start(folder, work))
            seconds = time.monotonic() - began
        expected = encoders(folder)
        while done < kills:
            shutil.rmtree(folder / "out")
            runs, before, ended = runs + 1, {}, -signal.SIGKILL
            while ended:
                child = start(folder, work)
                if done < kills:
                    time.sleep(draw.uniform(0.1, 0.7) * seconds)
                    os.kill(child, signal.SIGKILL)
                ended = wait(folder, child)
                done += ended != 0
                after = newest(folder / "out")
                lost += sum(after.get(run, -1) < step for run, step in before.items())
                before = after
                print(f"{name}: {done} kills, run {runs}, {lost} lost", file=sys.stderr, flush=True)
            different += encoders(folder) != expected
        left = left_behind(folder / "out")
    print(f"| {name} | {done} | {runs} | {lost} | {different} | {left} |", flush=True)
    return not lost and not different


def main(argv: list[str] | None = None) -> int:
    import lightxling.train.loop
    import lightxling.train.modular
    import lightxling.train.quickstart
    import lightxling.train.specialise  # noqa: F401

    columns = "command, kills, whole runs, lost, different ends, hidden left"
    return campaign(__doc__, torture, COMMANDS, columns, argv)


if __name__ == "__main__":
    sys.exit(main())
