"""Turning JSON into values without guessing: a number is no text, and text is no number."""

from enum import Enum
from typing import Any

import cattrs


def strict_converter(*enumerations: type[Enum]) -> cattrs.Converter:
    """A converter that takes each of str, int, bool and float as it is (and a whole number for a float), or raises.

    Args:
        enumerations: Those that are read by value.
    """
    converter = cattrs.Converter()

    def strictly(wanted: type, *kinds: type) -> None:
        def structure(value: Any, _: Any) -> Any:
            if type(value) not in kinds:
                raise TypeError(f"expected {wanted.__name__}, got {value!r:.40}")
            return wanted(value)

        converter.register_structure_hook(wanted, structure)

    strictly(str, str)
    strictly(int, int)
    strictly(bool, bool)
    strictly(float, int, float)
    for enumeration in enumerations:  # or the hook for str would serve a StrEnum
        converter.register_structure_hook(enumeration, lambda value, kind: kind(value))
    return converter
