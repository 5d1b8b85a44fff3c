"""`shopward rules check|test|diff|catalogue|coverage`: is the rulebook right, does it do what it says, what does it mean, what differs?"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

import click

from shopward.cli.mine import mine
from shopward.cli.talk import emit, json_option, load_rulebook, progress, say
from shopward.errors import RulebookError, UsageError
from shopward.words import count

directory = click.argument("rulebook_dir", required=False, type=click.Path(path_type=Path))


@click.group()
def rules() -> None:
    """Check, test, compare and describe rulebooks."""


@rules.command()
@directory
@json_option
def check(rulebook_dir: Path | None, as_json: bool) -> None:
    """Read and type-check a rulebook; print every problem with its place. Exit code 1 if there is any."""
    try:
        rulebook = load_rulebook(rulebook_dir)
    except RulebookError as error:
        if as_json:
            emit({"ok": False, "problems": error.problems})
        else:
            for problem in error.problems:
                click.echo(problem.render())
            n = len(error.problems)
            say(count(n, "problem"))
        raise SystemExit(1) from None
    report = {
        "ok": True,
        "version": rulebook.version,
        "features": len(rulebook.features),
        "rules": len(rulebook.rules),
        "tests": sum(len(r.tests) for r in rulebook.rules.values()),
        "warnings": rulebook.warnings,
    }
    if as_json:
        emit(report)
    else:
        click.echo(
            f"ok: {count(report['rules'], 'rule')}, {count(report['features'], 'feature')}, {count(report['tests'], 'test')}, "
            f"version {rulebook.version}"
        )
        for warning in rulebook.warnings:
            say(f"warning: {warning.render()}")


@rules.command()
@directory
@click.option("--rule", "only", multiple=True, metavar="ID", help="Test just these rules.")
@json_option
def test(rulebook_dir: Path | None, only: tuple[str, ...], as_json: bool) -> None:
    """Run the tests written in the rules. Exit code 1 if any fails."""
    from shopward.rules_test import run_tests

    rulebook = load_rulebook(rulebook_dir)
    for name in only:
        if name not in rulebook.rules:
            near = get_close_matches(name, rulebook.rules, n=1)
            raise UsageError(f"unknown rule `{name}`" + (f"; did you mean `{near[0]}`?" if near else ""))
    total = sum(len(r.tests) for r in rulebook.rules.values() if not only or r.id in only)
    with progress("testing rules", total) as done:
        results = list(run_tests(rulebook, only, on_progress=done))
    failed = [r for r in results if not r.passed]
    if as_json:
        emit({"passed": len(results) - len(failed), "failed": len(failed), "results": results})
    else:
        for result in failed:
            click.echo(f"FAILED {result.file}:{result.line}: {result.rule}: {result.test}\n    {result.why}")
        click.echo(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    if failed:
        raise SystemExit(1)


@rules.command()
@click.argument("before", type=click.Path(path_type=Path, exists=True))
@click.argument("after", type=click.Path(path_type=Path, exists=True))
@json_option
def diff(before: Path, after: Path, as_json: bool) -> None:
    """What AFTER decides otherwise than BEFORE: rules, features, thresholds, lists, policy. Exit code 1 if anything differs."""
    from shopward.declare.diff import diff as compare

    old, new = load_rulebook(before), load_rulebook(after)
    found = compare(old, new)
    if as_json:
        emit({"same": not found, "before": old.version, "after": new.version, "changes": found})
    else:
        for change in found:
            click.echo(change.render())
        say(count(len(found), "difference"))
    if found:
        raise SystemExit(1)


@rules.command()
@directory
def catalogue(rulebook_dir: Path | None) -> None:
    """Print every feature and rule with its meaning in a sentence and in SQL, as Markdown."""
    from shopward.rules.catalogue import catalogue as written

    click.echo(written(load_rulebook(rulebook_dir)), nl=False)


@rules.command()
@directory
@json_option
def coverage(rulebook_dir: Path | None, as_json: bool) -> None:
    """Print which techniques have rules and which are blind spots, as Markdown."""
    from shopward.rules.coverage import coverage as found
    from shopward.rules.coverage import markdown

    rulebook = load_rulebook(rulebook_dir)
    if as_json:
        emit(
            {"techniques": [{"technique": c.technique.id, "state": c.state, "rules": c.rules} for c in found(rulebook)]}
        )
    else:
        click.echo(markdown(rulebook), nl=False)


rules.add_command(mine)
