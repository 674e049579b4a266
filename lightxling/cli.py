"""The commands, one function each.

Commands with many options take them as dataclasses, of `cli_options` or of the work they start.
Heavy imports stand inside the functions, so that `lightxling --help` starts at once.
"""

import contextlib
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lightxling import shell
from lightxling.base import allocator, interrupts
from lightxling.base.errors import UserError
from lightxling.base.extras import require
from lightxling.base.files import cache
from lightxling.cli_options import (
    Encoding,
    Engine,
    Evaluation,
    Launch,
    Mining,
    ModelPath,
    Modules,
    Output,
    Paths,
    Serving,
    call,
    model_first,
    parse_recipe,
    parse_tables,
)
from lightxling.config.rules import validate
from lightxling.config.schema import NewPieces
from lightxling.shell import note

TRAINING = ("jax", "flax", "optax", "orbax", "grain", "rich")
"""What training is not begun without."""


def quickstart(workdir: Path = Path("quickstart")) -> None:
    """Train, evaluate and try a tiny encoder on real text, in minutes, on a laptop.

    Example: lightxling quickstart

    Args:
      workdir: folder that receives the corpus and the run.
    """
    require("lightxling quickstart", *TRAINING)
    from lightxling.train.quickstart import quickstart

    quickstart(workdir)


def prepare(args: list[str]) -> None:
    """Turn the corpora of a recipe into a tokenizer and a token store, without training.

    Teacher vectors and hard negatives are made as well, where the recipe has them.

    Example: lightxling prepare light --corpus.sources "en-fr=data/*.en-fr.tsv.gz"
    """
    (config,) = parse_recipe(prepare, args)
    validate(config)
    from lightxling.corpus.prepare import prepare_tasks
    from lightxling.corpus.store import Store, describe_dev
    from lightxling.train.frozen import ask, find_frozen

    frozen = find_frozen(config)
    for name, (task, path) in prepare_tasks(config).items():
        if any(frozen[name]):
            ask(task, Store.open(path), frozen[name])
        for line in describe_dev(Store.open(path).manifest):
            note(line)
        print(path)


def train(args: list[str]) -> None:
    """Train an encoder, or go on with a run that was stopped.

    Example: lightxling train --workdir runs/mine --corpus.sources "en-fr=data/*.tsv.gz"
    """
    launch, config = parse_recipe(train, args, Launch)
    require("lightxling train", *TRAINING)
    validate(config)
    from lightxling.base import processes
    from lightxling.train.loop import train as run

    processes.join_processes(launch.coordinator_address, launch.num_processes, launch.process_id)
    run(config, launch.workdir)


def plan(args: list[str]) -> None:
    """Say what a recipe will need and take on TPUs, without having them.

    Example: lightxling plan light --on v5e:2x2 --train.pairs 10000000
    """
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from lightxling.train import forecast

    given = parse_recipe(plan, args, forecast.Planning)
    require("lightxling plan", *TRAINING, "libtpu")
    forecast.plan(*given)


def evaluate(args: list[str]) -> None:
    """Score an encoder: retrieval, ranking, tatoeba, europarl, bucc, classification, sts, nli ...

    Example: lightxling evaluate runs/mine --task retrieval --data dev.en-fr.tsv.gz
    """
    from lightxling.evaluate.tasks import ScoringSettings

    asked, settings = parse_tables(evaluate, args, Evaluation, ScoringSettings)
    from lightxling.base.places import locate, results_of
    from lightxling.encode.encoder import Encoder
    from lightxling.encode.modular import open_encoder
    from lightxling.evaluate.run import Asked
    from lightxling.evaluate.run import evaluate as run

    encoder = open_encoder(asked.model, checkpoint=asked.checkpoint, adapters=asked.adapters)
    is_one = isinstance(encoder, Encoder)  # not one for each language
    encode = functools.partial(encoder.encode, normalize=False) if is_one else encoder
    if "nli" in asked.task and settings.head == "trained":
        from lightxling.evaluate.trained_head import inference_head

        encode.inference = inference_head(asked.model, asked.checkpoint)
    folder, languages = asked.output or results_of(locate(asked.model)), asked.languages
    given = asked.task, asked.data, folder, languages, encoder.languages, settings
    encoder_is = {"model": str(locate(asked.model)), "truncated": lambda: encoder.truncated}
    how = asked.again, asked.plot, asked.all
    run(encode, encoder.fingerprint, Asked(*given, *how, **encoder_is if is_one else {}))


