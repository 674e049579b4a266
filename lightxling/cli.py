"""The commands, one function each.

Heavy imports stand inside the functions, so that `lightxling --help` starts at once.
"""

import contextlib
import difflib
import errno
import functools
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lightxling import allocator
from lightxling.config import Config, NewPieces, UserError, load
from lightxling.validate import validate

Model = Annotated[Path, tyro.conf.Positional]
"""A run directory or an exported one."""


Unprefixed = tyro.conf.arg(name="")


def with_recipe(name: str, args: list[str]) -> tuple[Config, list[str]]:
    """Splits `CONFIG [--key.sub value ...]`; the recipe gives the defaults of the flags."""
    if not args or args[0] in ("-h", "--help"):
        return Config(), ["--help"]
    if args[0].startswith("-"):
        raise UserError(f"a recipe comes first: lightxling {name} light {' '.join(args)}")
    return load(args[0]), args[1:]


def quickstart(workdir: Path = Path("quickstart")) -> None:
    """Train, evaluate and try a tiny encoder on real text, in minutes, on a laptop.

    Example: lightxling quickstart

    Args:
      workdir: folder that receives the corpus and the run.
    """
    from lightxling.encoder import keep_compiled
    from lightxling.quickstart import quickstart

    keep_compiled()
    quickstart(workdir)


def prepare(args: list[str]) -> None:
    """Turn the corpora of a recipe into a tokenizer and a token store, with its teacher's vectors
    and hard negatives.

    Example: lightxling prepare light --corpus.sources "en-fr=data/*.en-fr.tsv.gz"
    """
    recipe, rest = with_recipe("prepare", args)

    def parsed(config: Annotated[Config, Unprefixed] = recipe) -> Config:
        return config

    config = parse(parsed, rest, name="prepare CONFIG", help=prepare)
    validate(config)
    from lightxling.corpus.prepare import prepare_tasks
    from lightxling.corpus.store import Store
    from lightxling.train.frozen import ask, find_frozen

    frozen = find_frozen(config)
    for name, (task, path) in prepare_tasks(config).items():
        if any(frozen[name]):
            ask(task, Store.open(path), frozen[name])
        print(path)


def train(args: list[str]) -> None:
    """Train an encoder, or go on with a run that was stopped.

    Example: lightxling train light --workdir runs/mine --corpus.sources "en-fr=data/*.tsv.gz"
    """
    recipe, rest = with_recipe("train", args)

    def parsed(
        workdir: Path,
        config: Annotated[Config, Unprefixed] = recipe,
        coordinator_address: str | None = None,
        num_processes: int | None = None,
        process_id: int | None = None,
    ) -> tuple[Path, Config, tuple[str | None, int | None, int | None]]:
        """Parsed by tyro.

        Args:
          workdir: folder of the run; a run that stands there already is resumed.
          coordinator_address: HOST:PORT of process 0, where several processes train together; on
            Slurm and Cloud TPU they find each other by themselves.
          num_processes: how many train together.
          process_id: which of them this is, from 0.
        """
        return workdir, config, (coordinator_address, num_processes, process_id)

    workdir, config, place = parse(parsed, rest, name="train CONFIG", help=train)
    validate(config)
    from lightxling.encoder import keep_compiled
    from lightxling.train import processes
    from lightxling.train.loop import train as run

    keep_compiled()
    processes.start(*place)
    run(config, workdir)


