"""`python -m intarsia.data.taobao`: the two functions from the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from intarsia.core.errors import IntarsiaError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one of the two; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m intarsia.data.taobao", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    raw = commands.add_parser("convert", help="the public raw files to train.csv and test.csv")
    raw.add_argument("raw", help="folder with raw_sample.csv, ad_feature.csv, user_profile.csv, behavior_log.csv")
    raw.add_argument("out", help="folder to write")
    raw.add_argument("--share", type=float, default=0.05, help="share of the people that is kept (default: 0.05)")
    raw.add_argument("--seed", type=int, default=17, help="which people are chosen (default: 17)")
    made = commands.add_parser("generate", help="made data of the same shape: train.csv, test.csv, truth.json")
    made.add_argument("out", help="folder to write")
    made.add_argument("--num-users", type=int, default=4000, help="people (default: 4000)")
    made.add_argument("--num-rows", type=int, default=150_000, help="rows of both files (default: 150000)")
    made.add_argument("--seed", type=int, default=17, help="source of all draws (default: 17)")
    options = parser.parse_args(arguments)
    try:
        print(_convert(options) if options.command == "convert" else _generate(options))  # noqa: T201
    except IntarsiaError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def _convert(options: argparse.Namespace) -> str:
    from intarsia.data.taobao.convert import convert

    done = convert(options.raw, options.out, share=options.share, seed=options.seed)
    return (
        f"{done.train}: {done.rows['train']:,} rows; {done.test}: {done.rows['test']:,} rows; {done.users:,} people, "
        f"{done.behaviours:,} behaviours, {done.clicks:,} clicks, {done.purchases:,} purchases"
    )


def _generate(options: argparse.Namespace) -> str:
    from intarsia.data.taobao.generate import generate

    done = generate(options.out, num_users=options.num_users, num_rows=options.num_rows, seed=options.seed)
    return (
        f"{done.train}: {done.rows['train']:,} rows; {done.test}: {done.rows['test']:,} rows; click rate "
        f"{done.click_rate:.3f}; the true probabilities have an AUC of {done.bayes_auc:.4f} on the test rows"
    )


if __name__ == "__main__":
    sys.exit(main())
