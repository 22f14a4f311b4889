"""Invalid input from queue, bucket or disk is used or refused, and has no other effect.

A mostly valid value gets further than noise, so most cases are a valid one with a few parts replaced.
"""

import importlib
import json
import string
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from support.cluster import LAYOUT, Cluster
from support.fuzzing import JSON, as_bytes, fuzz, spoilt

from adapters.local.clock import SystemClock
from adapters.memory.clock import ManualClock
from adapters.memory.store import MemoryStore
from adapters.process import workloads_file as workloads
from client.commands.submit import read_requests
from client.config.settings import TABLE, from_environ
from lifecycle.checkpoint import manifest_codec as manifests
from lifecycle.checkpoint.chunks import chunk_digests
from lifecycle.checkpoint.manifest import Extent, FileEntry, Manifest, digest_bytes, digest_chunks, is_safe_path
from lifecycle.checkpoint.restore import restore
from lifecycle.errors import (
    ConfigError,
    CorruptCheckpointError,
    ForeignMessageError,
    HoldfastError,
    InvalidRecordError,
    NewerManifestError,
    RejectedMessageError,
)
from lifecycle.job_record import AttemptSummary, CheckpointRef, JobRecord, Result
from lifecycle.key_layout import KeyLayout, is_job_id
from lifecycle.ports.queue import Message
from lifecycle.record.codec import decode_record, encode_record
from lifecycle.record.message import announce, parse_message
from lifecycle.states import State

WHOLE_JOBS: Final = 500  # each runs two jobs on a worker
MOST_INPUT: Final = 300


pytestmark = pytest.mark.usefixtures("_untraced")


BODIES = [
    {"holdfast": 1, "job": "a", "dispatch": 1},
    {"holdfast": 1, "job": "a", "dispatch": 1, "bucket": "", "prefix": "runs"},
    {"job": "a", "workload": "series-sum", "params": {"x": 1}},
    {"bucket": "b", "folder": "runs/a", "parameters": {"STEP_RUNNING_TIME": "1"}},
]
REF = CheckpointRef("runs/bad/checkpoints/e1/000001.json", "sha256:00", 1, step=3, bytes=3)
RECORD = JobRecord(
    job="bad",
    workload="series-sum",
    params={"STATE_SAVING_INTERVAL": 60},
    state=State.RUNNING,
    epoch=3,
    owner="node",
    lease_s=120.0,
    dispatch=1,
    checkpoint=REF,
    fallback=REF,
    attempts=(AttemptSummary(epoch=3, node="node", started="t"),),
)
MANIFEST = Manifest(
    "bad",
    epoch=1,
    seq=1,
    step=3,
    packs={"pack": 3},
    files=(
        FileEntry("checkpoint/a/b.txt", 3, 0o644, 16, "d", (Extent("pack", 0, 3, "d"),)),
        FileEntry("output/c", 0, 0o600, 16, "d", ()),
    ),
)


@fuzz()
@given(st.sampled_from(BODIES).flatmap(spoilt).map(json.dumps) | JSON.map(json.dumps) | st.text())
def test_any_message_is_parsed_or_refused(body: str) -> None:
    """A message is refused in one line, or names a job whose keys stay under its prefix."""
    try:
        call = parse_message(body, layout=KeyLayout("runs"), bucket="")
    except (RejectedMessageError, ForeignMessageError) as error:
        assert "\n" not in str(error)
        return
    assert is_job_id(call.keys.job)
    assert ".." not in call.keys.folder.split("/")


@fuzz()
@given(spoilt(json.loads(encode_record(RECORD))).map(as_bytes) | JSON.map(as_bytes) | st.binary(max_size=200))
def test_any_record_is_read_or_refused(body: bytes) -> None:
    """A record is refused, or can be written and read again unchanged."""
    with suppress(InvalidRecordError):
        record = decode_record(body)
        assert decode_record(encode_record(record)) == record or "nan" in repr(record)


@fuzz()
@given(
    spoilt(json.loads(manifests.encode_manifest(MANIFEST))).map(as_bytes) | JSON.map(as_bytes) | st.binary(max_size=200)
)
def test_any_manifest_is_read_or_refused(body: bytes) -> None:
    """A manifest is refused, or contains only safe paths."""
    with suppress(CorruptCheckpointError, NewerManifestError):
        for entry in manifests.decode_manifest(body).files:
            assert is_safe_path(entry.path)


PATHS = st.lists(st.sampled_from(["a", "b", "..", ".", "", "link", "dir", "~", "a\0", "é", "x" * 300]), max_size=4).map(
    "/".join
)