def evaluate(args: list[str]) -> None:
    """Score an encoder: retrieval, ranking, tatoeba, europarl, bucc, classification, sts, nli ...

    Example: lightxling evaluate runs/mine --task retrieval --data dev.en-fr.tsv.gz
    """
    from lightxling.evaluate.tasks.units import Settings

    def run(
        model: Model,
        task: tuple[str, ...],
        data: tuple[str, ...],
        settings: Annotated[Settings, Unprefixed] = Settings(),  # noqa: B008, it is frozen
        languages: tuple[str, ...] = (),
        checkpoint: str | None = None,
        adapters: tuple[str, ...] | None = None,
        output: Path | None = None,
        again: bool = False,
        plot: bool = False,
    ) -> None:
        """Parsed by tyro.

        Args:
          model: a run directory, an exported one, or the folder of `lightxling modular`.
          task: one or several tasks.
          data: files, folders, or `en-fr=PATH`.
          languages: languages to score; by default those the encoder was trained on.
          checkpoint: of a run: best (the default), last or a step.
          adapters: names and files of the adapters in use; by default all that the encoder has.
          output: folder for the results; by default MODEL/evaluation.
          again: compute even what is kept from before.
          plot: also draw pictures (needs the extra `plot`).
        """
        from lightxling.encoder import Encoder, keep_compiled
        from lightxling.evaluate.run import evaluate

        keep_compiled()
        if (model / "modular.json").is_file():
            from lightxling.encode.modular import ModularEncoder

            if checkpoint or adapters is not None:
                raise UserError("--checkpoint and --adapters are for single runs; leave them out")
            encode = encoder = ModularEncoder.load(model)
        else:
            encoder = Encoder.load(model, checkpoint=checkpoint, adapters=adapters)
            encode = functools.partial(encoder.encode, normalize=False)
        evaluate(
            encode,
            encoder.fingerprint,
            tasks=task,
            data=data,
            folder=output or model / "evaluation",
            languages=languages,
            trained=encoder.languages,
            settings=settings,
            again=again,
            plot=plot,
        )

    parse(run, args, name="evaluate", help=evaluate)


Inputs = Annotated[tuple[str, ...], tyro.conf.Positional]
"""An encoder, where one is given, and texts."""


def encode(
    inputs: Annotated[Inputs, tyro.conf.arg(metavar="[MODEL] [FILE ...]")] = (),
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("vectors.npy"),
    checkpoint: str | None = None,
    batch_size: int = 256,
    normalize: bool = True,
    engine: Literal["here", "ray"] = "here",
    workers: int = 0,
    worker_cpus: int = 1,
    worker_gpus: int = 0,
    dtype: Literal["float32", "float16"] = "float32",
) -> None:
    """Write one vector per line of a text, empty lines included.

    Example: lightxling encode runs/mine sentences.txt -o vectors.npy

    Args:
      inputs: a run directory or an exported one, by default the encoder in the box; a text file
        (.gz too), by default standard input, which is also called -. With --engine ray, many files.
      output: .npy for an array [lines, dimension], .jsonl for one object a line; with --engine ray
        a new folder of Parquet files.
      checkpoint: of a run: best (the default), last or a step.
      batch_size: sentences computed together, at most.
      normalize: scale vectors to length 1.
      engine: here, in this process; ray, on a Ray cluster or on all cores (needs the extra `ray`).
      workers: processes of a Ray job; 0: as many as the cluster has room for.
      worker_cpus: cores of each.
      worker_gpus: accelerators of each; 0: encoding on its cores.
      dtype: of the vectors in Parquet files.
    """
    if batch_size < 1:
        raise UserError(f"--batch-size {batch_size} should be at least 1")
    model, files = _model_first(inputs, rest=None)
    files = files or ["-"]
    if engine == "here" and len(files) != 1:
        raise UserError(f"{len(files)} files are given; give one, or --engine ray and a folder")
    if engine == "here" and dtype != "float32":
        raise UserError(f"--dtype {dtype} belongs to --engine ray")
    from lightxling.encoder import Encoder, encode_file, keep_compiled

    encoder = Encoder.load(model, checkpoint=checkpoint)
    how = {"batch_size": batch_size, "normalize": normalize, "progress": note}
    if engine == "ray":
        from lightxling import jobs

        pool = jobs.Workers(workers, worker_cpus, worker_gpus)
        count = jobs.encode_files(encoder, files, output, workers=pool, dtype=dtype, **how)
    else:
        if encoder.backend == "jax":
            keep_compiled()
        count = encode_file(encoder, files[0], output, **how)
    note(f"{output}: {count:,} x {encoder.dimension}")