def sweep(args: list[str]) -> None:
    """Compare recipes: train each with several seeds and settings, score all, one table and a page.

    Options of `lightxling train` for all runs follow --. What is complete is not trained again.

    Example: lightxling sweep light clean --workdir runs/both --seeds 0 1 -- --corpus.sources ...
    """
    from lightxling.config.sweep import Sweep

    own = args[: args.index("--")] if "--" in args else args
    (asked,) = parse_tables(sweep, own, Sweep)
    require("lightxling sweep", *TRAINING)
    from lightxling.train.sweep import sweep as run

    options = args[len(own) + 1 :]
    run(asked, options, lambda words: parse_recipe(train, words, Launch)[1], evaluate, note)


def encode(args: list[str]) -> None:
    """Write one vector per line of a text, empty lines included.

    Example: lightxling encode runs/mine sentences.txt -o vectors.npy
    """
    asked, engine = parse_tables(encode, args, Encoding, Engine)
    model, files = model_first(asked.inputs, rest=None)
    files = files or ["-"]
    if engine.engine == "here" and len(files) != 1:
        raise UserError(f"{len(files)} files are given; give one, or --engine ray and a folder")
    if engine.engine == "here" and asked.dtype != "float32":
        raise UserError(f"--dtype {asked.dtype} belongs to --engine ray")
    from lightxling.encode.encoder import Encoder, encode_file

    encoder, output = Encoder.load(model, checkpoint=asked.checkpoint), asked.output
    how = {"batch_size": asked.batch_size, "normalize": asked.normalize, "progress": note}
    if engine.engine == "ray":
        from lightxling.encode.encode_jobs import encode_files
        from lightxling.encode.jobs import Workers

        pool = Workers(engine.workers, engine.worker_cpus, asked.worker_gpus)
        how |= {"workers": pool, "dtype": asked.dtype}
        count = encode_files(encoder, files, output, **how)
    else:
        count = encode_file(encoder, files[0], output, **how)
    note(f"{output}: {count:,} x {encoder.dimension}")


def search(
    inputs: Annotated[Paths, tyro.conf.arg(metavar="[MODEL] FILE")],
    query: tuple[str, ...] = (),
    k: int = 5,
    index: Path | None = None,
) -> None:
    """Ask in one language, find in another.

    Example: lightxling search runs/mine sentences.txt --query "Where is the station?"

    Args:
      inputs: a run, an export or the name of an encoder in the package, by default static; and a
        text file with one sentence a line, in any languages; `fr<TAB>sentence` names one.
      query: what to look for; without it, questions are read from the keyboard.
      k: sentences shown.
      index: where the vectors are kept; by default beside the corpus.
    """
    if k < 1:
        raise UserError(f"--k {k} should be at least 1")
    if query and not any(text.strip() for text in query):
        raise UserError("--query is empty; say what to look for")
    from lightxling.encode import search as searching
    from lightxling.encode.encoder import Encoder

    model, (corpus,) = model_first(inputs, rest=1)
    opened = searching.Index.open(Encoder.load(model), Path(corpus), index=index, progress=note)
    if not len(opened):
        raise UserError(f"{corpus} has no sentence to find")
    asked = list(query) or searching.prompt()
    for text, hits in searching.answers(opened, asked, k):
        if query:
            print(text)
        print(searching.show(hits))


