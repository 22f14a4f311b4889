"""Doctor's checks of this machine: packages, the workloads file, the disk."""

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Final

from adapters.process.workloads_file import load
from client.config.environment import Environment
from client.views.check_result import CheckResult
from lifecycle.errors import ConfigError

FREE_BYTES: Final = 1 << 30
GIB: Final = 1 << 30
OUR_PACKAGES: Final = ("lifecycle", "adapters", "client")


def check_packages() -> CheckResult:
    """Check that no other project's packages are imported in place of ours."""
    home = Path(__file__).resolve().parents[2]
    for name in OUR_PACKAGES:
        spec = importlib.util.find_spec(name)
        folders = [Path(folder).resolve() for folder in (spec.submodule_search_locations or ())] if spec else []
        if folders != [home / name]:
            where = ", ".join(map(str, folders)) or "nowhere"
            remedy = "start Holdfast with the `holdfast` command, or install it again"
            return CheckResult("packages", False, f"`{name}` is {where}, not ours in {home}", remedy)
    return CheckResult("packages", True, f"ours, in {home}")


def check_workloads(env: Environment) -> CheckResult:
    """Check that the workloads file can be read."""
    try:
        workloads = load(env.settings.workloads)
    except ConfigError as error:
        return CheckResult("workloads", False, str(error), "correct the file, or set WORKLOADS")
    return CheckResult("workloads", True, ", ".join(workloads))


def check_disk(work_dir: Path) -> CheckResult:
    """Check that WORK_DIR can be written to, and has enough space."""
    existing = next(each for each in (work_dir, *work_dir.parents) if each.exists())
    if not os.access(existing, os.W_OK):
        return CheckResult("disk", False, f"{existing} cannot be written to", "set WORK_DIR to a writable folder")
    free = shutil.disk_usage(existing).free
    finding = f"{free / GIB:.1f} GiB free for WORK_DIR {work_dir}"
    if free < FREE_BYTES:
        return CheckResult("disk", False, finding, "make room for the input, the state twice, and the output")
    return CheckResult("disk", True, finding)
