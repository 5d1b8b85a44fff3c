"""The command line: stdout is data, stderr is talk. One file per verb group; a verb's code is imported when it is called.

Exit codes: 0 fine, 1 findings (check, test, diff, audit, scan), 2 usage, 3 bad data, 4 missing extra,
5 storage full, 70 a bug in Shopward.
"""

from __future__ import annotations

import errno
import sys
import traceback
from importlib import import_module

import click

from shopward import __version__
from shopward.errors import ShopwardError

VERBS = {
    "demo": ("demo", "A small marketplace from end to end: what was caught, and why."),
    "decide": ("decide", "Decide on every event of files: rows of action and reasons."),
    "features": ("features", "Exact point-in-time features of files, or what a feature means."),
    "backtest": ("backtest", "What a rulebook would have done on history, in money."),
    "init": ("init", "Write a rulebook folder to edit: protection for buyers, sellers or creators."),
    "rules": ("rules", "Check, test, compare and describe rulebooks; let labels propose rules."),
    "model": ("model", "Train, score, audit, deploy and watch models."),
    "market": ("market", "Write a synthetic marketplace with attackers and the truth."),
    "serve": ("serve", "Answer decisions over HTTP."),
    "label": ("label", "Record what turned out to be fraud."),
    "list": ("list", "Put a key on an allow, block or watch list, or see who is on it and why."),
    "report": ("report", "How the defence did over the last days: loss, insults, reviews, rules, misses."),
    "traffic": ("traffic", "Look at HTTP traffic: interfaces, leaks, exposure, attacks."),
    "sql": ("sql", "Query the data folder through DuckDB."),
    "lake": ("lake", "The history as Parquet tables: compact, merge, check, describe, tag, erase."),
}


class Verbs(click.Group):
    """Lists every verb without importing any; imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*VERBS]  # the verb `list` is a module of this package and hides the type

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        module = import_module(f"shopward.cli.{VERBS[name][0]}")
        return told(getattr(module, name), name)

    def resolve_command(self, ctx: click.Context, args: list[str]):
        from difflib import get_close_matches

        if args and args[0] not in VERBS and not args[0].startswith("-"):
            near = get_close_matches(args[0], VERBS, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            raise click.UsageError(f"no such command `{args[0]}`.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in VERBS.items()])


def told(command: click.Command, path: str) -> click.Command:
    """The command with examples at the foot of its help; in a list of commands its first sentence stands whole."""
    from shopward.cli.examples import EXAMPLES

    if path in EXAMPLES:
        command.epilog = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in EXAMPLES[path])
    command.short_help = " ".join((command.help or "").split("\n\n")[0].split()).split(". ")[0].removesuffix(".") + "."
    for name, part in command.commands.items() if isinstance(command, click.Group) else ():
        told(part, f"{path} {name}")
    return command


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="shopward")
def cli() -> None:
    """Shopward protects an online marketplace's buyers, sellers and creators."""


def main(argv: list[str] | None = None) -> None:
    """Run the command line; every ShopwardError becomes its message and exit code."""
    try:
        sys.exit(cli.main(argv, standalone_mode=False) or 0)
    except ShopwardError as error:
        click.echo(f"shopward: {error}" if "\n" not in str(error) else str(error), err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.exceptions.Abort:
        click.echo("shopward: stopped", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:  # a file that cannot be read or written, and which
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"shopward: {where}{(error.strerror or str(error)).lower()}", err=True)
        sys.exit(5 if error.errno in (errno.ENOSPC, errno.EDQUOT) else 2)
    except Exception:  # noqa: BLE001  (a bug: its exit code must not read as "findings")
        traceback.print_exc()
        sys.exit(70)
