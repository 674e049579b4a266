"""Gives every option of every command values that it should not have: is each refused in words?

    python tools/wrong_inputs.py
    python tools/wrong_inputs.py --commands encode mine --all

The options are those of the tables that the commands themselves read. Each gets, one at a time, an
empty value, negative, huge and infinite numbers, words where a number is asked for, and a path that
does not exist, that is a folder, that is a file of random bytes. Training ends where its first step
would be compiled, the server where it would answer. A command line may be refused (exit code 2 and
one message) or be taken, where the value does mean something. Prints how many were; with `--all`,
each that was taken. Wrong are a traceback, another exit code, a message without a word of the
option or its value, more than a minute, and files that a refused command left behind. With any, the
exit code is 1.
"""

import argparse
import collections
import contextlib
import inspect
import io
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

SLOW = 60
"""Seconds of computing."""
MEMORY = 8 << 30
NUMBERS = ("-1", "0", "-0.5", "99999999999999999999", "1e400", "nan", "true")
WORDS = ("", " ", "some words", "missing/place", "folder", "random.bin", "ü" * 300, "a\nb")
VALUES = (*NUMBERS, *WORDS)
SMALL = (
    *("--corpus.sources", "en-fr=pairs.tsv", "--model.layers", "1", "--model.width", "16"),
    *("--model.heads", "2", "--model.feedforward", "16", "--tokenizer.vocab-size", "40"),
    *("--train.batch-size", "8", "--train.epochs", "1", "--train.pairs", "0"),
)
BASES = {
    "quickstart": (),
    "prepare": ("light", *SMALL[:2], *SMALL[10:12]),
    "train": ("light", "--workdir", "out", *SMALL),
    "plan": ("light", "--on", "v5e:2x2", "--model.layers", "1"),
    "sweep": ("light", "--workdir", "out", "--seeds", "0"),
    "evaluate": ("boxed", "--task", "retrieval", "--data", "en-fr=pairs.tsv", "--output", "out"),
    "encode": ("boxed", "en.txt", "--output", "out.npy"),
    "search": ("boxed", "en.txt", "--query", "a", "--index", "out"),
    "mine": ("boxed", "en.txt", "fr.txt", "--output", "out.tsv"),
    "dedup": ("boxed", "en.txt", "--output", "out.tsv"),
    "export": ("boxed", "--output", "out"),
    "specialise": ("boxed", "en.txt", "--language", "en", "--output", "out"),
    "paraphrases": ("en-fr=pairs.tsv", "--output", "out"),
    "modular": ("boxed", "--workdir", "out", "--sources", "en-fr=pairs.tsv"),
    "serve": ("boxed", "--port", "0"),
    "compare": ("boxed",),
    "report": ("run", "--output", "out.html"),
    "models": (),
}
POSITIONAL = {
    "evaluate": 1,
    "encode": 2,
    "search": 2,
    "mine": 3,
    "dedup": 2,
    "export": 1,
    "specialise": 2,
    "paraphrases": 1,
    "modular": 1,
    "serve": 1,
    "compare": 1,
    "report": 1,
    "models": 1,
    **dict.fromkeys(("train", "prepare", "plan", "sweep"), 1),
}
"""How many words without a flag a command has."""


