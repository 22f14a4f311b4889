"""Where everything lies in the bucket. Every data key carries the epoch that wrote it."""

import re
from typing import Final

from attrs import frozen

JOB_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_EPOCH: Final = re.compile(r"/(?:checkpoints|packs)/e(\d+)/[^/]+$")


def is_job_id(text: str) -> bool:
    """Whether *text* may name a job: a letter or digit, then up to 127 letters, digits, dots, dashes, underscores."""
    return JOB_ID.fullmatch(text) is not None


@frozen
class KeyLayout:
    """A prefix in the bucket: what all jobs under it share. `prefix` has no slash at either end, and may be empty."""

    prefix: str

    def _under(self, tail: str) -> str:
        return f"{self.prefix}/{tail}" if self.prefix else tail

    @property
    def records(self) -> str:
        """The prefix of all records."""
        return self._under(".holdfast/records/")

    @property
    def rejected(self) -> str:
        """The prefix of all rejected messages."""
        return self._under(".holdfast/rejected/")

    @property
    def preflight(self) -> str:
        """The prefix of the start-up canary's own keys."""
        return self._under(".holdfast/canary/")

    @property
    def archive_index(self) -> str:
        """The prefix of what the archive's segments hold: one object for each segment."""
        return self._under(".holdfast/archive/index/")

    def contents(self, name: str) -> str:
        """What segment *name* holds, written once."""
        return f"{self.archive_index}{name}.jsonl.zst"

    def segment(self, name: str) -> str:
        """Records of jobs that are over, written once."""
        return self._under(f".holdfast/archive/segments/{name}.jsonl.zst")

    def job(self, job: str) -> "JobKeys":
        """The keys of one job."""
        return JobKeys(self, job)

    def job_of_record(self, key: str) -> str:
        """The job id of a record's key."""
        return key.removeprefix(self.records).removesuffix(".json")


@frozen
class JobKeys:
    """The keys of one job."""

    layout: KeyLayout
    job: str

    @property
    def folder(self) -> str:
        """Everything of the job but its record lies under this prefix."""
        return self.layout._under(f"{self.job}/")  # noqa: SLF001 - one idea in two classes

    @property
    def record(self) -> str:
        """The one mutable key."""
        return f"{self.layout.records}{self.job}.json"

    @property
    def tombstone(self) -> str:
        """Written once, when the record goes to the archive; never removed."""
        return self.layout._under(f".holdfast/archive/jobs/{self.job}.json")  # noqa: SLF001 - one idea in two classes

    @property
    def input(self) -> str:
        """The prefix of the input files."""
        return f"{self.folder}input/"

    @property
    def input_file(self) -> str:
        """The input of a job that has just one file."""
        return f"{self.folder}input.txt"

    @property
    def manifests(self) -> str:
        """The prefix of all manifests."""
        return f"{self.folder}checkpoints/"

    def manifest(self, epoch: int, seq: int, token: str) -> str:
        """A manifest, written once, by *epoch*, by the attempt with that *token*."""
        return f"{self.manifests}e{epoch}/{seq:06d}-{token}.json"

    @property
    def packs(self) -> str:
        """The prefix of all packs."""
        return f"{self.folder}packs/"

    def pack(self, epoch: int, number: int, token: str) -> str:
        """A pack, written once, by *epoch*, by the attempt with that *token*."""
        return f"{self.packs}e{epoch}/{number:08d}-{token}"

    @property
    def logs(self) -> str:
        """The prefix of all attempts' logs."""
        return f"{self.folder}log/"

    def log(self, epoch: int) -> str:
        """What attempt *epoch* did: JSON lines."""
        return f"{self.logs}e{epoch}.jsonl"

    def console(self, epoch: int, number: int) -> str:
        """A segment of what the workload wrote to stdout and stderr in attempt *epoch*."""
        return f"{self.logs}e{epoch}/{number:06d}.txt"

    @property
    def output(self) -> str:
        """The prefix of the published outputs."""
        return f"{self.folder}output/"


def epoch_of(key: str) -> int | None:
    """The epoch that a manifest's or pack's key names, or None for any other key."""
    found = _EPOCH.search(key)
    return int(found[1]) if found else None
