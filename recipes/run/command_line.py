"""Flags from a frozen dataclass; the user's errors in one line, with status 2."""

import argparse
import dataclasses
import errno
import shlex
import sys

from recipes.run import output
from recipes.run.values import FOLDER, Allowed, printable


class UserError(Exception):
    """An error that the user can fix: shown as one line, without a traceback."""


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviated flags, and whose complaints are UserErrors."""

    def __init__(self, **options):
        super().__init__(
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **options,
        )

    def error(self, message):
        """Raise UserError."""
        raise UserError(f"{message} (--help explains the command line)")


def flag(default, help, **limits):
    """Make a dataclass field that is a flag.

    Args:
        default: Its default, which gives its type.
        help: What ``--help`` says of it.
        **limits: What it may be: see `Allowed`.
    """
    allowed = Allowed(type(default), **limits)
    return dataclasses.field(
        default=default, metadata={"help": help, "allowed": allowed}
    )


def flag_name(field_name):
    """Return the flag of a field, without its dashes."""
    return field_name.replace("_", "-")


def check_flags(config):
    """Raise UserError unless each flag of ``config`` has an allowed value."""
    for field in dataclasses.fields(config):
        name = f"--{flag_name(field.name)}"
        try:
            field.metadata["allowed"].check(name, getattr(config, field.name))
        except ValueError as error:
            raise UserError(str(error)) from error


def folder_name(text):
    """Return the folder that a flag of a tool names: the ``type`` of such a flag."""
    if not FOLDER.holds(text):
        raise argparse.ArgumentTypeError(f"it must be {FOLDER}, got {text!r}")
    return text


def parse(program, presets, description, arguments):
    """Return the chosen preset's configuration, changed by the other flags.

    Args:
        program: What starts the program, ``"python -m recipes mnist"``.
        presets: Dict from name to configuration; the first is the default.
        description: What ``--help`` says first.
        arguments: The command line, without the program's name.

    Returns:
        A configuration of the presets' class. Its field ``preset`` is the name.
    """
    default = next(iter(presets))
    parser = Parser(prog=program, description=description)
    parser.add_argument(
        "--preset",
        choices=presets,
        default=default,
        help=f"the program to run (default: {default})",
    )
    for field in dataclasses.fields(presets[default]):
        if field.name == "preset":
            continue
        defaults = {
            name: getattr(preset, field.name) for name, preset in presets.items()
        }
        shown = "; ".join(f"{name}: {value!r}" for name, value in defaults.items())
        if len(set(defaults.values())) == 1:
            shown = repr(defaults[default])
        choices = field.metadata["allowed"].choices
        parser.add_argument(
            f"--{flag_name(field.name)}",
            type=field.type,
            choices=choices,
            default=None,
            metavar=None if choices else field.type.__name__.upper(),
            help=f"{field.metadata['help']} (default: {shown})".replace("%", "%%"),
        )
    chosen = vars(parser.parse_args(arguments))
    preset = presets[chosen["preset"]]
    return dataclasses.replace(
        preset, **{k: v for k, v in chosen.items() if v is not None}
    )


def expand(arguments):
    """Return arguments with the words of TEXT in place of ``--args=TEXT``.

    So ``make … ARGS="--words 200"`` hands flags over. The text is split as a shell does
    it; nothing in it is run.

    >>> expand(["--seed=1", "--args=--words 200 --name 'a b'"])
    ['--seed=1', '--words', '200', '--name', 'a b']
    """
    expanded = []
    for argument in arguments:
        name, _, text = argument.partition("=")
        try:
            expanded += shlex.split(text) if name == "--args" else [argument]
        except ValueError as error:  # a quotation that is not closed
            raise UserError(f"ARGS: {error}, got {text!r}") from error
    return expanded


def exit_with(main):
    """Call ``main`` with the arguments; exit with its status.

    The status is 2 after a UserError or if standard output cannot be written, 130 after
    Ctrl-C, and 141, as if SIGPIPE had ended it, where nobody reads its output any more
    (``… | head``). `recipes.run.output` says what becomes of training then.
    """
    output.open_missing()
    with output.guarded("stderr", needed=False):
        try:
            with output.guarded("stdout", needed=True):
                status = main(expand(sys.argv[1:]))
        except UserError as error:
            line = printable(" ".join(str(error).splitlines()))
            print("error:", line, file=sys.stderr)
            status = 2
        except KeyboardInterrupt:
            status = 130
        except output.OutputError as error:
            status = 141 if error.errno == errno.EPIPE else 2
            if status == 2:
                line = f"cannot write to standard output: {output.reason(error)}"
                print("error:", line, file=sys.stderr)
    sys.exit(status)
