"""The files around the code: locks, workflow and hooks agree with pyproject.toml and with each other."""

import ast
import configparser
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
GROUPS: dict[str, list[Any]] = PROJECT["dependency-groups"]
PYTHONS = ("3.11", "3.12", "3.13")


def group(name: str) -> Iterator[str]:
    """Return the requirements of a dependency group and of the groups that it includes."""
    for entry in GROUPS[name]:
        if isinstance(entry, str):
            yield entry
        else:
            yield from group(entry["include-group"])


DIRECT = {
    "worker": PROJECT["project"]["dependencies"],
    "build": list(group("build")),
    "dev": [*PROJECT["project"]["dependencies"], *(each for extra in EXTRAS.values() for each in extra), *group("dev")],
    "lock": list(group("lock")),
}


def pins(lock: str) -> list[tuple[Requirement, str]]:
    """Return the entries of a lock file: the pinned requirement, and the entry's lines."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    entries = re.split(r"^(?=\w)", re.sub(r"\A(#.*\n)*", "", text), flags=re.MULTILINE)
    return [(Requirement(entry.splitlines()[0].rstrip("\\ ")), entry) for entry in entries if entry]


@pytest.mark.parametrize("lock", sorted(DIRECT))
def test_a_lock_matches_pyproject(lock: str) -> None:
    """Every direct dependency is pinned to a version that its range allows, and no lock contains a removed one."""
    pinned: dict[str, list[str]] = {}
    locked_as_direct = set()
    for pin, entry in pins(lock):
        name = canonicalize_name(pin.name)
        (exact,) = pin.specifier
        pinned.setdefault(name, []).append(exact.version)
        if re.search(r"# +(via )?holdfast-jobs \(pyproject\.toml", entry):
            locked_as_direct.add(name)
    wanted = [Requirement(each) for each in DIRECT[lock]]
    for each in wanted:
        versions = pinned.get(canonicalize_name(each.name))
        assert versions, f"{each.name} is not in requirements/{lock}.txt: run make lock"
        for version in versions:
            assert each.specifier.contains(version, prereleases=True), f"{each}, but {version} is locked: run make lock"
    assert locked_as_direct == {canonicalize_name(each.name) for each in wanted}, "run make lock"


@pytest.mark.parametrize("lock", sorted(DIRECT))
def test_every_pin_has_hashes_and_no_url(lock: str) -> None:
    """Each pin has an exact version and hashes, and a lock contains no URL."""
    for pin, entry in pins(lock):
        assert [each.operator for each in pin.specifier] == ["=="]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), pin.name
    assert "://" not in (ROOT / "requirements" / f"{lock}.txt").read_text()


def test_the_locks_agree() -> None:
    """The developers' lock has the same versions as the workers' lock and the build lock."""
    versions = {(canonicalize_name(pin.name), str(pin.marker)): str(pin.specifier) for pin, _ in pins("dev")}
    for lock in ("worker", "build"):
        for pin, _ in pins(lock):
            assert versions[canonicalize_name(pin.name), str(pin.marker)] == str(pin.specifier)


def test_the_python_versions_agree() -> None:
    """The versions in pyproject.toml are those that the workflow tests."""
    prefix = "Programming Language :: Python :: "
    claimed = [
        each.removeprefix(prefix) for each in PROJECT["project"]["classifiers"] if each.startswith(prefix + "3.")
    ]
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    (setup,) = [
        step["with"]["python-version"].split()
        for job in workflow["jobs"].values()
        for step in job["steps"]
        if "setup-python" in step.get("uses", "")
    ]
    assert tuple(claimed) == PYTHONS
    assert set(PYTHONS) == set(setup)
    assert PROJECT["project"]["requires-python"] == f">={PYTHONS[0]}"


def test_the_workflow_runs_ci_run() -> None:
    """The workflow runs `.ci/run`, and no other step tests anything."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert commands == [".ci/run"]


def test_hooks_and_editor_settings_are_valid() -> None:
    """pre-commit runs the locked ruff, and editors break lines where ruff does."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    local = [hook["id"] for repo in hooks["repos"] if repo["repo"] == "local" for hook in repo["hooks"]]
    assert local == ["ruff-check", "ruff-format"]
    editor = configparser.ConfigParser()
    editor.read_string("[top]\n" + (ROOT / ".editorconfig").read_text())
    assert editor["top"]["root"] == "true"
    assert editor["*.py"]["max_line_length"] == str(PROJECT["tool"]["ruff"]["line-length"])


@pytest.mark.parametrize("file", sorted((ROOT / "sdk" / "holdfast").glob("*.py")), ids=lambda file: file.name)
def test_the_sdk_is_python_3_8(file: Path) -> None:
    """The SDK parses as Python 3.8 and its annotations are never evaluated, because a job's Python may be older."""
    tree = ast.parse(file.read_text(), feature_version=(3, 8))
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    annotated = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.returns]
    assert not annotated or "__future__" in names or all(isinstance(node.returns, ast.Name) for node in annotated)
