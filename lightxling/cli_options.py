"""Options of the commands: how they are parsed, and their help text.

Commands that take a recipe have every setting of it as an option. Their `--help` shows what is
usually set, and what the recipe sets; `--help-all` shows all of it.
"""

import ast
import dataclasses
import functools
import inspect
import itertools
import os
import re
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from lightxling.base.errors import UserError, at_least
from lightxling.base.places import other_names, packaged
from lightxling.base.screen import definitions, fold
from lightxling.config.files import load, recipes
from lightxling.config.schema import AdapterConfig, Config, StageConfig, TaskConfig
from lightxling.config.settings import Setting, change, settings_of

ModelPath = Annotated[Path, tyro.conf.Positional]
"""A run, an export, or the name of an encoder in the package."""

Paths = Annotated[tuple[str, ...], tyro.conf.Positional]
"""An encoder, where one is given, and texts."""

Output = Annotated[Path, tyro.conf.arg(aliases=["-o"])]

HELP = ("-h", "--help", "--help-all")


@dataclasses.dataclass(frozen=True)
class Launch:
    """Where the run lies, and the processes that train together."""

    workdir: Path
    """Folder of the run; one that is there already is resumed."""
    coordinator_address: str | None = None
    """HOST:PORT of process 0, where several train together. On Slurm and Cloud TPU they find each
    other by themselves."""
    num_processes: int | None = None
    """How many processes train together."""
    process_id: int | None = None
    """Which of them this is, from 0."""
    from_scratch: bool = False
    """Without a recipe: begin with nothing, though an encoder in the package has the languages."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is scored, and where the scores go.

    Attributes:
      model: a run, an export, the name of an encoder in the package, or the folder of `lightxling
        modular`; by default static.
      task: one or several tasks.
      data: files, folders, or `en-fr=PATH`.
      languages: languages to score; by default those the encoder was trained on.
      checkpoint: of a run: best (the default), last or a step.
      adapters: names and files of the adapters in use; by default all that the encoder has.
      output: folder for the results; by default MODEL/evaluation, or evaluation/MODEL here
        for an encoder of the package.
      again: compute even what is kept from before.
      plot: also draw pictures, which any browser opens.
      all: show every score, not only those that one looks at first.
    """

    model: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[MODEL]")] = None
    _: dataclasses.KW_ONLY
    task: tuple[str, ...]
    data: tuple[str, ...]
    languages: tuple[str, ...] = ()
    checkpoint: str | None = None
    adapters: tuple[str, ...] | None = None
    output: Path | None = None
    again: bool = False
    plot: bool = False
    all: bool = False


@dataclasses.dataclass(frozen=True)
class Engine:
    """Where it is computed.

    Attributes:
      engine: here, in this process; ray, on a Ray cluster or on all cores (needs the extra `ray`).
      workers: processes of a Ray job; 0: as many as the cluster has room for.
      worker_cpus: cores of each.
    """

    engine: Literal["here", "ray"] = "here"
    workers: int = 0
    worker_cpus: int = 1

    def __post_init__(self) -> None:
        at_least(self, "workers", 0)
        at_least(self, "worker_cpus", 1)


@dataclasses.dataclass(frozen=True)
class Encoding:
    """What is encoded, and how.

    Attributes:
      inputs: a run, an export or the name of an encoder in the package, by default static; a text
        (.gz too), by default standard input, which is also called -. With --engine ray, many files.
      output: .npy for an array [lines, dimension], .f32 for its numbers alone, .jsonl for one
        object a line; with --engine ray a new folder of Parquet files.
      checkpoint: of a run: best (the default), last or a step.
      batch_size: sentences computed together, at most.
      normalize: scale vectors to length 1.
      worker_gpus: accelerators of each process of a Ray job; 0: encoding on its cores.
      dtype: of the vectors in Parquet files.
    """

    inputs: Annotated[Paths, tyro.conf.arg(metavar="[MODEL] [FILE ...]")] = ()
    output: Output = Path("vectors.npy")
    checkpoint: str | None = None
    batch_size: int = 256
    normalize: bool = True
    worker_gpus: int = 0
    dtype: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        at_least(self, "batch_size", 1)
        at_least(self, "worker_gpus", 0)


@dataclasses.dataclass(frozen=True)
class Mining:
    """What is mined, and where to.

    Attributes:
      inputs: a run, an export or the name of an encoder in the package, by default static; and two
        texts with one sentence a line, or with --engine ray two folders that encode wrote with it.
      output: score, source and target, separated by tabs, best first.
    """

    inputs: Annotated[Paths, tyro.conf.arg(metavar="[MODEL] SOURCE TARGET")]
    output: Output = Path("mined.tsv")


@dataclasses.dataclass(frozen=True)
class Modules:
    """What the modules are made of, and where they go.

    Attributes:
      model: the multilingual encoder: a run, an export or the name of an encoder in the package.
      workdir: folder that receives the modules; what is there already is not made again.
    """

    model: ModelPath
    workdir: Path


