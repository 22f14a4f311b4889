"""Files of real programs survive their node as they were, or the job says why not."""

from pathlib import Path

import pytest
from support.process_cluster import ProcessCluster

from lifecycle.states import State

pytestmark = pytest.mark.acceptance

WORKLOADS = '[train]\ncommand = "{python} {here}/train.py"\nquiet = "0.3s"\nneeds_input = false\n'
TRAIN = """
import os, sys, time
folder, output = os.environ["HOLDFAST_CHECKPOINT_DIR"], os.environ["HOLDFAST_OUTPUT_DIR"]
last, step = os.path.join(folder, "last.ckpt"), 0
if os.environ["HOLDFAST_RESUMED"] == "1":
    step = int(open(last).read())  # without the link, this fails
    assert os.path.isdir(os.path.join(folder, "empty"))
    assert os.path.samefile(os.path.join(folder, "first"), os.path.join(folder, "epoch=1.ckpt"))
    assert os.path.getmtime(os.path.join(folder, "epoch=1.ckpt")) < time.time() - 1000
    with open(os.path.join(output, "resumed"), "w") as file: file.write(str(step))
os.makedirs(os.path.join(folder, "empty"), exist_ok=True)
for now in range(step + 1, step + 60):
    name = os.path.join(folder, "epoch=%d.ckpt" % now)
    with open(name + ".tmp", "w") as file: file.write(str(now))
    os.rename(name + ".tmp", name)
    if now == 1:
        os.link(name, os.path.join(folder, "first"))
        os.utime(name, (1.0, 1.0))
    os.symlink(name, last + ".tmp")  # absolute, as some frameworks do
    os.replace(last + ".tmp", last)
    time.sleep(1)
    if step and now >= step + 2:
        break
with open(os.path.join(output, "model.bin"), "w") as file: file.write("weights")
os.symlink("model.bin", os.path.join(output, "latest.bin"))
os.symlink("/etc/hostname", os.path.join(output, "outside"))
os.mkdir(os.path.join(output, "empty"), 0o750)
os.utime(os.path.join(output, "model.bin"), (2.0, 2.0))
"""


def test_a_link_to_the_newest_file_survives_its_node(files: ProcessCluster, tmp_path: Path) -> None:
    """A killed trainer goes on from the file that `last.ckpt` leads to, in another directory; download restores all."""
    (files.home / "workloads.toml").write_text(WORKLOADS)
    (files.home / "train.py").write_text(TRAIN)
    assert files.holdfast("submit", "--no-input", "a", "--workload", "train").returncode == 0
    first = files.worker()
    files.until("a", lambda record: record.checkpoint is not None and record.checkpoint.seq >= 3)
    first.kill()
    first.wait()
    files.worker(WORK_DIR=str(tmp_path / "elsewhere"))
    record = files.settled("a")
    assert record.state is State.COMPLETED
    assert [attempt.outcome for attempt in record.attempts] == ["vanished", "completed"]
    done = files.holdfast("download", str(tmp_path / "got"), "a", "--state")
    assert done.returncode == 0, done.stderr
    assert "outside -> /etc/hostname: left out" in done.stderr
    got = tmp_path / "got" / "a"
    assert (got / "output" / "latest.bin").readlink() == Path("model.bin")
    assert (got / "output" / "model.bin").stat().st_mtime == 2.0
    assert (got / "output" / "empty").stat().st_mode & 0o777 == 0o750
    assert not (got / "output" / "outside").is_symlink()
    assert int((got / "output" / "resumed").read_text()) >= 1
    assert int((got / "state" / "checkpoint" / "last.ckpt").read_text()) >= 1
    again = files.holdfast("download", str(tmp_path / "got"), "a", "--state")
    assert again.returncode == 0, again.stderr
    published = {one.key.rpartition("/")[2] for one in files.env.store.list("a/output/")}
    assert published == {"latest.bin", "model.bin", "resumed"}


def test_an_input_that_no_disk_can_hold_takes_no_worker_down(cluster: ProcessCluster) -> None:
    """`data` beside `data/x`, and a name of 300 bytes: the jobs fail at once, and one worker does all of them."""
    bucket = cluster.env.layout
    kind = cluster.settings.get("BUCKET")
    if kind is None:
        pytest.skip("a bucket in a folder cannot hold such keys either")
    cluster.env.store.put(f"{bucket.job('a').input}data", b"1")
    cluster.env.store.put(f"{bucket.job('a').input}data/part-0", b"2")
    cluster.env.store.put(f"{bucket.job('b').input}{'n' * 300}", b"2")
    for job in ("a", "b"):
        assert cluster.holdfast("submit", "--no-input", job).returncode == 0
    cluster.submit("c", step_s=0)
    worker = cluster.worker("--max-jobs", "3")
    assert worker.wait(120) == 0
    for job, reason in (("a", "files below it"), ("b", "more than 255 bytes")):
        record = cluster.settled(job)
        assert (record.state, len(record.attempts)) == (State.FAILED, 1)
        assert reason in (record.error or "")
    assert cluster.record("c").state is State.COMPLETED


def test_a_job_may_have_the_name_of_a_file_of_the_workers(files: ProcessCluster) -> None:
    """The worker's own lock lies beside the directories of jobs, under a name that no job can have."""
    files.submit("lock", step_s=0)
    assert files.worker("--max-jobs", "1").wait(60) == 0
    assert files.settled("lock").state is State.COMPLETED


def test_an_input_may_have_any_name(cluster: ProcessCluster) -> None:
    """Also one that is not ASCII."""
    (cluster.home / "workloads.toml").write_text("[look]\ncommand = \"sh -c 'cp {input_dir}/* {output_dir}'\"\n")
    keys = cluster.env.layout.job("a")
    cluster.env.store.put(f"{keys.input}é ü.txt", b"bytes")
    assert cluster.holdfast("submit", "--no-input", "a", "--workload", "look").returncode == 0
    assert cluster.worker("--max-jobs", "1").wait(120) == 0
    assert cluster.settled("a").state is State.COMPLETED, cluster.record("a").error
    published = cluster.env.store.get(f"{keys.output}%C3%A9%20%C3%BC.txt")
    assert published is not None
    assert published.body == b"bytes"