def mine(args: list[str]) -> None:
    """Find parallel sentences in two monolingual files.

    Example: lightxling mine runs/mine news.en news.fr -o pairs.tsv --threshold 1.06
    """
    from lightxling.encode.mine_files import MineSettings

    asked, settings, engine = parse_tables(mine, args, Mining, MineSettings, Engine)
    from lightxling.encode.encoder import Encoder
    from lightxling.encode.mine_files import mine_files

    model, texts = model_first(asked.inputs, rest=2)
    encoder, (src, tgt) = Encoder.load(model), map(Path, texts)
    if engine.engine == "ray":
        from lightxling.encode.jobs import Workers
        from lightxling.encode.mine_jobs import mine_folders

        pool = Workers(engine.workers, engine.worker_cpus)
        how = {"settings": settings, "workers": pool, "progress": note}
        count = mine_folders(encoder.fingerprint, src, tgt, asked.output, **how)
    else:
        encode = functools.partial(encoder.encode, normalize=False)
        count = mine_files(encode, src, tgt, asked.output, settings, note)["pairs"]
    note(f"{count:,} pairs in {asked.output}")


def dedup(
    inputs: Annotated[Paths, tyro.conf.arg(metavar="[MODEL] FILE")],
    output: Output = Path("kept.tsv"),
    threshold: float = 0.95,
    removed: Path | None = None,
) -> None:
    """Drop near duplicates of a translation memory or a text, within and across languages.

    Example: lightxling dedup en-de=memory.tmx -o kept.tsv --removed removed.tsv

    Args:
      inputs: a run, an export or the name of an encoder in the package, by default static; and a
        text with a sentence a line, or parallel text, written en-de=FILE.
      output: what stays, in its order, sides separated by tabs.
      threshold: cosine from which two sentences are the same; with two sides, both must reach it.
        Rows whose numbers differ stay.
      removed: what is dropped: cosine, row, and the row that stays in its place.
    """
    from lightxling.encode.dedup import dedup_file
    from lightxling.encode.encoder import Encoder

    model, (text,) = model_first(inputs, rest=1)
    how = {"threshold": threshold, "removed": removed, "say": note}
    read, kept = dedup_file(Encoder.load(model), text, output, **how)
    note(f"{kept:,} of {read:,} rows stay, in {output}")


def export(args: list[str]) -> None:
    """Write an encoder as a small file that opens elsewhere: the formats and what makes them small.

    Example: lightxling export runs/mine --format onnx --dtype int8 --dev en-fr=dev.en-fr.tsv.gz
    """
    from lightxling.export import export as run
    from lightxling.export.settings import ExportSettings

    print(run(call(ExportSettings, args, export)))


def specialise(
    model: ModelPath,
    text: Annotated[tuple[Path, ...], tyro.conf.Positional],
    language: str,
    output: Output,
    vocab_size: int = 0,
    new_pieces: NewPieces = "parts",
) -> None:
    """Give an encoder a tokenizer and embeddings for one language, to start a run from.

    Example: lightxling specialise runs/many de.txt --language de -o runs/de/start

    Args:
      model: a run, an export or the name of an encoder in the package.
      text: files with a sentence a line (.gz too).
      language: its code.
      output: folder of the new export.
      vocab_size: pieces, or as many as the text supports; 0: as many as the encoder has now.
      new_pieces: what those start as that the encoder does not have: the mean of the pieces that it
        cuts them into, or a mixture of shared pieces that are similar in the text (FOCUS).
    """
    from lightxling.saved import bundle
    from lightxling.train.specialise import read_sentences, specialise_to

    if output.exists():
        raise UserError(f"{output} exists; give another --output")
    encoder = bundle.load_bundle(model)
    sentences = read_sentences(text, unescape=encoder.unescape)
    specialise_to(encoder, sentences, language, vocab_size, new_pieces, output, note)
    print(output)


