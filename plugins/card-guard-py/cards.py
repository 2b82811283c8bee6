"""Finds payment card numbers in a text: pure Python, so that its tests run anywhere."""

import re

# 13 to 19 digits with at most one space or hyphen between two of them, and no digit directly before or after.
CANDIDATE = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")


def masked(text: str) -> str:
    """Returns the text with each card number reduced to its last four digits."""
    return CANDIDATE.sub(lambda found: _mask(found.group()), text)


def _mask(number: str) -> str:
    digits = [int(letter) for letter in number if letter.isdigit()]
    if not _adds_up(digits):
        return number
    return "**** " + "".join(str(digit) for digit in digits[-4:])


def _adds_up(digits: list[int]) -> bool:
    """Returns true if the check digit is valid (Luhn algorithm): order and phone numbers rarely pass."""
    if len(set(digits)) == 1:
        return False
    doubled = [digit * 2 - 9 if digit > 4 else digit * 2 for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
