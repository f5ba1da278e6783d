"""`intarsia`: the commands, and how errors leave them."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from intarsia import __version__
from intarsia.core.errors import IntarsiaError

app = typer.Typer(
    name="intarsia",
    help="Recommender systems assembled from pieces: one pipeline file from raw data to trusted recommendations.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"intarsia {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error came from in the code.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more: cache hits, files read.")] = False,
) -> None:
    if traceback:
        os.environ["INTARSIA_TRACEBACK"] = "1"
    import logging

    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s", stream=sys.stderr)


def _register() -> None:
    from intarsia.cli import catalogues, data, doctor, inspect, recommend, train

    for module in (train, recommend, inspect, catalogues, doctor, data):
        module.register(app)


_register()


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 other error, 2 wrong pipeline or usage, 3 data, 4 checkpoint, 5 training, 6 missing
    extra, 130 interrupted.
    """
    try:
        app()
    except IntarsiaError as error:
        if os.environ.get("INTARSIA_TRACEBACK"):
            raise
        from intarsia.cli.output import complain

        complain(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    main()
