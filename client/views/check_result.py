"""What `holdfast doctor` finds: a line each."""

from attrs import frozen

FINE, WRONG, SKIPPED = "\u2713", "\u2717", "\u2013"


@frozen
class CheckResult:
    """One line.

    Attributes:
        what: What was looked at.
        is_fine: None if it could not be looked at, or is worth knowing and stops nothing yet.
        said: What was found.
        remedy: What to do; empty if nothing is.
    """

    what: str
    is_fine: bool | None
    said: str
    remedy: str = ""

    def line(self) -> str:
        """For people."""
        mark = {True: FINE, False: WRONG, None: SKIPPED}[self.is_fine]
        return f"{mark} {self.what}: {self.said}" + (f"; {self.remedy}" if self.remedy else "")
