"""`make demo`, and the messages of the SaladCloud demo."""

import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from support.process_cluster import ProcessCluster

from acceptance.conftest import cloud
from lifecycle.key_layout import KeyLayout
from lifecycle.ports.queue import Message
from lifecycle.record.codec import decode_record
from lifecycle.states import State

pytestmark = pytest.mark.acceptance


@pytest.mark.parametrize("kind", ["files", "standard", "fifo"])
def test_the_main_job(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    """Five sums are right, one worker was killed, and its job resumed from a checkpoint."""
    settings = {} if kind == "files" else cloud(request, fifo=kind == "fifo")
    cluster = ProcessCluster(tmp_path, settings)
    done = cluster.holdfast("demo", *(["--cloud"] if settings else []))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("4,148,640") == 5
    assert "SIGKILL to worker " in done.stdout
    assert re.search(
        r"\bworker \d takes over (job\d) at step [\d,]+; [\d,]+ steps \(\d+\.\d s\) were lost", done.stdout
    )
    assert "resumed at step" in done.stdout
    assert "5 of 5 jobs completed with the right sum" in done.stdout.splitlines()
    assert "What you saw" in done.stdout


@pytest.mark.parametrize("fifo", [False, True])
def test_messages_of_the_salad_demo(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    sqs_client: Any,
    s3_client: Any,
    fifo: bool,  # noqa: FBT001 - a parameter
) -> None:
    """Messages and uploads of the SaladCloud demo's scripts are processed, and produce the files that they expect."""
    settings = {**cloud(request, fifo=fifo), "PREFIX": "demoapp2v2"}
    cluster = ProcessCluster(tmp_path, settings)
    bucket = settings["BUCKET"]
    s3_client.put_object(Bucket=bucket, Key="demoapp2v2/job0/input.txt", Body=b"1\n2880")
    parameters = {"STATE_SAVING_INTERVAL": "0.5", "STEP_RUNNING_TIME": "0.003"}
    body = {"parameters": parameters, "bucket": bucket, "folder": "demoapp2v2/job0"}
    name = f"0-t0-{uuid.uuid4()}"
    fifo_fields = {"MessageDeduplicationId": name, "MessageGroupId": name} if fifo else {}
    entry = {"Id": name, "MessageBody": json.dumps(body), **fifo_fields}
    sqs_client.send_message_batch(QueueUrl=settings["QUEUE_URL"], Entries=[entry])
    worker = cluster.worker("--idle-exit", "3s", MAX_RUNNING_TIME="3s")
    assert worker.wait(60) == 0, cluster.log_of(worker)
    files = {
        listed["Key"]: s3_client.get_object(Bucket=bucket, Key=listed["Key"])["Body"].read()
        for listed in s3_client.list_objects_v2(Bucket=bucket, Prefix="demoapp2v2/")["Contents"]
    }
    assert files["demoapp2v2/job0/output.txt"].split() == [b"4148640"]
    start, end, step, total = map(int, files["demoapp2v2/job0/state.txt"].split())
    assert (start, end, total) == (1, 2880, sum(range(1, step + 1)))
    logs = files["demoapp2v2/job0/logs.txt"].decode().splitlines()
    assert all(line.startswith("UTC Time: ") and " - Machine ID: " in line for line in logs)
    assert "Begin processing the job" in logs[0]
    assert sum("Begin processing the job" in line for line in logs) >= 2
    assert any("Saving the state at the step" in line for line in logs)
    assert logs[-1].endswith("The job is done")
    record = decode_record(files[KeyLayout("demoapp2v2").job("job0").record])
    assert record.state is State.COMPLETED
    assert {attempt.outcome for attempt in record.attempts[:-1]} == {"timeout"}
    cluster.empty()


def test_the_seven_variables_of_the_salad_demo(
    request: pytest.FixtureRequest, tmp_path: Path, sqs_client: Any, s3_client: Any
) -> None:
    """A worker with the demo's seven variables, and no BUCKET, works in the buckets that its messages name.

    The first job was begun by the demo's first version, whose state has two lines.
    """
    settings = cloud(request, fifo=False)
    buckets = [settings.pop("BUCKET"), f"cluster-{uuid.uuid4().hex}"]
    del settings["PREFIX"]
    s3_client.create_bucket(Bucket=buckets[1])
    s3_client.put_object(Bucket=buckets[0], Key="demoapp2/job0/state.txt", Body=b"2000\n2001000")
    for bucket in buckets:
        s3_client.put_object(Bucket=bucket, Key="demoapp2/job0/input.txt", Body=b"1\n2880")
        body = {"parameters": {"STEP_RUNNING_TIME": "0"}, "bucket": bucket, "folder": "demoapp2/job0"}
        sqs_client.send_message(QueueUrl=settings["QUEUE_URL"], MessageBody=json.dumps(body))
    command = [sys.executable, "-P", "-m", "holdfast._entrypoint", "worker", "--max-jobs", "2", "--idle-exit", "20s"]
    variables = {"PATH": os.environ["PATH"], "XDG_CONFIG_HOME": os.devnull, **settings}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for bucket in buckets:
        output = s3_client.get_object(Bucket=bucket, Key="demoapp2/job0/output.txt")["Body"].read()
        assert output.split() == [b"4148640"]
    log = s3_client.get_object(Bucket=buckets[0], Key="demoapp2/job0/log/e1.jsonl")["Body"].read()
    assert b'"resumed"' in log


def test_a_job_begun_by_the_salad_demo(files: ProcessCluster) -> None:
    """A job without a record continues from the state.txt that the demo's own worker wrote."""
    files.env.store.put("old/job7/input.txt", b"1\n2880\n")
    files.env.store.put("old/job7/state.txt", b"1\n2880\n2000\n2001000\n")
    body = {"bucket": "any", "folder": "old/job7", "parameters": {}}
    files.env.queue.send([Message(body=json.dumps(body), job="job7", dedup="x")])
    assert files.worker("--idle-exit", "1s").wait(60) == 0
    stored = files.env.store.get("old/job7/output.txt")
    assert stored is not None
    assert stored.body.split() == [b"4148640"]
    logs = files.env.store.get("old/job7/log/e1.jsonl")
    assert logs is not None
    assert b'"resumed"' in logs.body
