"""`--help`: every command says what it does, what each option means, and shows an example that is one."""

from __future__ import annotations

import shlex

import click
import pytest

from shopward.cli import cli
from shopward.cli.examples import EXAMPLES


def commands(command=cli, path=()):
    """Every command with its words, groups aside."""
    if not isinstance(command, click.Group) or command.invoke_without_command:
        yield " ".join(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), (*path, name))


ALL = dict(commands())


def test_every_command_has_an_example_and_every_option_a_meaning():
    assert sorted(ALL) == sorted(EXAMPLES)
    for path, command in ALL.items():
        mute = [p.opts for p in command.params if isinstance(p, click.Option) and not (p.help or p.hidden)]
        assert not mute, path
        with click.Context(command, info_name=path) as context:
            assert EXAMPLES[path][0] in command.get_help(context)


@pytest.mark.parametrize("path", sorted(EXAMPLES))
def test_an_example_is_a_command_that_parses(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("labels.csv", "access.log", "payments.runs.ndjson", "creditcard.csv"):
        (tmp_path / name).touch()
    (tmp_path / "my-rules").mkdir()
    (tmp_path / "my-rules-new").mkdir()
    (tmp_path / "shop-data").mkdir()
    for line in EXAMPLES[path]:
        words = shlex.split(line.split(" > ")[0].rpartition("| ")[2])
        assert words[0] == "shopward" and " ".join(words[1:]).startswith(path)
        ALL[path].make_context(path, words[1 + len(path.split()) :])


def test_a_list_of_commands_says_each_in_a_whole_sentence():
    for group in ("traffic", "model", "lake"):
        command = cli.get_command(click.Context(cli), group)
        with click.Context(command, info_name=group) as context:
            listed = command.get_help(context).rpartition("Commands:")[2].splitlines()
        assert not [line for line in listed if line.endswith("...")]
