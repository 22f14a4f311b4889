"""Evidence for and against a job, its checkpoints and the machines that tried it: values of the job record."""

from collections import Counter
from typing import Final

from attrs import frozen

KEPT_MACHINES: Final = 10
KEPT_MISFITS: Final = 20


@frozen
class HighWaterMark:
    """Furthest point that a committed checkpoint of the job has preserved, and what became of attempts to pass it.

    Attributes:
        step: The furthest step; None if no checkpoint had one.
        computed_s: The most computing time, counted from the input, in seconds.
        seq: The highest number of a committed checkpoint; 0 before the first. `retry --from-start` keeps it.
        failed_resumes: Attempts in a row that resumed from the record's checkpoint and failed by themselves without
            passing this point.
        fell_back: Whether the one fallback that this point grants is used up.
    """

    step: int | None = None
    computed_s: float = 0.0
    seq: int = 0
    failed_resumes: int = 0
    fell_back: bool = False

    def is_passed_by(self, step: int | None, computed_s: float) -> bool:
        """Return whether a checkpoint preserves more than any before it: by steps or, without, by computing time."""
        if self.step is None and not self.computed_s:
            return True
        if self.step is None or step is None:
            return computed_s > self.computed_s
        return step > self.step


@frozen
class FailedOn:
    """The machines on which the job has failed since it last got further.

    Attributes:
        machines: Their names, in the order of their first failures; at most KEPT_MACHINES.
        alone_s: Seconds since the first failure, or since another machine tried the job. They are counted by the
            store's clock while the job waits, and by the owner's while it is tried.
    """

    machines: tuple[str, ...] = ()
    alone_s: float = 0.0

    def including(self, machine: str) -> "FailedOn":
        """Return a copy that names *machine*, too."""
        if machine in self.machines or len(self.machines) >= KEPT_MACHINES:
            return self
        return FailedOn((*self.machines, machine), self.alone_s)


@frozen
class Misfit:
    """A node that cannot run the job.

    Attributes:
        machine: Name of the machine.
        image: Name of its image, or a digest of what it offers.
        lacks: Missing part in words, such as `program 'gmx'`.
    """

    machine: str
    image: str
    lacks: str


@frozen
class Misfits:
    """The nodes that could not run the job since it last ran.

    Attributes:
        seen: The newest KEPT_MISFITS of them. Nodes with one image that lack the same thing count once.
        waited_s: Seconds since the first, by the store's clock.
    """

    seen: tuple[Misfit, ...] = ()
    waited_s: float = 0.0

    def has(self, image: str, lacks: str) -> bool:
        """Return whether a node with *image* that lacks *lacks* is known."""
        return any((one.image, one.lacks) == (image, lacks) for one in self.seen)

    def including(self, misfit: Misfit) -> "Misfits":
        """Return a copy that knows *misfit*, too."""
        if self.has(misfit.image, misfit.lacks):
            return self
        return Misfits((*self.seen, misfit)[-KEPT_MISFITS:], self.waited_s)

    @property
    def summary(self) -> str:
        """Describe what no node so far had, for people: `3 images lack program 'gmx'`."""
        counts = Counter(one.lacks for one in self.seen)
        return "; ".join(
            f"{count} image{'s' if count > 1 else ''} lack{'' if count > 1 else 's'} {lacks}"
            for lacks, count in counts.items()
        )


NO_MARK: Final = HighWaterMark()
NO_FAILURES: Final = FailedOn()
NO_MISFITS: Final = Misfits()
