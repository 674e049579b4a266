"""The commands, one function each.

Heavy imports stand inside the functions, so that `lightxling --help` starts at once.
"""

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lightxling.config import Config, UserError, load


@dataclasses.dataclass(frozen=True)
class Prepare:
    config: Annotated[Config, tyro.conf.arg(name="")]


@dataclasses.dataclass(frozen=True)
class Train:
    workdir: Path
    """Folder of the run; a run that stands there already is resumed."""
    config: Annotated[Config, tyro.conf.arg(name="")]


def with_recipe(command: type, args: list[str]):
    """Parses `CONFIG [--key.sub value ...]`: the recipe gives the defaults of the flags."""
    name = command.__name__.lower()
    if not args or args[0].startswith("-"):
        if args and args[0] not in ("-h", "--help"):
            raise UserError(f"{name} starts with a recipe: lightxling {name} light {' '.join(args)}")
        recipe, rest = Config(), ["--help"]
    else:
        recipe, rest = load(args[0]), args[1:]
    fields = {"config": recipe}
    if command is Train:
        fields["workdir"] = tyro.MISSING
    return tyro.cli(
        tyro.conf.configure(tyro.conf.FlagConversionOff)(command),
        args=rest,
        default=command(**fields),
        prog=f"lightxling {name} CONFIG",
        description=globals()[name].__doc__,
    )


def prepare(args: list[str]) -> None:
    """Read, clean and tokenise the corpora of a recipe into a token store.

    Example: lightxling prepare light --corpus.sources "en-fr=data/*.en-fr.tsv.gz"
    """
    config = with_recipe(Prepare, args).config
    from lightxling.config import validate
    from lightxling.corpus.prepare import prepare

    validate(config)
    print(prepare(config))


def train(args: list[str]) -> None:
    """Train an encoder, or go on with a run that was stopped.

    Example: lightxling train light --workdir runs/en-fr --corpus.sources "en-fr=data/*.en-fr.tsv.gz"
    """
    given = with_recipe(Train, args)
    from lightxling.encoder import keep_compiled
    from lightxling.train.loop import train

    keep_compiled()

    train(given.config, given.workdir)


COMMANDS: dict[str, Callable[[list[str]], None]] = {"prepare": prepare, "train": train}


def usage() -> str:
    lines = ["usage: lightxling COMMAND ...   (lightxling COMMAND --help tells more)", ""]
    for name, function in COMMANDS.items():
        lines.append(f"  {name:<12}{function.__doc__.splitlines()[0]}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Runs a command; a mistake of the person who typed it ends in one message and exit code 2."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    try:
        if argv[0] not in COMMANDS:
            import difflib

            near = difflib.get_close_matches(argv[0], COMMANDS, n=1)
            hint = f"; perhaps you meant {near[0]}" if near else ""
            raise UserError(f"no command {argv[0]!r}{hint}\n{usage()}")
        COMMANDS[argv[0]](argv[1:])
    except UserError as error:
        print(f"lightxling: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
