"""A command as its user runs it, and what it answers."""

import json

import pytest

from ddpm_app.commands import main

NORMAL = ["--model", "exact-normal", "--device", "cpu"]


def answer(capsys, *arguments):
    """What a successful command printed last, with --json."""
    assert main([*map(str, arguments), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""  # progress is for terminals alone
    return json.loads(out.splitlines()[-1], parse_constant=pytest.fail)


def complaint(capsys, *arguments):
    """The one line on stderr of a command that the user has to mend."""
    try:
        code = main([*map(str, arguments)])
    except SystemExit as stopped:  # argparse's own way out
        code = stopped.code
    assert code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err
