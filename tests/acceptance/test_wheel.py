"""The wheel, installed where other distributions own the names `adapters`, `lifecycle` and `client`."""

import base64
import csv
import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from attrs import frozen

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).parents[2]
RINGS = ("adapters", "client", "lifecycle")
FROM_THE_INDEX = "adapters==1.3.0"
USER_FILE = "import holdfast\njob = holdfast.job()\nprint(job.params)\n"

# A workload that records its interpreter's view.
SEEN = """
import importlib.util, json, os, holdfast

job = holdfast.job()
seen = {
    "PYTHONPATH": os.environ["PYTHONPATH"],
    "holdfast": holdfast.__file__,
    **{name: importlib.util.find_spec(name).origin for name in ("adapters", "client", "lifecycle")},
}
with open(os.path.join(job.output_dir, "seen.json"), "w") as file:
    json.dump(seen, file)
"""


@frozen
class Venv:
    """A virtual environment with the dependencies of this one, and nothing of Holdfast but the wheel."""

    home: Path

    @property
    def python(self) -> Path:
        return self.home / "bin" / "python"

    @property
    def packages(self) -> Path:
        return Path(sysconfig.get_path("purelib", "venv", {"base": str(self.home)}))

    def make(self) -> None:
        run(sys.executable, "-m", "venv", "--without-pip", self.home)
        # The folder is added, but no .pth file in it is read, so this checkout's editable install stays out of sight.
        (self.packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))

    def install(self, *what: str | Path) -> subprocess.CompletedProcess[str]:
        return run(sys.executable, "-m", "pip", "--python", self.python, "install", "--no-deps", "--no-compile", *what)

    def digests(self) -> dict[str, str]:
        """Return the hash of each installed file."""
        files = (path for path in self.packages.rglob("*") if path.is_file() and path.suffix != ".pyc")
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def run(*command: str | Path, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command that does not see this checkout."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HOLDFAST_", "COV"))}
    return subprocess.run(command, cwd=cwd, env={**ours, **env}, check=False, capture_output=True, text=True)


