"""What errors of others become in our messages."""

import pytest

from lightxling.base.errors import first_line


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n\n one"), "one"),
        (ValueError(), "ValueError"),
        (KeyError(" \n"), "' \\n'"),
        (OSError("  \n"), "OSError"),
    ],
)
def test_an_error_says_its_first_line_or_its_name(error, said):
    assert first_line(error) == said