def options(command: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Flags of a command, and what each is given: everything, but for the settings of a run, where
    the parser knows numbers from words."""
    from lightxling import cli, cli_options
    from lightxling.config.schema import Config
    from lightxling.config.settings import settings_of
    from lightxling.config.sweep import Sweep
    from lightxling.encode.mine_files import MineSettings
    from lightxling.encode.serve.settings import ServeSettings
    from lightxling.evaluate.tasks import ScoringSettings
    from lightxling.export.settings import ExportSettings
    from lightxling.train.forecast import Planning
    from lightxling.train.modular import ModularPlan

    tables = {
        "prepare": (),  # has the settings of a run, as `train`
        "train": (cli_options.Launch,),
        "plan": (Planning,),
        "sweep": (Sweep,),
        "evaluate": (cli_options.Evaluation, ScoringSettings),
        "encode": (cli_options.Encoding, cli_options.Engine),
        "mine": (cli_options.Mining, MineSettings, cli_options.Engine),
        "export": (ExportSettings,),
        "modular": (cli_options.Modules, ModularPlan),
        "serve": (cli_options.Serving, ServeSettings),
    }
    if command in tables:
        names = [one.name for table in tables[command] for one in settings_of(table)]
    else:
        names = list(inspect.signature(cli.COMMANDS[command]).parameters)
    without_flag = {
        *("_", "model", "inputs", "runs", "recipes"),
        *{"specialise": ("text",), "paraphrases": ("sources",), "models": ("languages",)}.get(
            command, ()
        ),
    }
    for name in names:
        if name not in without_flag:
            yield "--" + name.replace("_", "-"), VALUES
    for one in settings_of(Config()) if command == "train" else ():
        yield "--" + one.name.replace("_", "-"), NUMBERS if one.kind in (int, float) else WORDS


def lines(command: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """What is wrong: the option or place, the value, and the words of the command line."""
    base = BASES[command]
    for place in range(POSITIONAL.get(command, 0)):
        for value in VALUES:
            yield f"[{place}]", value, (command, *base[:place], value, *base[place + 1 :])
    for option, values in options(command):
        words = list(base)
        if option in words:
            at = words.index(option)
            after = (i for i in range(at + 1, len(words)) if words[i].startswith("--"))
            del words[at : next(after, len(words))]
        for value in values:
            yield option, value, (command, *words, option, value)


def refusal(words: Sequence[str]) -> str | None:
    """What the parser and the rules between settings say of a command line that takes a recipe."""
    from lightxling import cli, cli_options
    from lightxling.base.errors import UserError
    from lightxling.config.rules import validate

    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            tables = {"train": (cli_options.Launch,)}.get(words[0], ())
            command = cli.COMMANDS[words[0]]
            *_, config = cli_options.parse_recipe(command, words[1:], *tables)
            validate(config)
        except UserError as error:
            return str(error)
        except SystemExit:
            return said.getvalue()
    return None


def write_place(folder: Path) -> None:
    folder.mkdir()
    texts = [f"the {a} is a {b}" for a in ("cat", "dog", "house", "tree") for b in "abcdefghij"]
    (folder / "en.txt").write_text("".join(f"{text}\n" for text in texts))
    (folder / "fr.txt").write_text("".join(f"{text} la\n" for text in texts))
    (folder / "pairs.tsv").write_text("".join(f"{text}\t{text} la\n" for text in texts))
    (folder / "folder").mkdir()
    (folder / "random.bin").write_bytes(os.urandom(5000))
    (folder / "run").mkdir()


def child(folder: Path, words: Sequence[str]) -> None:
    os.chdir(folder)
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SLOW, SLOW))
    log = os.open("../log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    from lightxling import cli
    from lightxling.encode.serve import connections
    from lightxling.train import loop, sweep

    def begin(*args, **kwargs):
        print("BEGUN", flush=True)
        os._exit(0)

    loop.compile_steps = sweep.sweep = connections.Server.run = begin
    try:
        code = cli.main(list(words))
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def attempt(whole: Path, words: Sequence[str]) -> tuple[int, str, list[str], float]:
    """How a command line ends, what it says, what is there afterwards, and its seconds."""
    folder = whole.with_name("tried")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    (whole.parent / "log").unlink(missing_ok=True)
    began = time.perf_counter()
    process = os.fork()
    if not process:
        with contextlib.suppress(BaseException):
            child(folder, words)
        os._exit(98)
    end = time.monotonic() + 10 * SLOW
    while (done := os.waitpid(process, os.WNOHANG)) == (0, 0):
        if time.monotonic() > end:
            os.killpg(process, signal.SIGKILL)
        time.sleep(0.005)
    code = os.waitstatus_to_exitcode(done[1])
    log = whole.parent / "log"
    said = log.read_text("utf-8", "replace") if log.exists() else ""
    before = {path.relative_to(whole) for path in whole.rglob("*")}
    after = {path.relative_to(folder) for path in folder.rglob("*")}
    return code, said, sorted(map(str, after - before)), time.perf_counter() - began


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commands", nargs="+", choices=BASES, default=list(BASES))
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--options", nargs="+", default=None)
    args = parser.parse_args(argv)
    import lightxling.cli
    import lightxling.encode.encoder
    import lightxling.encode.mine_files
    import lightxling.encode.search
    import lightxling.encode.serve.server
    import lightxling.evaluate.compare
    import lightxling.evaluate.report
    import lightxling.evaluate.run
    import lightxling.export
    import lightxling.train.loop
    import lightxling.train.modular
    import lightxling.train.specialise
    import lightxling.train.sweep  # noqa: F401

    wrong = 0
    for command in args.commands:
        counts = collections.Counter()
        with tempfile.TemporaryDirectory() as place:
            whole = Path(place, "whole")
            write_place(whole)
            for option, value, words in lines(command):
                if args.options and option not in args.options:
                    continue
                if command in ("train", "prepare") and (said := refusal(words)):
                    code, left, seconds = 2, [], 0.0
                else:
                    code, said, left, seconds = attempt(whole, words)
                faults = []
                if code == 2 and not said.strip():
                    faults.append("says nothing")
                if "Traceback" in said or code not in (0, 2):
                    faults.append(f"code {code}")
                left = [name for name in left if name != "stores" and not name.endswith(".lock")]
                if code == 2 and left:
                    faults.append(f"left {left[:4]}")
                asked = ("out", "stores", "quickstart", value.partition("/")[0].strip() or "out")
                if code == 0 and any(not name.startswith(asked) for name in left):
                    faults.append(f"wrote {left[:4]}")
                if code < 0:
                    faults.append(f"killed after {seconds:.0f} s")
                counts["wrong" if faults else "refused" if code == 2 else "taken"] += 1
                if faults or args.all:
                    ended = faults or ("taken" if code == 0 else "refused")
                    told = " / ".join(said.strip().splitlines())
                    print(command, option, repr(value[:40]), ended, "|", told[-300:], flush=True)
        wrong += counts["wrong"]
        cells = command, counts.total(), counts["refused"], counts["taken"], counts["wrong"]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
