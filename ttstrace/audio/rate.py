"""What counts as a sample rate."""

from __future__ import annotations

import numbers
from typing import Any, Final

LOWEST: Final = 4_000
HIGHEST: Final = 384_000


def sample_rate_of(value: object) -> int | None:
    """The sample rate in Hz that `value` is, or None where it is none.

    A sample rate is a whole number from 4000 to 384000: an integer, or a real number without a fraction.
    A bool is not a number here.
    """
    if type(value) is not int:
        if not isinstance(value, numbers.Real):
            return None
        number: Any = value
        try:
            whole = int(number)
            if whole != number:
                return None
        except Exception:  # nan, an infinity, a number with operators of its own
            return None
    else:
        whole = value
    return whole if LOWEST <= whole <= HIGHEST else None
