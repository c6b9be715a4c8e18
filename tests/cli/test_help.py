"""Help texts: each is a phrase that makes sense alone."""

import re

import click
import pytest
from click.testing import CliRunner

from i3dcli.cli.main import main

CRUMB = re.compile(r"(of|in|likewise)\b", re.IGNORECASE)  # how a text begins that needs the one before it
OPTIONS = [
    pytest.param(option, id=f"{name} {option.opts[0]}")
    for name, command in sorted(main.commands.items())
    for option in command.params
    if isinstance(option, click.Option)
]


@pytest.mark.parametrize("option", OPTIONS)
def test_the_help_of_an_option_is_a_whole_phrase(option):
    text = re.sub(r"\s*\[default: [^]]*\]$", "", option.help).removeprefix("TV-L1: ")
    assert len(text.split()) >= 3 and not CRUMB.match(text)
    assert text[0].isupper() and text.endswith((".", "..."))


@pytest.mark.parametrize("name", sorted(main.commands))
def test_the_help_of_a_command_has_a_summary_and_an_example(name):
    text = CliRunner().invoke(main, [name, "-h"]).stdout
    _, summary, *rest = text.split("\n\n")
    assert len(summary.split()) >= 3 and summary.endswith(".") and not CRUMB.match(summary.strip())
    assert any(f"Examples:\n    i3d {name} " in part for part in rest)


def test_the_list_of_commands_says_in_a_line_what_each_does():
    text = CliRunner().invoke(main, ["-h"], terminal_width=80).stdout
    lines = text.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == sorted(main.commands)
    for line in lines:
        _, summary = line.split(maxsplit=1)
        assert len(line) <= 80 and len(summary.split()) >= 3 and not CRUMB.match(summary)
        assert summary.endswith(".") and not summary.endswith("..")  # click cuts longer ones
