"""The commands, and how each of them ends: exit code 0, or one line on the standard error.

Nothing here imports torch: `snow --help` should answer at once.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import warnings
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter

from snow import __version__
from snow.errors import SnowError
from snow.process.startup import keep_freed_memory, limit_openmp_spinning

COMMANDS = {
    "quickstart": "Train two small tasks on pictures that come with the installation.",
    "train": "Train a task, or several at once, on a frozen CNN.",
    "eval": "Measure a task on labelled pictures.",
    "predict": "Ask the tasks of a hub about pictures.",
    "export": "Write a hub as one file for ONNX Runtime or torch.export.",
    "serve": "Answer over HTTP, with a page for the browser.",
    "plan": "Tell how many replicas a load needs, from what was measured.",
    "taps": "List the feature maps that a CNN offers.",
    "compare": "Train methods on the same work and measure them side by side.",
    "sweep": "Measure how accuracy depends on the options of method snow.",
    "bench": "Measure how fast this machine trains and answers, and where the time goes.",
    "lifelong": "Learn tasks one after the other and measure the earlier ones after each.",
    "params": "Count parameters, by method and by subscription.",
    "reproduce": "Measure a table or figure of the paper anew, beside the paper's own figures.",
    "choice": "Show which channels a task took, over the time of its training.",
    "overlap": "Show how far the tasks of a hub take the same channels.",
    "hub": "Look into a hub, change it, verify it, compare it with another one.",
}

BAD_INPUT = 2
BROKEN_PIPE = 1

app = App(
    name="snow",
    help="One frozen CNN, any number of small task networks that subscribe to its channels.",
    help_epilogue="Start with: snow quickstart. Each command's --help has an example.",
    help_format="plaintext",
    version=__version__,
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(negative_iterable=(), negative_none=()),
)
for _name, _help in COMMANDS.items():
    app.command(f"snow.cli.{_name}:app", name=_name, help=_help, sort_key=list(COMMANDS).index(_name))


def command(name: str, example: str) -> App:
    """What a command's module makes its function the default of."""
    return App(name=name, help_format="markdown", help_epilogue=f"Example: `{example}`")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0; 2 for bad input; 128 and the signal's number when stopped.

    Args:
        arguments: what follows `snow`; by default those of this process.
    """
    if arguments is None:
        _print_any_character()
        keep_freed_memory()
        limit_openmp_spinning()
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
    try:
        code = app(
            sys.argv[1:] if arguments is None else arguments,
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        sys.stdout.flush()
        return code or 0
    except (SnowError, CycloptsError) as error:
        return _fail(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt as error:
        print(str(error) or "interrupted", file=sys.stderr)
        return 128 + getattr(error, "signal", signal.SIGINT)


def _print_any_character() -> None:
    """Writes \\u732b for a character that the encoding of the output lacks (cp1252, ASCII) in place of a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fail(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return BAD_INPUT
