"""Turning JSON into values without guessing: a number is no text, and text is no number."""

from typing import Any

import cattrs


def strict_converter() -> cattrs.Converter:
    """A converter that takes each of str, int, bool and float as it is (and a whole number for a float), or raises."""
    converter = cattrs.Converter()

    def strictly(wanted: type, *kinds: type) -> None:
        def structure(value: Any, _: Any) -> Any:
            if type(value) not in kinds:
                raise TypeError(f"expected {wanted.__name__}, got {value!r:.40}")
            return wanted(value)

        # By identity: a hook registered for str itself would serve every StrEnum as well.
        converter.register_structure_hook_func(lambda candidate: candidate is wanted, structure)

    strictly(str, str)
    strictly(int, int)
    strictly(bool, bool)
    strictly(float, int, float)
    return converter
