"""Starts a program: ``python -m recipes mnist --help``.

Everything that a program needs of its process is done here and nowhere else, so that
importing a part of `recipes` changes nothing. ``python -m recipes.mnist`` works too,
but starts two seconds later, and its libraries write to standard error.
"""

import sys

try:  # before all else: only while Python itself starts does Ctrl-C show a traceback
    import signal

    if (
        __name__ == "__main__"
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # where Ctrl-C is not ignored
except KeyboardInterrupt:
    sys.exit(130)

import importlib

PROGRAMS = {
    "mnist": "train on MNIST, read row by row",
    "imdb": "train on film reviews",
    "predict": "say which digit an image shows, or whether a review is good",
    "export": "write a trained model as ONNX, SavedModel or LiteRT",
    "resume": "resume an interrupted run",
    "runs": "list all runs",
    "compare": "train every cell on tasks that need memory, and draw up a table",
    "demo": "play in the browser: draw a digit, type a review",
}


def start(arguments):
    """Call the program that the first argument names; return its exit status.

    Until the program is imported, Ctrl-C ends the process at once and without a
    traceback.
    """
    from recipes.run.command_line import Parser

    parser = Parser(prog="python -m recipes", usage="%(prog)s PROGRAM [--help] …")
    programs = parser.add_subparsers(metavar="PROGRAM", dest="program", required=True)
    for name, summary in PROGRAMS.items():
        programs.add_parser(name, help=summary)
    name = parser.parse_args(arguments[:1]).program
    if name not in ("runs", "predict"):  # they need no Keras, or not always
        from recipes.run.keras_settings import check_keras_settings

        check_keras_settings()
    from recipes.run.quiet import fast_and_quiet

    with fast_and_quiet():
        program = importlib.import_module(f"recipes.{name}")
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return program.main(arguments[1:])


def main():
    """Start the program of the command line, and exit with its status."""
    from recipes.run.output import open_missing

    open_missing()  # before a library opens a file
    from recipes.run.command_line import exit_with

    try:
        exit_with(start)
    finally:  # Python ends without a traceback, too
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
