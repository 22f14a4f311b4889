"""Mutants: deliberate bugs, each a small change of behaviour, to prove that the simulation detects such bugs.

A mutant is a module with `FOUND_AS`, the invariants that may be reported, and `install()`, which changes the code of
the process permanently.
"""

import importlib
from pathlib import Path
from typing import Final

NAMES: Final = tuple(sorted(file.stem for file in Path(__file__).parent.glob("*.py") if file.stem != "__init__"))


def found_as(name: str) -> tuple[str, ...]:
    """Return the invariants that the mutant *name* breaks."""
    found: tuple[str, ...] = importlib.import_module(f"simulation.mutants.{name}").FOUND_AS
    return found


def replace(owner: object, name: str, new: object) -> None:
    """Set the attribute *name* of *owner*, a class or the module that looks it up; it must be there already."""
    if not hasattr(owner, name):
        raise AttributeError(f"{owner} has no {name} to replace")
    setattr(owner, name, new)


def install(name: str) -> None:
    """Install the mutant *name*."""
    importlib.import_module(f"simulation.mutants.{name}").install()