def search(
    inputs: Annotated[Inputs, tyro.conf.arg(metavar="[MODEL] FILE")],
    query: tuple[str, ...] = (),
    k: int = 5,
    index: Path | None = None,
) -> None:
    """Ask in one language, find in another.

    Example: lightxling search runs/mine sentences.txt --query "Where is the station?"

    Args:
      inputs: a run directory or an exported one, by default the encoder in the box; and a text file
        with one sentence a line, in any languages; `fr<TAB>sentence` names one.
      query: what to look for; without it, questions are read from the keyboard.
      k: sentences shown.
      index: where the vectors are kept; by default beside the corpus.
    """
    if k < 1:
        raise UserError(f"--k {k} should be at least 1")
    from lightxling import search as searching
    from lightxling.encoder import Encoder

    model, (corpus,) = _model_first(inputs, rest=1)
    opened = searching.Index.open(Encoder.load(model), Path(corpus), index=index, progress=note)
    asked = list(query) or searching.prompt()
    for text, hits in searching.answers(opened, asked, k):
        if query:
            print(text)
        print(searching.show(hits))


def mine(args: list[str]) -> None:
    """Find parallel sentences in two monolingual files.

    Example: lightxling mine runs/mine news.en news.fr -o pairs.tsv --threshold 1.06
    """
    from lightxling.evaluate.run import MineSettings

    def run(
        inputs: Annotated[Inputs, tyro.conf.arg(metavar="[MODEL] SOURCE TARGET")],
        output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("mined.tsv"),
        engine: Literal["here", "ray"] = "here",
        workers: int = 0,
        worker_cpus: int = 1,
        settings: Annotated[MineSettings, Unprefixed] = MineSettings(),  # noqa: B008
    ) -> None:
        """Parsed by tyro.

        Args:
          inputs: a run directory or an exported one, by default the encoder in the box; and two
            texts with one sentence a line, or with --engine ray two folders that encode --engine
            ray wrote.
          output: score, source and target, separated by tabs, best first.
          engine: here, in this process; ray, on a Ray cluster or on all cores (needs the extra
            `ray`).
          workers: processes of a Ray job; 0: as many as the cluster has room for.
          worker_cpus: cores of each.
        """
        from lightxling.encoder import Encoder
        from lightxling.evaluate.run import mine_files

        model, (src, tgt) = _model_first(inputs, rest=2)
        encoder = Encoder.load(model)
        if engine == "ray":
            from lightxling import jobs

            pool = jobs.Workers(workers, worker_cpus)
            count = jobs.mine_folders(
                encoder.fingerprint,
                Path(src),
                Path(tgt),
                output,
                settings=settings,
                workers=pool,
                progress=note,
            )
            note(f"{count:,} pairs in {output}")
            return
        encode = functools.partial(encoder.encode, normalize=False)
        mine_files(encode, Path(src), Path(tgt), output, settings)

    parse(run, args, name="mine", help=mine)


def export(args: list[str]) -> None:
    """Write an encoder as a small file that opens elsewhere: the formats and what makes them small.

    Example: lightxling export runs/mine --format onnx --dtype int8 --dev en-fr=dev.en-fr.tsv.gz
    """
    from lightxling.export import export as run

    print(parse(run, args, name="export", help=export))


