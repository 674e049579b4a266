"""How a command line is run: which command it names, and what becomes of errors and warnings."""

import difflib
import sys
import warnings
from collections.abc import Callable, Mapping

from lightxling.base.errors import UserError
from lightxling.base.extras import needed_by
from lightxling.base.signals import Signalled, raise_signals
from lightxling.base.streams import Lasting, open_closed_streams, silence
from lightxling.base.version import __version__
from lightxling.cli_options import call

Commands = Mapping[str, Callable]


def note(line: str) -> None:
    """A line about the progress, on standard error; work does not end where nobody can read it."""
    print(line, file=Lasting(sys.stderr))


def usage(commands: Commands) -> str:
    lines = ["usage: lightxling COMMAND ...   (lightxling COMMAND --help tells more)", ""]
    for name, function in commands.items():
        lines.append(f"  {name:<12}{function.__doc__.splitlines()[0]}")
    lines += [
        "",
        "lightxling --version; lightxling --completion bash|zsh|fish prints a script for TAB",
    ]
    return "\n".join(lines)


def run(commands: Commands, argv: list[str]) -> int:
    """Runs a command; a mistake of the person who typed it ends in one message and exit code 2."""
    try:
        _run(commands, argv)
        sys.stdout.flush()
    except UserError as error:
        note(f"lightxling: {error}")
        return 2
    except KeyboardInterrupt:
        note("lightxling: interrupted")
        return 130
    except Signalled as signalled:
        note(f"lightxling: ended by {signalled.signal.name}")
        return 128 + signalled.signal
    except BrokenPipeError:  # of `| head`
        silence(sys.stdout)
        return 1
    except MemoryError as error:
        note(f"lightxling: the memory is full{f' ({error})' if str(error) else ''}")
        return 2
    except OSError as error:  # one that no door has put into words: too long a name, a damaged disk
        if error.errno is None:
            raise
        note(f"lightxling: {error.filename or 'cannot write the output'}: {error.strerror}")
        if not error.filename:
            silence(sys.stdout)
        return 2
    return 0


def _run(commands: Commands, argv: list[str]) -> None:
    if argv[:1] == ["help"]:  # help COMMAND
        argv = [*argv[1:2], "--help"]
    if not argv or argv[0] in ("-h", "--help"):
        print(usage(commands))
        return
    name, *args = argv
    if name in ("--version", "-V", "version"):
        print(f"lightxling {__version__}")
        return
    if name == "--completion":
        from lightxling.completion import completion

        print(completion(args[0] if args else "", commands))
        return
    if name not in commands:
        near = difflib.get_close_matches(name, commands, n=1)
        hint = f"; perhaps you meant {near[0]}" if near else ""
        raise UserError(f"there is no command {name!r}{hint}\n{usage(commands)}")
    command = commands[name]
    with needed_by(f"lightxling {name}"):
        if "args" in command.__annotations__:  # its flags are those of dataclasses
            command(args)
        else:
            call(command, args, command)


def speak_in_lines() -> None:
    """Makes lines of warnings, exceptions of signals, and escapes of characters that the terminal's
    encoding has not."""
    open_closed_streams()
    raise_signals()
    warnings.showwarning = warn_in_one_line
    for stream in (sys.stdout, sys.stderr):
        if sys.platform == "win32" and not stream.isatty():  # files and pipes are UTF-8, as input
            stream.reconfigure(encoding="utf-8")
        stream.reconfigure(errors="backslashreplace")


def warn_in_one_line(message: Warning | str, category: type[Warning], *place, **more) -> None:
    """Shows a warning of ours without the line of code, which tells nobody at a shell anything."""
    if category is UserWarning:
        note(f"lightxling: {message}")
    else:
        sys.stderr.write(warnings.formatwarning(message, category, *place[:2]))
