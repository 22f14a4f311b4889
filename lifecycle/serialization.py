"""Conversion of JSON values to attrs classes without guessing: a number is never read as text, nor text as a number."""

from enum import Enum
from typing import Any

import cattrs

from lifecycle.bounds import is_bounded


def strict_converter(*enumerations: type[Enum]) -> cattrs.Converter:
    """Return a converter that accepts a str, int, bool or float only where exactly that type is declared.

    Numbers must be from -2^53 to 2^53.

    The one exception is a whole number where a float is declared. By default cattrs would convert: `"5"` to 5, or 1 to
    True (https://catt.rs/en/stable/defaulthooks.html).

    Args:
        enumerations: Enumerations whose members are read by value.
    """
    converter = cattrs.Converter()

    def register(target: type, *accepted: type) -> None:
        def structure(value: Any, _: Any) -> Any:
            if type(value) not in accepted:  # not isinstance: True is an int
                raise TypeError(f"expected {target.__name__}, got {value!r:.40}")
            if isinstance(value, int | float) and not is_bounded(value):
                raise ValueError(f"expected a number from -2^53 to 2^53, got {value!r:.40}")
            return target(value)

        converter.register_structure_hook(target, structure)

    register(str, str)
    register(int, int)
    register(bool, bool)
    register(float, int, float)
    for enumeration in enumerations:  # a StrEnum is a str, and would otherwise be read by the hook for str
        converter.register_structure_hook(enumeration, lambda value, kind: kind(value))
    return converter