def specialise(
    model: Model,
    text: Annotated[tuple[Path, ...], tyro.conf.Positional],
    language: str,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    vocab_size: int = 0,
    new_pieces: NewPieces = "parts",
) -> None:
    """Give an encoder a tokenizer and embeddings for one language, to start a run from.

    Example: lightxling specialise runs/many de.txt --language de -o runs/de/start

    Args:
      model: a run directory or an exported one.
      text: files with a sentence a line (.gz too).
      language: its code.
      output: folder of the new export.
      vocab_size: pieces, or as many as the text supports; 0: as many as the encoder has now.
      new_pieces: what those that the encoder lacks start as: the mean of the pieces that it cuts
        them into, or a mixture of shared pieces that are similar in the text (FOCUS).
    """
    from lightxling import bundle
    from lightxling.specialise import read_sentences, specialise_to

    if output.exists():
        raise UserError(f"{output} exists; give another --output")
    encoder = bundle.load(model)
    specialise_to(encoder, read_sentences(text), language, vocab_size, new_pieces, output, note)
    print(output)


def paraphrases(
    sources: Annotated[tuple[str, ...], tyro.conf.Positional],
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("paraphrases"),
    limit: int = 4,
) -> None:
    """Find paraphrases in parallel text: sentences that have a translation in common.

    Example: lightxling paraphrases "en-de=data/tatoeba.en-de.tsv.gz" -o paraphrases

    Args:
      sources: parallel text, `en-de=PATH` each.
      output: folder that receives paraphrases.de-de.tsv and so on.
      limit: translations of one sentence that are paired with each other, at most.
    """
    from lightxling.corpus.paraphrases import write_paraphrases

    if limit < 2:
        raise UserError(f"--limit {limit} should be at least 2")
    for languages, count in write_paraphrases(sources, output, limit=limit).items():
        print(f"{count:>10,}  {output}/paraphrases.{'-'.join(languages)}.tsv")


def modular(args: list[str]) -> None:
    """Make a module for every language out of a multilingual encoder, in stages.

    Example: lightxling modular runs/many --workdir runs/modular --sources "en-de=*.en-de.tsv.gz"
    """
    from lightxling.modular import ModularPlan

    def run(model: Model, workdir: Path, plan: Annotated[ModularPlan, Unprefixed]) -> None:
        """Parsed by tyro.

        Args:
          model: the multilingual encoder: a run directory or an exported one.
          workdir: folder that receives the modules; what is there already is not made again.
        """
        from lightxling.encoder import keep_compiled
        from lightxling.modular import Stopped, build

        keep_compiled()
        with contextlib.suppress(Stopped):
            build(model, workdir, plan)

    parse(run, args, name="modular", help=modular)


def serve(args: list[str]) -> None:
    """Answer over HTTP, in the OpenAI embeddings format (needs the extra `serve`).

    Example: lightxling serve runs/mine --port 8000
    """
    from lightxling import serve as serving
    from lightxling.bundle import BOXED

    def run(
        model: Annotated[
            Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[MODEL]")
        ] = None,
        checkpoint: str | None = None,
        settings: Annotated[serving.Settings, Unprefixed] = serving.Settings(),  # noqa: B008
    ) -> None:
        """Parsed by tyro.

        Args:
          model: a run directory or an exported one; by default the encoder in the box.
          checkpoint: of a run: best (the default), last or a step.
        """
        serving.serve(model or BOXED, settings, checkpoint=checkpoint, say=note)

    parse(run, args, name="serve", help=serve)


def compare(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    format: Literal["table", "markdown", "csv"] = "table",
) -> None:
    """One table over runs: size, cost and every score; runs that differ in seed are averaged.

    Example: lightxling compare runs/light-0 runs/light-1 runs/acl2021-0 --format markdown

    Args:
      runs: run directories or exports.
      format: of the table.
    """
    from rich.console import Console

    from lightxling.evaluate import compare as comparing

    table = comparing.render(*comparing.compare(runs), format)
    if format == "table":
        Console().print(table)
    else:
        print(table)


def report(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("report.html"),
) -> None:
    """Write a run, or several side by side, as one page: data, curves, scores, sentences.

    Example: lightxling report runs/mine -o report.html

    Args:
      runs: run directories.
      output: a file that any browser opens, without a network.
    """
    from lightxling.encoder import keep_compiled
    from lightxling.report import report as run

    keep_compiled()
    run(runs, output, note)
    note(str(output))


