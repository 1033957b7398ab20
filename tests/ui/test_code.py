"""The fold-out with a run as code."""

from ddpm_app.ui.code import _shown


def test_it_is_hidden_until_there_is_something_to_say():
    folded, *_ = _shown(None)
    assert folded.visible is False
    folded, command, program, _ = _shown(("", "a program", "{}"))
    assert (folded.visible, command.visible, program.value) == (True, False, "a program")