@fuzz()
@given(st.lists(PATHS, max_size=4), st.lists(st.sampled_from(["a", "b", "dir", "dir/a", "link"]), max_size=3))
def test_no_manifest_writes_outside_its_directory(paths: list[str], links: list[str]) -> None:
    """No path in a manifest leads outside the job's directory, not even through links."""
    body = b"owned"
    with TemporaryDirectory() as folder:
        root = Path(folder)
        job, outside, inside = root / "job", root / "outside", root / "job" / "checkpoint"
        outside.mkdir()
        (outside / "a").write_bytes(b"precious")
        inside.mkdir(parents=True)
        for name in links:
            with suppress(OSError):
                (inside / name).parent.mkdir(parents=True, exist_ok=True)
                (inside / name).symlink_to(outside if len(name) % 2 else outside / "a")
        store = MemoryStore(ManualClock())
        store.put("pack", body)
        digest = digest_chunks(chunk_digests(memoryview(body), 16))
        entries = tuple(
            FileEntry(f"checkpoint/{path}", len(body), 0o644, 16, digest, (Extent("pack", 0, len(body), digest),))
            for path in paths
        )
        encoded = manifests.encode_manifest(Manifest("bad", 1, 1, None, {"pack": len(body)}, entries))
        store.put("manifest", encoded)
        ref = CheckpointRef("manifest", digest_bytes(encoded), seq=1)
        with suppress(CorruptCheckpointError, OSError):
            restore(
                store,
                SystemClock(),
                [ref],
                job,
                local=root / "local",
                check_interrupted=lambda: None,
                on_damaged=lambda _ref, _why: None,
            )
        assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"a": b"precious"}
        assert {path.name for path in root.iterdir()} <= {"outside", "job", "local"}


@pytest.fixture(scope="module")
def series_sum() -> Iterator[Any]:
    """Yield the built-in workload, imported as a job imports it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "sdk"))
        yield importlib.import_module("holdfast.series_sum")


@fuzz()
@given(st.text(st.sampled_from(string.digits + "+-_ .\n\r\u2028²x"), max_size=30) | st.text() | st.just("9" * 5000))
def test_any_input_of_the_series_is_read_or_refused(series_sum: Any, text: str) -> None:
    """An input is read, or refused in one line that fits the job's record."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "input.txt")
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            start, end = series_sum.read_range(str(file))
        except series_sum.InvalidInputError as error:
            assert len(str(error).splitlines()) == 1
        else:
            assert start <= end


TOML_LINES = ["[a]", "command='x'", "[a.environment]", "X=1", "grace=5", "=", "stop_signal='SIGX'"]
NAMES = [row.name for row in TABLE]
TEXTS = (
    st.text(max_size=20)
    | st.sampled_from(
        ["0", "-1", "1e999", "5s", "99999999999999999d", "inf", "nan", "12h", "1" * 5000, "²", "http://[", "a/../b"]
    )
    | st.sampled_from(["http://h:99999999/x", "https://sqs.eu-west-1.amazonaws.com/1/q", "\0", "~", "30", "1ms"])
)


@fuzz()
@given(st.dictionaries(st.sampled_from(NAMES), TEXTS, max_size=6))
def test_any_environment_is_read_or_refused(environ: dict[str, str]) -> None:
    """Settings are refused in one line, or can be shown and used."""
    try:
        found = from_environ(environ, None)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert found.rows()
        assert found.limits().lease > timedelta(0)


@fuzz()
@given(
    st.dictionaries(st.sampled_from([*NAMES, "holdfast", "x"]), JSON, max_size=4).map(json.dumps)
    | st.text()
    | st.lists(
        st.sampled_from(["[a]", "command='x'", "[a.environment]", "X=1", "grace=5", "=", "stop_signal='SIGX'"])
    ).map("\n".join)
)
def test_any_file_of_settings_workloads_or_jobs_is_read_or_refused(text: str) -> None:
    """A file is read, or refused with a ConfigError."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "file.toml")
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        uses: list[Callable[[], object]] = [
            lambda: from_environ({}, file),
            lambda: workloads.load(file),
            lambda: read_requests([], file=file, workload="w", params=[]),
        ]
        for use in uses:
            with suppress(ConfigError):
                use()


# ---- a worker ----


@fuzz(WHOLE_JOBS)
@given(
    body=st.sampled_from(BODIES).flatmap(spoilt).map(json.dumps) | st.text(min_size=1, max_size=50),
    record=spoilt(json.loads(encode_record(RECORD))).map(as_bytes) | st.binary(max_size=50),
    manifest=spoilt(json.loads(manifests.encode_manifest(MANIFEST))).map(as_bytes) | st.binary(max_size=50),
    text=st.text(max_size=20),
)
@pytest.mark.usefixtures("_coarse_ticks")
def test_a_worker_survives_bad_input(body: str, record: bytes, manifest: bytes, text: str) -> None:
    """The next job completes; the bad one is refused, ends, or waits for an operator."""
    with TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder))
        bad = LAYOUT.job("bad")
        cluster.memory.put(REF.manifest, manifest)
        cluster.memory.put(f"{bad.input}input.txt", text.encode("utf-8", "replace"))
        committed = evolve(REF, digest=digest_bytes(manifest))
        with suppress(InvalidRecordError):
            read_as = decode_record(record)
            if read_as.checkpoint:
                record = encode_record(evolve(read_as, checkpoint=committed))
        cluster.memory.put(bad.record, record)
        cluster.queue.send([Message(body=body, job="bad", dedup="1"), announce(JobRecord("bad", "series-sum"), 1)])
        cluster.submit("good", "1\n10\n")
        cluster.worker(idle_exit=timedelta(minutes=4)).run()
        assert cluster.record("good").state is State.COMPLETED
        try:
            left = cluster.record("bad")
        except HoldfastError:
            assert any(True for _ in cluster.memory.list("")), "nothing is removed that cannot be read"
        else:
            assert left.result is None or isinstance(left.result, Result)
