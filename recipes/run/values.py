"""What a value may be: one rule for a flag and for an entry of a file."""

import dataclasses
import re
import reprlib


@dataclasses.dataclass(frozen=True)
class Allowed:
    """What a value may be.

    Attributes:
        type: The type that it has exactly: a bool is no int, an int no float.
        least: The smallest number, itself allowed.
        most: The largest number, itself allowed.
        choices: The texts that are allowed; None: all that are printable.
        pattern: A regular expression for the whole text.
        words: What it must be, in words; "" says it with the other attributes.
    """

    type: type
    least: float = None
    most: float = None
    choices: tuple = None
    pattern: str = "(?s:.*)"
    words: str = ""

    def __str__(self):
        if self.words:
            return self.words
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.type is int:
            return f"an integer from {self.least:,} to {self.most:,}"
        if self.type is float:
            return f"a number from {self.least:g} to {self.most:g}"
        return {str: "a printable text", list: "a list", dict: "an object"}[self.type]

    def holds(self, value):
        """Return whether a value is allowed."""
        if type(value) is not self.type:
            return False
        if self.choices:
            return value in self.choices
        if self.type is str:
            return value.isprintable() and bool(re.fullmatch(self.pattern, value))
        return self.type not in (int, float) or self.least <= value <= self.most

    def check(self, name, value):
        """Raise ValueError unless a value is allowed.

        >>> Allowed(int, least=1, most=9000).check("--units", 0)
        Traceback (most recent call last):
        ValueError: --units must be an integer from 1 to 9,000, got 0
        """
        if not self.holds(value):
            raise ValueError(f"{name} must be {self}, got {reprlib.repr(value)}")


def check_entries(what, entries, rules):
    """Raise ValueError unless ``entries`` is a dict with allowed values.

    It may have more entries than those that have rules.

    Args:
        what: What it is, in words.
        entries: The dict.
        rules: Dict from names to what their values may be.
    """
    Allowed(dict).check(what, entries)
    for name, allowed in rules.items():
        if name not in entries:
            raise ValueError(f"{what} has no {name}")
        allowed.check(name, entries[name])


#: A folder that the user names.
FOLDER = Allowed(
    str,
    pattern=r"(?!\w[\w+.-]*://).+",
    words="a folder of this machine: a printable path, and no URL",
)


def printable(text):
    r"""Return a text with escapes in place of all that cannot be printed.

    >>> printable("a\x1b[2J\n")
    'a\\x1b[2J\\n'
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )
