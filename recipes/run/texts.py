"""Texts that come from users: made whole, and made visible."""

import re

from recipes.run.values import printable


def decode(text):
    """Return a text, or its bytes, as text that can be written as UTF-8."""
    if isinstance(text, bytes):
        return text.decode("utf-8", "replace")
    return re.sub("[\ud800-\udfff]", "\ufffd", str(text))  # halves of a pair


def visible(text):
    r"""Return a text in one line in which what is not printable is written out.

    A terminal obeys escape sequences, and hides or turns round other text.

    >>> print(visible("a \x1b[31mb\u202e\u00a0c"))
    a \x1b[31mb\u202e c
    """
    return printable("".join(" " if it.isspace() else it for it in text))


def in_one_line(error):
    """Return the beginning of what an error says."""
    return visible(" ".join(str(error).split()))[:200] or type(error).__name__