def paraphrases(
    sources: Annotated[tuple[str, ...], tyro.conf.Positional],
    output: Output = Path("paraphrases"),
    limit: int = 4,
    inference: bool = False,
) -> None:
    """Find paraphrases in parallel text: sentences that have a translation in common.

    Example: lightxling paraphrases "en-de=data/tatoeba.en-de.tsv.gz" -o paraphrases

    Args:
      sources: parallel text, `en-de=PATH` each.
      output: folder that receives paraphrases.de-de.tsv and so on.
      limit: translations of one sentence that are paired with each other, at most.
      inference: the sources are inference data, `en-en=snli.tsv`. They give triples.en-en-en.tsv: a
        sentence, one that it goes with, one that contradicts it.
    """
    from lightxling.corpus.paraphrases import write_paraphrases
    from lightxling.corpus.triples import write_triples

    if limit < 2:
        raise UserError(f"--limit {limit} should be at least 2")
    write = write_triples if inference else functools.partial(write_paraphrases, limit=limit)
    found = write(sources, output)
    for name, count in found.items():
        print(f"{count:>10,}  {output}/{name}")


def modular(args: list[str]) -> None:
    """Make a module for every language out of a multilingual encoder, in stages.

    Example: lightxling modular runs/many --workdir runs/modular --sources "en-de=*.en-de.tsv.gz"
    """
    from lightxling.train.modular import ModularPlan, Stopped, build

    asked, plan = parse_tables(modular, args, Modules, ModularPlan)
    require("lightxling modular", *TRAINING)
    with contextlib.suppress(Stopped):
        build(asked.model, asked.workdir, plan)


def serve(args: list[str]) -> None:
    """Answer over HTTP, in the OpenAI embeddings format (needs the extra `serve`).

    Example: lightxling serve runs/mine --port 8000
    """
    from lightxling.encode.serve import server
    from lightxling.encode.serve.settings import ServeSettings

    asked, settings = parse_tables(serve, args, Serving, ServeSettings)
    server.serve_encoder(asked.model, settings, checkpoint=asked.checkpoint, say=note)


def compare(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    format: Literal["table", "markdown", "csv"] = "table",
    all: bool = False,
) -> None:
    """Encoders side by side: size, cost, scores, and what the differences are worth.

    Runs that differ in the seed only are averaged.

    Example: lightxling compare runs/light-0 runs/light-1 runs/acl2021-0 --format markdown

    Args:
      runs: runs, exports and names of encoders in the package; the scores of the latter are those
        that `lightxling evaluate` left in evaluation/NAME here.
      format: of the tables; csv has the first alone.
      all: every score, not only those that one looks at first.
    """
    from lightxling.evaluate import compare as comparing

    comparing.show(runs, format, everything=all)


def report(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    output: Output = Path("report.html"),
) -> None:
    """Write a run, or several side by side, as one page: data, curves, scores, sentences.

    Example: lightxling report runs/mine -o report.html

    Args:
      runs: run directories.
      output: a file that any browser opens, without a network.
    """
    from lightxling.evaluate.report import report as run

    run(runs, output, note)
    note(str(output))


def models(languages: Annotated[tuple[str, ...], tyro.conf.Positional] = ()) -> None:
    """List the encoders in the package: languages, size, scores, licences.

    Example: lightxling models

    Args:
      languages: codes; only the encoders that have all of them, with their scores in each.
    """
    from lightxling.evaluate.tables import print_models

    print_models(languages)


COMMANDS: dict[str, Callable] = {
    function.__name__: function
    for function in (
        *(quickstart, prepare, train, plan, sweep, evaluate, encode, search, mine, dedup),
        *(export, specialise, paraphrases, modular, serve, compare, report, models),
    )
}


def main(argv: list[str] | None = None) -> int:
    """Runs the command that `argv` or the command line names; returns the exit code."""
    return shell.run(COMMANDS, sys.argv[1:] if argv is None else argv)


def script() -> int:
    """What the command line starts: `main`, in a process whose allocator suits training, where jax
    keeps what it compiles in the user's cache folder."""
    shell.speak_in_lines()
    interrupts.OWN_PROCESS.set()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache() / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    if sys.argv[1:2] and sys.argv[1] in ("quickstart", "train", "modular"):
        allocator.restart()
    return main()


if __name__ == "__main__":
    sys.exit(script())
