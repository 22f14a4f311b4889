"""Declared capabilities of adapters: an optional promise is tested on the adapters that declare it."""

from collections.abc import Collection, Mapping
from enum import Enum

import pytest


def declaring(adapters: Mapping[str, Collection[Enum]], capability: Enum) -> pytest.MarkDecorator:
    """Run a contract test only on the adapters that declare *capability*.

    Args:
        adapters: Names of a suite's adapters, with the capabilities of each.
        capability: The capability that the test needs.

    Raises:
        ValueError: No adapter declares it, so the test would never run.
    """
    names = [name for name, declared in adapters.items() if capability in declared]
    if not names:
        raise ValueError(f"no adapter declares {capability}")
    return pytest.mark.parametrize("adapter", names, indirect=True)
