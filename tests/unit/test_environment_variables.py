"""Environment variables are read in one place."""

import ast
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
READER: Final = ROOT / "client" / "config" / "variables.py"
READERS: Final = frozenset({"environ", "environb", "getenv", "getenvb"})


def reads(source: str) -> list[int]:
    """Return the lines of *source* that mention a name by which `os` gives access to environment variables."""
    found = []
    for node in ast.walk(ast.parse(source)):
        named = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
        if named and node.attr in READERS:  # type: ignore[attr-defined]
            found.append(node.lineno)  # type: ignore[attr-defined]
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            found += [node.lineno for alias in node.names if alias.name in READERS | {"*"}]
    return found


@pytest.mark.parametrize("ring", ["lifecycle", "adapters", "client"])
def test_only_one_module_reads_environment_variables(ring: str) -> None:
    """All other modules get values from it, through the settings and the composition root."""
    files = sorted((ROOT / ring).rglob("*.py"))
    assert files
    found = {
        str(file.relative_to(ROOT)): lines for file in files if file != READER and (lines := reads(file.read_text()))
    }
    assert found == {}


def test_the_reader_is_found() -> None:
    """The check sees the places that it allows, a read and a write for `--config`, and every form of access."""
    assert len(reads(READER.read_text())) == 1
    forms = ("os.environ['A']", "os.environ.get('A')", "os.getenv('A')", "from os import environ", "dict(os.environb)")
    assert [len(reads(f"import os\n{form}")) for form in forms] == [1] * len(forms)