def stand_in(name: str, folder: Path) -> Path:
    """Build a wheel with one package, as another project's distribution of that name would install it."""
    files = {
        f"{name}/__init__.py": "OURS = False\n",
        f"{name}-9.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.0\n",
        f"{name}-9.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    wheel = folder / f"{name}-9.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        rows = []
        for path, text in files.items():
            archive.writestr(path, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            rows.append(f"{path},sha256={digest},{len(text)}\n")
        archive.writestr(f"{name}-9.0.dist-info/RECORD", "".join(rows) + f"{name}-9.0.dist-info/RECORD,,\n")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    done = run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT)
    assert done.returncode == 0, done.stderr
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def venv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """Return an environment with three other distributions, unchanged by installing the wheel."""
    folder = tmp_path_factory.mktemp("beside")
    made = Venv(folder / "venv")
    made.make()
    done = made.install(*(stand_in(name, folder) for name in RINGS))
    assert done.returncode == 0, done.stderr
    before = made.digests()
    done = made.install(wheel)
    assert done.returncode == 0, done.stderr
    after = made.digests()
    assert {path: after[path] for path in before} == before
    return made


def test_the_wheel_holds_one_package(wheel: Path) -> None:
    """The wheel contains `holdfast`, its metadata and no tests; the SDK can be imported, also alone from a folder."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {
        "holdfast",
        wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info",
    }
    assert {name.split("/")[2] for name in names if name.startswith("holdfast/_rings/")} == {*RINGS, "sdk"}
    assert {name.split("/")[3] for name in names if name.startswith("holdfast/_rings/sdk/")} == {"holdfast"}
    assert {"holdfast/py.typed", "holdfast/_rings/client/web/templates/base.html"} <= set(names)


def test_a_job_runs_beside_distributions_of_the_same_names(venv: Venv, tmp_path: Path) -> None:
    """Submit, worker and download work; the job imports the SDK and the other distributions' packages."""
    (tmp_path / "jobs" / "sum").mkdir(parents=True)
    (tmp_path / "jobs" / "sum" / "input.txt").write_text("1\n2880\n")
    (tmp_path / "look.py").write_text(SEEN)
    (tmp_path / "workloads.toml").write_text('[look]\ncommand = "{python} {here}/look.py"\n')
    command = venv.home / "bin" / "holdfast"
    for words in (
        ("--version",),
        ("settings",),
        ("upload", "jobs"),
        ("submit", "jobs"),
        ("submit", "--no-input", "look", "--workload", "look"),
        ("worker", "--max-jobs", "2", "--idle-exit", "20s"),
        ("download", "results"),
    ):
        done = run(command, *words, cwd=tmp_path, HOLDFAST_HOME=str(tmp_path / "home"))
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    assert (tmp_path / "results/sum/output/output.txt").read_text() == "4148640\n"
    seen = json.loads((tmp_path / "results/look/output/seen.json").read_text())
    sdk = Path(seen["PYTHONPATH"])
    assert [path.name for path in sdk.iterdir()] == ["holdfast"]
    assert Path(seen["holdfast"]).parent == sdk / "holdfast"
    for name in RINGS:
        assert Path(seen[name]) == venv.packages / name / "__init__.py"


def test_importing_holdfast_adds_nothing_to_the_path(venv: Venv, tmp_path: Path) -> None:
    """A program that imports the SDK still sees the other packages, and loads no unneeded module."""
    script = (
        "import sys, holdfast; before = set(sys.modules); import adapters, client, lifecycle; "
        "print(adapters.OURS, client.OURS, lifecycle.OURS, 'json' in before, holdfast.Job.__name__)"
    )
    done = run(venv.python, "-c", script, cwd=tmp_path)
    assert done.stdout == "False False False False Job\n", done.stderr


def test_the_health_check_of_the_image_is_in_the_wheel(venv: Venv, tmp_path: Path) -> None:
    """The health check exits with 1 until a worker has reported that it is alive, then with 0."""
    check = (venv.python, "-I", "-m", "holdfast._health")
    assert run(*check, cwd=tmp_path, WORK_DIR=str(tmp_path)).returncode == 1
    (tmp_path / "alive").touch()
    done = run(*check, cwd=tmp_path, WORK_DIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


def test_a_users_program_is_type_checked(venv: Venv, tmp_path: Path) -> None:
    """`py.typed` is honoured: mypy --strict and pyright accept a correct program."""
    (tmp_path / "good.py").write_text(USER_FILE)
    (tmp_path / "bad.py").write_text('import holdfast\n\nholdfast.job().progress("7")\n')
    mypy = (
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--cache-dir",
        tmp_path / "cache",
        "--python-executable",
        venv.python,
    )
    pyright = (sys.executable, "-m", "pyright", "--pythonpath", venv.python)
    for checker in (mypy, pyright):
        done = run(*checker, "good.py", cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        done = run(*checker, "bad.py", cwd=tmp_path)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "int" in done.stdout


def test_beside_the_real_adapters(wheel: Path, tmp_path: Path) -> None:
    """The distribution `adapters` from PyPI keeps every file and its place on the path."""
    venv = Venv(tmp_path / "venv")
    venv.make()
    if venv.install("--retries", "1", FROM_THE_INDEX).returncode != 0:
        assert "CI" not in os.environ, f"{FROM_THE_INDEX} could not be installed"
        pytest.skip(f"no package index in reach: {FROM_THE_INDEX} could not be installed")
    assert venv.install(wheel).returncode == 0
    (record,) = venv.packages.glob("adapters-*.dist-info/RECORD")
    rows = [row for row in csv.reader(record.read_text().splitlines()) if row[1]]
    for path, kept, _ in rows:
        digest = base64.urlsafe_b64encode(hashlib.sha256((venv.packages / path).read_bytes()).digest())
        assert f"sha256={digest.decode().rstrip('=')}" == kept, path
    done = run(
        venv.python, "-c", "import holdfast, importlib.util as u; print(u.find_spec('adapters').origin)", cwd=tmp_path
    )
    assert done.stdout.strip() == str(venv.packages / "adapters" / "__init__.py"), done.stderr
    done = run(venv.home / "bin" / "holdfast", "doctor", cwd=tmp_path, HOLDFAST_HOME=str(tmp_path / "home"))
    assert "_rings" in done.stdout, done.stdout + done.stderr
