"""Results of `holdfast doctor`."""

from attrs import frozen

OK, WRONG, SKIPPED = "\u2713", "\u2717", "\u2013"


@frozen
class CheckResult:
    """The result of one check.

    Attributes:
        subject: The thing that was checked.
        ok: True or False; None if it could not be checked, or deserves attention but stops nothing yet.
        finding: What the check found.
        remedy: What to do about it; empty if nothing.
    """

    subject: str
    ok: bool | None
    finding: str
    remedy: str = ""

    def line(self) -> str:
        """Return the result as a line for people."""
        mark = {True: OK, False: WRONG, None: SKIPPED}[self.ok]
        return f"{mark} {self.subject}: {self.finding}" + (f"; {self.remedy}" if self.remedy else "")
