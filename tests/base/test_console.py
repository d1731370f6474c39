"""Where the status lines of a command go, and when there are none."""

import logging

import pytest

from jmer.base import cli

LOG = logging.getLogger("jmer.somewhere")


def command(argv, *, apart: bool):
    cli.parse(cli.Parser("A command.", status_apart=apart), argv)
    LOG.info("a status line")
    LOG.warning("a warning")
    list(cli.progress_bar(range(3), total=3, desc="counting", unit=" numbers"))
    print("the answer")


def test_a_handler_of_another_library_does_not_show_a_line_again(capsys):
    other = logging.StreamHandler()
    logging.getLogger().addHandler(other)
    try:
        assert cli.run(lambda argv: command(argv, apart=False), []) == cli.EXIT_OK
        LOG.warning("after the command")
    finally:
        logging.getLogger().removeHandler(other)
    screen = capsys.readouterr()
    assert (screen.out + screen.err).count("a status line") == 1
    assert screen.err.count("after the command") == 1


@pytest.mark.parametrize("apart", [False, True])
def test_status_lines_are_shown_unless_quiet(apart, capsys):
    assert cli.run(lambda argv: command(argv, apart=apart), []) == cli.EXIT_OK
    screen = capsys.readouterr()
    assert screen.out == ("the answer\n" if apart else "a status line\nthe answer\n")
    assert ("a status line\n" in screen.err) is apart
    assert "a warning\n" in screen.err
    assert "counting: 100%" in screen.err

    assert cli.run(lambda argv: command(argv, apart=apart), ["--quiet"]) == cli.EXIT_OK
    assert capsys.readouterr() == ("the answer\n", "a warning\n")


def test_a_library_says_nothing_and_leaves_logging_alone(capsys):
    assert cli.run(lambda argv: command(argv, apart=False), []) == cli.EXIT_OK
    capsys.readouterr()
    LOG.info("a status line")
    list(cli.progress_bar(range(3), total=3, desc="counting", unit=" numbers"))
    assert capsys.readouterr() == ("", "")
    assert logging.getLogger("jmer").handlers == []
    assert logging.getLogger("jmer").level == logging.NOTSET
