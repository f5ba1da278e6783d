"""`intarsia`: the commands, and how errors leave them."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from intarsia import __version__
from intarsia.core.errors import ConfigError, IntarsiaError

app = typer.Typer(
    name="intarsia",
    help="Recommender systems assembled from pieces: one pipeline file from raw data to trusted recommendations.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_CLICK_ERROR: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
_ANYWHERE = ("--traceback", "--verbose")
"""Options of the program that may stand behind the command, too."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"intarsia {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error came from in the code.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more: cache hits, files read.")] = False,
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--import", metavar="MODULE", help="Import a module first, which registers components of your own."
        ),
    ] = None,
) -> None:
    log = logging.getLogger("intarsia")
    log.setLevel(logging.INFO if verbose else logging.WARNING)
    if not any(isinstance(handler, _StandardError) for handler in log.handlers):
        log.addHandler(_StandardError())
    for name in modules or []:
        _import(name)


def _import(name: str) -> None:
    """Imports a module that the user names, from the working directory too.

    Raises:
        ConfigError: There is no such module, or it does not import.
    """
    import importlib

    sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(name)
    except IntarsiaError:
        raise
    except Exception as error:
        raise ConfigError(f"--import names a module that can be imported. Received: {name} ({error})") from error
    finally:
        sys.path.remove(os.getcwd())


class _StandardError(logging.Handler):
    """Writes to whatever standard error is at the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), file=sys.stderr, flush=True)


def _register() -> None:
    from intarsia.cli import catalogues, check, compare, data, doctor, init, recommend, serving, show, train

    for module in (init, train, recommend, serving, compare, check, show, catalogues, data, doctor):
        module.register(app)


_register()


def run(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Errors that a user can cure are told in plain words on standard error; `--traceback` shows where they came from.
    With `--json`, standard output gets exactly one JSON document, `{"error": ...}` where the command failed.

    Args:
        argv: Words after the program's name. Default: those of the process.

    Returns:
        Exit code: 0 done, 1 other error, 2 wrong pipeline or usage, 3 data, 4 checkpoint or bundle, 5 training, 6
        missing extra, 7 evaluation, 130 interrupted, 141 nobody reads the output any more, 143 terminated.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    words = [w for w in _ANYWHERE if w in words] + [w for w in words if w not in _ANYWHERE]
    try:
        command = typer.main.get_command(app)
        with command.make_context("intarsia", words.copy()) as context:
            command.invoke(context)
        sys.stdout.flush()
        return 0
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:
        return 130
    except KeyboardInterrupt:
        return _fail("interrupted", 130, words)
    except BrokenPipeError:
        # What is left in the buffer has nowhere to go; the interpreter must not try again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if "--traceback" in words:
            import traceback

            traceback.print_exception(error)
        return _fail(*_explained(error), words, error)


def _explained(error: Exception) -> tuple[str, int]:
    """What a person is told of an error, and the exit code."""
    if isinstance(error, IntarsiaError):
        return str(error), error.exit_code
    if isinstance(error, _CLICK_ERROR):
        return _usage(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the operating system'}: {error.strerror}", 1
    kind, text = type(error).__name__, str(error).strip()
    if isinstance(error, MemoryError) or "out of memory" in text.lower():
        return (
            f"there is not enough memory ({kind}: {text}). Take a smaller batch_size, smaller tables, or less data.",
            1,
        )
    return f"{kind}: {text}. This should not have happened; --traceback shows where it did.", 1


def _usage(error: Exception) -> tuple[str, int]:
    """Click's own errors; a bare `intarsia` asks for its help, which is no error to explain."""
    message = error.format_message().rstrip()  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    code = int(getattr(error, "exit_code", 2))
    if context is None or message.startswith("Usage:"):
        return message, code
    usage = " ".join(context.get_usage().split()).removeprefix("Usage: ")
    return f"{message}\nusage: {usage}\nhelp:  {context.command_path} --help", code


def _fail(message: str, code: int, words: Sequence[str], error: Exception | None = None) -> int:
    from intarsia.cli.output import complain, print_json

    if message.startswith("Usage:"):
        print(message, file=sys.stderr)
    else:
        complain(message)
    if "--json" in words:
        problems = error.problems if isinstance(error, ConfigError) else ()
        shown = [{"where": p.where, "path": p.path, "message": p.message} for p in problems]
        kind = "Interrupted" if error is None else type(error).__name__
        print_json({"error": {"kind": kind, "exit_code": code, "message": message, "problems": shown}})
    return code


def main() -> None:
    """Entry point; see `run`."""
    sys.exit(run())


if __name__ == "__main__":
    main()