def parse(function: Callable, args: list[str], *, name: str, help: Callable):
    """Calls `function` with typed flags; the help text is that of the command."""
    return tyro.cli(
        function,
        args=args,
        prog=f"lightxling {name}",
        description=inspect.getdoc(help).split("\n\nArgs:")[0],
        config=(tyro.conf.FlagConversionOff,),
    )


def _model_first(inputs: Sequence[str], rest: int | None) -> tuple[str | None, list[str]]:
    """Splits `[MODEL] [TEXT ...]`; None stands for the encoder in the box.

    Args:
      rest: how many texts the command takes; None: any number, and a model is a folder, or nothing
        that exists.

    Raises:
      UserError: their number is wrong, or a single one is nothing that exists.
    """
    if rest is None:
        first = inputs[0] if inputs else "-"
        has_model = first != "-" and (os.path.isdir(first) or not os.path.exists(first))
        if has_model and len(inputs) == 1 and not os.path.exists(first):
            raise UserError(f"{first} is neither a text nor the folder of a run or of an export")
    elif len(inputs) - rest in (0, 1):
        has_model = len(inputs) > rest
    else:
        raise UserError(
            f"{len(inputs)} paths given; give {rest} text{'s' * (rest > 1)}, after the folder of "
            "an encoder if it is not to be the one in the box"
        )
    return (inputs[0], list(inputs[1:])) if has_model else (None, list(inputs))


def note(line: str) -> None:
    """A line about the progress, on standard error."""
    print(line, file=sys.stderr)


PARSE_THEMSELVES = (prepare, train, evaluate, mine, export, modular, serve)
"""Their flags are those of dataclasses that are imported only when the command is given."""

COMMANDS: dict[str, Callable] = {
    function.__name__: function
    for function in (
        quickstart,
        prepare,
        train,
        evaluate,
        encode,
        search,
        mine,
        export,
        specialise,
        paraphrases,
        modular,
        serve,
        compare,
        report,
    )
}


def usage() -> str:
    lines = ["usage: lightxling COMMAND ...   (lightxling COMMAND --help tells more)", ""]
    for name, function in COMMANDS.items():
        lines.append(f"  {name:<12}{function.__doc__.splitlines()[0]}")
    return "\n".join(lines)


def _run(argv: list[str]) -> None:
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return
    name, *args = argv
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; perhaps you meant {near[0]}" if near else ""
        raise UserError(f"there is no command {name!r}{hint}\n{usage()}")
    command = COMMANDS[name]
    if command in PARSE_THEMSELVES:
        command(args)
    else:
        parse(command, args, name=name, help=command)


def main(argv: list[str] | None = None) -> int:
    """Runs a command; a mistake of the person who typed it ends in one message and exit code 2."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        _run(argv)
        sys.stdout.flush()
    except UserError as error:
        note(f"lightxling: {error}")
        return 2
    except KeyboardInterrupt:
        note("lightxling: interrupted")
        return 130
    except BrokenPipeError:  # of `| head`
        _silence()
        return 1
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename:
            raise
        note(f"lightxling: cannot write the output: {error.strerror}; make room and try again")
        _silence()
        return 2
    return 0


def _silence() -> None:
    """Throws away what is still to be written, or the interpreter would try it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn_in_one_line(message, category, *place, **more) -> None:
    """Shows a warning of ours without the line of code, which tells nobody at a shell anything."""
    if category is UserWarning:
        note(f"lightxling: {message}")
    else:
        sys.stderr.write(warnings.formatwarning(message, category, *place[:2]))


def script() -> int:
    """What the command line starts: `main`, in a process whose allocator suits training."""
    warnings.showwarning = warn_in_one_line
    if sys.argv[1:2] and sys.argv[1] in ("quickstart", "train", "modular"):
        allocator.restart()
    return main()


if __name__ == "__main__":
    sys.exit(script())
