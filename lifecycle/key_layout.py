"""Layout of the keys in the bucket. Every data key contains the epoch of the attempt that wrote it."""

import re
from typing import Final

from attrs import frozen

JOB_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_EPOCH: Final = re.compile(r"/(?:checkpoints|packs)/e(\d+)/[^/]+$")


def is_job_id(text: str) -> bool:
    """Return whether *text* is a valid job id: a letter or digit, then up to 127 letters, digits, `.`, `_` or `-`."""
    return JOB_ID.fullmatch(text) is not None


@frozen
class KeyLayout:
    """Keys below one prefix of the bucket.

    Attributes:
        prefix: The prefix, without a slash at either end; may be empty.
    """

    prefix: str

    def under(self, tail: str) -> str:
        """Return the key or prefix *tail*, below this layout's prefix."""
        return f"{self.prefix}/{tail}" if self.prefix else tail

    @property
    def records(self) -> str:
        """Prefix of all records."""
        return self.under(".holdfast/records/")

    @property
    def rejected(self) -> str:
        """Prefix of all rejected messages."""
        return self.under(".holdfast/rejected/")

    @property
    def preflight(self) -> str:
        """Prefix of the temporary keys of the preflight check."""
        return self.under(".holdfast/canary/")

    @property
    def own(self) -> str:
        """Prefix of everything that belongs to no job's folder."""
        return self.under(".holdfast/")

    @property
    def purges(self) -> str:
        """Prefix of the lists of jobs whose records a purge has begun to remove."""
        return self.under(".holdfast/purges/")

    @property
    def tombstones(self) -> str:
        """Prefix of all tombstones."""
        return self.under(".holdfast/archive/jobs/")

    @property
    def archive_index(self) -> str:
        """Prefix of the archive's contents lists, one object per segment."""
        return self.under(".holdfast/archive/index/")

    def contents(self, name: str) -> str:
        """Return the key of the contents list of segment *name*; written once."""
        return f"{self.archive_index}{name}.jsonl.zst"

    def segment(self, name: str) -> str:
        """Return the key of archive segment *name*, which holds the records of many finished jobs; written once."""
        return self.under(f".holdfast/archive/segments/{name}.jsonl.zst")

    def job(self, job: str) -> "JobKeys":
        """Return the keys of the job with the id *job*."""
        return JobKeys(self, job)

    def job_of_record(self, key: str) -> str:
        """Return the id of the job whose record has the key *key*."""
        return key.removeprefix(self.records).removesuffix(".json")


@frozen
class JobKeys:
    """Keys of one job.

    Attributes:
        layout: The layout that they belong to.
        job: The job's id.
    """

    layout: KeyLayout
    job: str

    @property
    def folder(self) -> str:
        """Prefix of everything that belongs to the job, except its record and tombstone."""
        return self.layout.under(f"{self.job}/")

    @property
    def record(self) -> str:
        """Key of the record, the only key that is ever changed."""
        return f"{self.layout.records}{self.job}.json"

    @property
    def pins(self) -> str:
        """Prefix of the job's pins, which are beside the records and not among them."""
        return self.layout.under(f".holdfast/pins/{self.job}/")

    def pin(self, seq: int) -> str:
        """Return the key of the pin of the checkpoint with number *seq*."""
        return f"{self.pins}{seq:06d}.json"

    @property
    def tombstone(self) -> str:
        """Key of the tombstone, written once when the job is archived, and never removed."""
        return f"{self.layout.tombstones}{self.job}.json"

    @property
    def input(self) -> str:
        """Prefix of the input files."""
        return f"{self.folder}input/"

    @property
    def input_file(self) -> str:
        """Key of the input of a job that has a single file."""
        return f"{self.folder}input.txt"

    @property
    def manifests(self) -> str:
        """Prefix of all manifests."""
        return f"{self.folder}checkpoints/"

    def manifest(self, epoch: int, seq: int, token: str) -> str:
        """Return the key of a manifest; written once.

        Args:
            epoch: Number of the attempt.
            seq: Number of the snapshot.
            token: Attempt token, which differs between two attempts with the same epoch (after a purge).
        """
        return f"{self.manifests}e{epoch}/{seq:06d}-{token}.json"

    @property
    def packs(self) -> str:
        """Prefix of all packs."""
        return f"{self.folder}packs/"

    def pack(self, epoch: int, number: int, token: str) -> str:
        """Return the key of a pack; written once.

        Args:
            epoch: Number of the attempt.
            number: Number of the pack within the attempt.
            token: Attempt token, see `manifest`.
        """
        return f"{self.packs}e{epoch}/{number:08d}-{token}"

    @property
    def logs(self) -> str:
        """Prefix of the logs of all attempts."""
        return f"{self.folder}log/"

    def log(self, epoch: int) -> str:
        """Return the key of the event log of attempt *epoch* (JSON lines)."""
        return f"{self.logs}e{epoch}.jsonl"

    def console(self, epoch: int, number: int) -> str:
        """Return the key of segment *number* of the workload's stdout and stderr in attempt *epoch*."""
        return f"{self.logs}e{epoch}/{number:06d}.txt"

    @property
    def output(self) -> str:
        """Prefix of the published outputs."""
        return f"{self.folder}output/"


def epoch_of(key: str) -> int | None:
    """Return the epoch in the key of a manifest or pack; None for any other key."""
    found = _EPOCH.search(key)
    return int(found[1]) if found else None
