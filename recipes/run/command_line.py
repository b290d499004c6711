"""Flags from a frozen dataclass; the user's errors in one line, with status 2."""

import argparse
import dataclasses
import errno
import shlex
import sys

from recipes.run import output


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


def flag(default, help, choices=None):
    """Make a dataclass field that is a flag and explains itself in ``--help``."""
    return dataclasses.field(
        default=default, metadata={"help": help, "choices": choices}
    )


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
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            type=field.type,
            choices=field.metadata["choices"],
            default=None,
            metavar=None if field.metadata["choices"] else field.type.__name__.upper(),
            help=f"{field.metadata['help']} (default: {shown})".replace("%", "%%"),
        )
    chosen = vars(parser.parse_args(arguments))
    preset = presets[chosen["preset"]]
    return dataclasses.replace(
        preset, **{k: v for k, v in chosen.items() if v is not None}
    )


def check_at_least(config, **minimums):
    """Raise UserError unless each named field is at least its minimum, and finite."""
    for name, minimum in minimums.items():
        value, flag = getattr(config, name), "--" + name.replace("_", "-")
        if not value >= minimum:
            raise UserError(f"{flag} must be at least {minimum}, got {value!r}")
        if value == float("inf"):
            raise UserError(f"{flag} must be finite, got {value!r}")


def check_above_zero(config, name):
    """Raise UserError unless the named field of ``config`` is above 0 and finite."""
    value = getattr(config, name)
    if not 0 < value < float("inf"):
        raise UserError(f"--{name.replace('_', '-')} must be above 0, got {value!r}")


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
            print("error:", " ".join(str(error).splitlines()), file=sys.stderr)
            status = 2
        except KeyboardInterrupt:
            status = 130
        except output.OutputError as error:
            status = 141 if error.errno == errno.EPIPE else 2
            if status == 2:
                line = f"cannot write to standard output: {output.reason(error)}"
                print("error:", line, file=sys.stderr)
    sys.exit(status)
