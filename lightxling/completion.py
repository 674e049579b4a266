"""`lightxling --completion SHELL`: what a shell needs to complete commands, options and values.

    eval "$(lightxling --completion bash)"        in ~/.bashrc; zsh likewise in ~/.zshrc
    lightxling --completion fish | source         in ~/.config/fish/config.fish

The script holds all of it, so that a press of TAB starts no Python. It is read off the help texts.
"""

import contextlib
import io
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from lightxling.base.errors import UserError
from lightxling.base.places import packaged
from lightxling.cli_options import call
from lightxling.config.files import recipes

SHELLS = ("bash", "zsh", "fish")
_OPTION = re.compile(r"^[│ ] (-.*?)(?:  .*)?$", re.MULTILINE)


class Command(NamedTuple):
    """A command as a shell sees it."""

    name: str
    options: dict[str, list[str]]
    """Each with the values that it takes, if they are few."""
    names: list[str]
    """What may stand in place of a file: recipes, or encoders in the package."""


def completion(shell: str, commands: Mapping[str, Callable]) -> str:
    """The script for a shell.

    Raises:
      UserError: it is none of those known.
    """
    if shell not in SHELLS:
        raise UserError(f"--completion {shell} should be one of {', '.join(SHELLS)}")
    known = [described(name, function) for name, function in commands.items()]
    return (fish if shell == "fish" else bash)(known, is_zsh=shell == "zsh")


def described(name: str, function: Callable) -> Command:
    text = help_text(function, "--help")
    takes_recipe = "[CONFIG]" in text
    if takes_recipe:
        text = help_text(function, "--help-all")
    options = {}
    for left in _OPTION.findall(text):
        choices = re.search(r"\{(?!None\}|\[)([\w,.-]+)\}", left)
        values = choices[1].split(",") if choices else []
        for option in re.findall(r"--[\w.-]+", left):
            options[option] = [value for value in values if value != "None"]
    options = {option: values for option, values in options.items() if "--tyro" not in option}
    return Command(name, options, sorted(recipes() if takes_recipe else packaged()))


def help_text(function: Callable, flag: str) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        if "args" in function.__annotations__:
            function([flag])
        else:
            call(function, [flag], function)
    return said.getvalue()


BASH = """\
_lightxling() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} options names values
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W "@COMMANDS@ --help --version --completion" -- "$cur"))
        return
    fi
    case "${COMP_WORDS[1]}" in
@OPTIONS@
    esac
    case "${COMP_WORDS[1]} $prev" in
@VALUES@
    esac
    if [[ -n $values ]]; then
        COMPREPLY=($(compgen -W "$values" -- "$cur"))
    elif [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$cur"))
    else
        [[ $prev != -* ]] && COMPREPLY=($(compgen -W "$names" -- "$cur"))
        local IFS=$'\\n'
        COMPREPLY+=($(compgen -f -- "$cur"))
    fi
}
complete -o filenames -F _lightxling lightxling
"""


def bash(commands: list[Command], is_zsh: bool) -> str:
    options = [
        f'        {one.name}) options="{" ".join(one.options)}" names="{" ".join(one.names)}" ;;'
        for one in commands
    ]
    values = [
        f'        "{name} {option}") values="{" ".join(values)}" ;;'
        for name, option, values in choices(commands)
    ]
    values.append(f'        "--completion --completion") values="{" ".join(SHELLS)}" ;;')
    parts = {
        "@COMMANDS@": " ".join(one.name for one in commands),
        "@OPTIONS@": "\n".join(options),
        "@VALUES@": "\n".join(values),
    }
    text = "autoload -Uz bashcompinit && bashcompinit\n" * is_zsh + BASH
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return text.rstrip()


def choices(commands: list[Command]) -> Iterator[tuple[str, str, list[str]]]:
    """(command, option, values) of options that take one of a few values."""
    for one in commands:
        for option, values in one.options.items():
            if values:
                yield one.name, option, values


def fish(commands: list[Command], is_zsh: bool) -> str:
    names = " ".join(one.name for one in commands)
    first = f"complete -c lightxling -n '__fish_is_nth_token 1' -f -a '{names}'"
    lines = [first]
    for one in commands:
        here = f"complete -c lightxling -n '__fish_seen_subcommand_from {one.name}'"
        lines.append(f"{here} -a {shlex.quote(' '.join(one.names))}")
        for option, values in one.options.items():
            given = f"-x -a {shlex.quote(' '.join(values))}" if values else "-r"
            lines.append(f"{here} -l {option.removeprefix('--')} {given}")
    return "\n".join(lines)