@dataclasses.dataclass(frozen=True)
class Serving:
    """The encoder that answers.

    Attributes:
      model: a run, an export or the name of an encoder in the package; by default static.
      checkpoint: of a run: best (the default), last or a step.
    """

    model: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[MODEL]")] = None
    checkpoint: str | None = None


def call(target: Any, args: Sequence[str], command: Callable, name: str = "") -> Any:
    """Calls a function with typed flags, or makes a type; the help text is that of the command."""
    return tyro.cli(
        target,
        args=args,
        prog=f"lightxling {name or command.__name__}",
        description=inspect.getdoc(command).split("\n\nArgs:")[0],
        config=(tyro.conf.FlagConversionOff,),
        registry=_registry(),
    )


@functools.cache
def _registry() -> tyro.constructors.ConstructorRegistry:
    """Reads a path that is given as nothing, as by a variable of the shell that is not set, as a
    mistake: `Path("")` is the folder that one is in."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def path(
        told: tyro.constructors.PrimitiveTypeInfo,
    ) -> tyro.constructors.PrimitiveConstructorSpec | None:
        return _PATH if told.type is Path else None

    return registry


def _path_from(words: list[str]) -> Path:
    if not words[0].strip():
        raise ValueError(f"the path {words[0]!r} is empty; give a name")
    return Path(words[0])


_PATH = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="PATH",
    instance_from_str=_path_from,
    is_instance=lambda value: isinstance(value, Path),
    str_from_instance=lambda value: [str(value)],
)


def parse_tables(command: Callable, args: Sequence[str], *tables: type) -> tuple:
    """One of each of these dataclasses, whose flags stand side by side."""
    together = tuple[*(Annotated[table, tyro.conf.arg(name="")] for table in tables)]
    return call(together, args, command)


def parse_recipe(command: Callable, args: Sequence[str], *tables: type) -> tuple:
    """Parses `[CONFIG] [--key.sub value ...]`; the recipe gives the defaults of the flags. Without
    one, the text decides, see `train.beginning`.

    Args:
      tables: the dataclasses of the command's own options.

    Returns:
      One of each, and the settings of the run.

    Raises:
      SystemExit: the help text was asked for, and is printed.
    """
    name = command.__name__
    asked = set(HELP) & set(args) if args else set(HELP[:1])
    named = bool(args) and not args[0].startswith("-")
    recipe = load(args[0]) if named else Config()
    if asked:
        show_recipe_help(command, tables, recipe, "--help-all" in asked)
        raise SystemExit(0)

    def parse(recipe: Config) -> tuple:
        unprefixed = [Annotated[table, tyro.conf.arg(name="")] for table in tables]
        settings = Annotated[Config, tyro.conf.arg(name="", default=recipe)]
        return call(tuple[*unprefixed, settings], args[named:], command, f"{name} [CONFIG]")

    from lightxling.corpus.existing import refuse_idle

    *own, given = parse(recipe)
    from_scratch = any(getattr(one, "from_scratch", False) for one in own)
    if named and from_scratch:
        raise UserError(f"--from-scratch is for runs without a recipe; leave it or {args[0]} out")
    if named:
        refuse_idle(given, recipe)
        return *own, given
    from lightxling.train.beginning import begin

    begun = begin(given.corpus.sources, from_scratch=from_scratch)
    *own, config = parse(begun.config)
    refuse_idle(config, begun.config)
    seen, size = config.train.pairs, config.train.batch_size
    told = f"; {seen:,} pairs are seen, in batches of {size}" if seen else ""
    print(begun.said + told, file=sys.stderr)
    return *own, config


def model_first(inputs: Sequence[str], rest: int | None) -> tuple[str | None, list[str]]:
    """Splits `[MODEL] [TEXT ...]`; None stands for the default encoder.

    Args:
      rest: how many texts the command takes; None: any number, and a model is a folder, or nothing
        that exists.

    Raises:
      UserError: their number is wrong, or a single one is nothing that exists.
    """
    if rest is None:
        first = inputs[0] if inputs else "-"
        is_there = os.path.exists(first)
        has_model = first != "-" and (os.path.isdir(first) or not is_there)
        if has_model and len(inputs) == 1 and not is_there and first not in packaged():
            raise UserError(f"{first} is neither a text nor a model; {other_names(Path(first))}")
    elif len(inputs) - rest in (0, 1):
        has_model = len(inputs) > rest
    else:
        raise UserError(
            f"{len(inputs)} paths given; give {rest} text{'s' * (rest > 1)}, after the folder of "
            "an encoder if it is not to be static (lightxling models lists those in the package)"
        )
    return (inputs[0], list(inputs[1:])) if has_model else (None, list(inputs))


USUAL = (
    "corpus.sources",
    "corpus.dev",
    "tokenizer.vocab_size",
    "model.layers",
    "model.width",
    "model.max_length",
    "optimizer.learning_rate",
    "optimizer.warmup_steps",
    "train.pairs",
    "train.epochs",
    "train.batch_size",
    "train.micro_batch",
    "train.init_from",
    "train.seed",
    "train.dev_every",
    "train.checkpoint_every",
)
"""What people set; `--help` shows these, and what the recipe sets."""


def show_recipe_help(
    command: Callable, tables: Sequence[type], recipe: Config, is_whole: bool
) -> None:
    """Prints the help text of a command that takes a recipe.

    Args:
      tables: the dataclasses of the command's own options.
      is_whole: every setting, with all of its text, but for objectives of further tasks and of
        stages that have no weight; otherwise the usual ones and those that the recipe sets, a
        sentence each.
    """
    name = command.__name__
    own = [setting for table in tables for setting in settings_of(table)]
    settings = list(settings_of(recipe))
    shown = [one for one in settings if (_is_in_use(one, recipe) if is_whole else _is_usual(one))]
    values = f"The values are those of the recipe {recipe.name}."
    if not recipe.name:
        known = ", ".join(sorted(recipes()))
        values = (
            f"CONFIG is a recipe ({known}) or a file of your own (mine.py). The values are the "
            "defaults. Without CONFIG, the text decides: it goes on from the encoder in the "
            "package that has its languages, or else it is light or many."
        )
    print(f"usage: lightxling {name} [CONFIG] [--OPTION VALUE ...]\n\n{inspect.getdoc(command)}\n")
    print(fold(values))
    for (table, place), group in itertools.groupby([*own, *shown], lambda s: (s.table, s.place)):
        text = " ".join((inspect.getdoc(table) or "").split())
        print("\n" + fold((f"{place}: " if place else "") + (text if is_whole else _first(text))))
        rows = []
        for one in group:
            text = describe_setting(one)
            flag = f"  --{one.name.replace('_', '-')} {_example(one)}"
            rows.append((flag, text if is_whole else _first(text)))
        print(definitions(rows))
    if more := len(settings) - len(shown):
        every = f"lightxling {name} {recipe.name or 'CONFIG'} --help-all"
        every = "tasks.N.objectives has all that objectives has" if is_whole else every
        print(f"\n{more} more settings: {every}")


def _is_usual(setting: Setting) -> bool:
    name = re.sub(r"\.\d+\.", ".0.", setting.name)
    if name.removeprefix("stages.0.") in (*USUAL, "layers", "tasks.0.sources"):
        return True
    return name != "name" and setting.value != _defaults().get(name, dataclasses.MISSING)


def _is_in_use(setting: Setting, recipe: Config) -> bool:
    term = re.fullmatch(r"(tasks|stages)\.(\d+)\.objectives\.(\w+)\.\w+", setting.name)
    if not term:
        return True
    part = getattr(recipe, term[1])[int(term[2])]
    return getattr(part.objectives, term[3]).weight > 0


@functools.cache
def _defaults() -> dict[str, Any]:
    """Every setting at its default, with a task, a stage and an adapter."""
    one = {"tasks": (TaskConfig(),), "stages": (StageConfig(),)}
    whole = change(Config(), **one, model__adapters=(AdapterConfig(),))
    return {setting.name: setting.value for setting in settings_of(whole)}


def describe_setting(setting: Setting) -> str:
    """The text of a setting; its first sentence ends with what a value may be."""
    # an objective of a recipe's own may have settings without a text
    text = texts(setting.table).get(setting.name.rpartition(".")[2], "Of the recipe's own")
    first, *rest = text.split(". ", 1)
    choices = [one for one in typing.get_args(setting.kind) if isinstance(one, str)]
    rules = [" | ".join(choices)] if choices else []
    rules += [setting.bound.short] if setting.bound else []
    rules += ["required"] if setting.value is dataclasses.MISSING else []
    first = first.removesuffix(".") + (f" ({'; '.join(rules)})" if rules else "")
    return ". ".join([first, *rest]).removesuffix(".") + "."


def _first(text: str) -> str:
    return text.split(". ", 1)[0].removesuffix(".")


@functools.cache
def texts(table: type) -> dict[str, str]:
    """The text under each field of a dataclass, in one line; without one, that of a base."""
    base = table.__base__
    inherited = texts(base) if dataclasses.is_dataclass(base) else {}
    (definition,) = ast.parse(inspect.getsource(table)).body
    return inherited | {
        field.target.id: " ".join(text.value.value.split())
        for field, text in itertools.pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }


def _example(setting: Setting) -> str:
    """What stands behind a flag: the value as it would be typed, or INT, STR ... where none is."""
    value = setting.value
    if value in ("", (), None, dataclasses.MISSING):
        return _type_name(setting.kind)
    if isinstance(value, tuple):
        return f"{value[0]} {value[1]} ..." if len(value) > 3 else " ".join(map(str, value))
    return str(value)


def _type_name(kind: Any) -> str:
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return f"{_type_name(arguments[0])} ..."
    return (arguments[0] if arguments else kind).__name__.upper()  # of str | None: str
