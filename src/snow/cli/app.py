"""The `snow` command: its subcommands, and how each of them ends: with exit code 0, or with one line on stderr.

This file does not import torch, so that `snow --help` answers at once.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import select
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

from cyclopts import App, CycloptsError, Parameter

from snow import __version__
from snow.errors import SnowError, printable
from snow.process.crash import DEBUG, report_crash
from snow.process.startup import importing, keep_freed_memory, limit_openmp_spinning

COMMANDS = {
    "quickstart": "Train two small tasks on images that come with the installation.",
    "train": "Train one task, or several at once, on a frozen CNN.",
    "eval": "Evaluate a task on labelled images.",
    "predict": "Classify images with the tasks of a hub.",
    "extend": "Add classes or images to a trained task in seconds.",
    "drift": "Compare images with those that the tasks were trained on.",
    "pick": "Pick the images to label next.",
    "export": "Export a hub as one file for ONNX Runtime or torch.export.",
    "serve": "Serve a hub over HTTP, with a page for the browser.",
    "watch": "Ask tasks about a stream: a folder that fills, a video, a camera.",
    "plan": "Estimate how many replicas of the service a load needs.",
    "sources": "Rank sources for your images: accuracy, speed, memory.",
    "taps": "List the feature maps that a source offers.",
    "compare": "Compare methods on one task: accuracy, speed, memory and size.",
    "sweep": "Measure how accuracy depends on the options of method snow.",
    "bench": "Benchmark training and serving on this machine.",
    "lifelong": "Train tasks one after another and measure what is forgotten.",
    "params": "Count the parameters of methods and subscriptions.",
    "reproduce": "Reproduce a table or figure of the paper.",
    "choice": "Show which channels a task selected during training.",
    "overlap": "Show how much the channel selections of tasks overlap.",
    "hub": "Inspect, change, verify and compare hubs.",
}

TARGETS = {
    "choice": "channels:choice",
    "overlap": "channels:overlap_app",
    "params": "counts:params",
    "sources": "rank:app",
    "taps": "counts:taps",
}
"""MODULE:APP of the commands that share a file; the others are NAME:app."""

BAD_INPUT = 2
BROKEN_PIPE = 1
UNEXPECTED = 1

app = App(
    name="snow",
    help="One frozen CNN feeds any number of small task networks that subscribe to its channels.",
    help_epilogue="Start with: snow quickstart. The --help of each command has an example.",
    help_format="plaintext",
    version=__version__,
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(negative_iterable=(), negative_none=()),
)
for _name, _help in COMMANDS.items():
    _target = TARGETS.get(_name, f"{_name}:app")
    app.command(f"snow.cli.{_target}", name=_name, help=_help, sort_key=list(COMMANDS).index(_name))


def command(name: str, example: str) -> App:
    """Create the app of one command; the module makes its function the default."""
    return App(name=name, help_format="markdown", help_epilogue=f"Example: `{example}`")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    It is 0, 2 for bad input, 1 for an unexpected error, whose traceback goes to a file, or 128 plus the number of the
    signal that stopped the command.

    Args:
        arguments: what follows `snow`; by default the arguments of this process.
    """
    is_process = arguments is None
    if arguments is None:
        _print_any_character()
        keep_freed_memory()
        limit_openmp_spinning()
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        logging.getLogger("snow").addHandler(_LineHandler(logging.WARNING))
        arguments = sys.argv[1:]
    try:
        _require_folder()
        with importing() if is_process else nullcontext():
            _use_full_help(arguments)
        code = app(
            arguments,
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        sys.stdout.flush()
        return code or 0
    except (SnowError, CycloptsError) as error:
        return _fail(str(error))
    except BrokenPipeError as error:
        if not _is_output_closed():
            return _fail(_describe(error))
        _drop_output()
        return BROKEN_PIPE
    except OSError as error:
        return _fail(_describe(error))
    except KeyboardInterrupt as error:
        print(str(error) or "interrupted", file=sys.stderr)
        return 128 + getattr(error, "signal", signal.SIGINT)
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        return _fail(report_crash(error, __version__), UNEXPECTED)


class _LineHandler(logging.Handler):
    """Prints what the package logs in one line each, with tracebacks in a file."""

    def emit(self, record: logging.LogRecord) -> None:
        line = " ".join(record.getMessage().split())
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            line = f"{line}: {report_crash(error, __version__)}"
        print(f"{record.levelname.lower()}: {line}", file=sys.stderr)


def _use_full_help(arguments: Sequence[str]) -> None:
    """Import the command, and let its `--help` show its docstring instead of its line in the list of commands."""
    if arguments and arguments[0] in COMMANDS and app[arguments[0]].default_command is not None:
        app[arguments[0]].help = None


def _print_any_character() -> None:
    """Write \\u732b for a character that the encoding of the output lacks (cp1252, ASCII); drop output if closed."""
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _require_folder() -> None:
    """Raises SnowError: the current folder is gone. Libraries of torch end the process there without a reason."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise SnowError("the current folder has been removed: change to another one") from None


def _describe(error: OSError) -> str:
    """Describe an error of the system in one line. One of a full disk without a file is that of the output."""
    reason = error.strerror or str(error)
    if error.filename:
        return f"{error.filename}: {reason}"
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
        return reason
    _drop_output()
    return f"the output cannot be written: {reason}"


def _drop_output() -> None:
    """Send what is left of the output nowhere: Python would fail again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_output_closed() -> bool:
    """Tell whether nobody reads the output any more; true where the system cannot say."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # a stream without a file
            poll.register(stream.fileno(), 0)
    return bool(poll.poll(0))


def _fail(message: str, code: int = BAD_INPUT) -> int:
    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code
