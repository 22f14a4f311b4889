"""Where settings may come from, and which places they may name."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from client.cli import main
from client.config.composition import open_environment
from client.config.settings import TABLE, current_settings, from_environ
from lifecycle.errors import ConfigError

CLOUD: Final = {
    "QUEUE_URL": "https://sqs.us-east-2.amazonaws.com/1/q",
    "AWS_ID": "AKIAEXAMPLE",
    "AWS_KEY": "wJalrXUtnFEMI/K7MDENG/secret",
    "CLOUDFLARE_URL": "https://x.r2.cloudflarestorage.com",
    "CLOUDFLARE_ID": "id",
    "CLOUDFLARE_KEY": "another-long-secret-value",
    "BUCKET": "b",
}
TRUSTED: Final = {
    "QUEUE_URL": "https://sqs.us-east-2.amazonaws.com/1/q",
    "CLOUDFLARE_URL": "https://evil.example",
    "WEBHOOK_URL": "https://evil.example",
    "AWS_CREDENTIALS_COMMAND": "touch ran",
    "CLOUDFLARE_CREDENTIALS_COMMAND": "touch ran",
    "WORKLOADS": "evil.toml",
    "ALLOW_HTTP": "yes",
}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command in an empty folder, and returns exit code, stdout and stderr."""
    for declared in TABLE:
        monkeypatch.delenv(declared.name, raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOLDFAST_CONFIG", "")

    def of(*words: str, **variables: str) -> tuple[int, str, str]:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        code = main(words)
        return code, *capsys.readouterr()

    return of


def toml(**values: str) -> str:
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


def test_every_setting_that_runs_programs_or_names_a_host_is_trusted() -> None:
    """Settings with URL or COMMAND in their names, and the workloads file, are among those that a found file lacks."""
    assert {row.name for row in TABLE if row.trusted} == set(TRUSTED)
    assert {row.name for row in TABLE if "URL" in row.name or "COMMAND" in row.name} <= set(TRUSTED)


@pytest.mark.parametrize("name", TRUSTED)
def test_a_file_in_the_current_folder_cannot_run_programs_or_redirect_keys(run: Run, name: str) -> None:
    """Such a setting is refused in a file that was merely found, and the message names both ways out."""
    Path("holdfast.toml").write_text(toml(**{name: TRUSTED[name]}))
    code, _, err = run("status", **{other: value for other, value in CLOUD.items() if other != name})
    assert code == 78
    assert f"holdfast.toml: {name} is not read from a file in the current folder" in err
    assert "--config holdfast.toml" in err
    assert "config/holdfast/holdfast.toml" in err
    assert not Path("ran").exists()


def test_the_environment_overrides_such_a_file(run: Run) -> None:
    """A setting of the file that the environment replaces does no harm, and is no error."""
    Path("holdfast.toml").write_text(toml(CLOUDFLARE_URL="https://evil.example", MAX_FAILURES="7"))
    code, out, _ = run("settings", "--json", **CLOUD)
    rows = {row["name"]: row["value"] for row in map(json.loads, out.splitlines())}
    assert code == 0
    assert (rows["CLOUDFLARE_URL"], rows["MAX_FAILURES"]) == (CLOUD["CLOUDFLARE_URL"], "7")


def test_the_users_own_file_may_set_everything(run: Run, tmp_path: Path) -> None:
    """The file in the user's configuration folder is read last, and may set everything."""
    own = tmp_path / "config" / "holdfast" / "holdfast.toml"
    own.parent.mkdir(parents=True)
    own.write_text(toml(**CLOUD, MAX_FAILURES="8"))
    Path("holdfast.toml").write_text(toml(MAX_FAILURES="7", PREFIX="runs"))
    code, out, _ = run("settings", "--json")
    rows = {row["name"]: (row["value"], row["origin"]) for row in map(json.loads, out.splitlines())}
    assert code == 0
    assert rows["CLOUDFLARE_URL"] == (CLOUD["CLOUDFLARE_URL"], str(own))
    assert rows["MAX_FAILURES"] == ("7", "holdfast.toml")


def test_the_users_own_folder_may_be_the_current_one(run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    """In the user's configuration folder, its file is the user's own."""
    own = tmp_path / "config" / "holdfast" / "holdfast.toml"
    own.parent.mkdir(parents=True)
    own.write_text(toml(**CLOUD))
    monkeypatch.chdir(own.parent)
    assert run("settings")[0] == 0


@pytest.mark.parametrize("before", [True, False])
def test_config_names_a_file_that_may_set_everything(run: Run, before: bool) -> None:  # noqa: FBT001
    """`--config` works before and after the command, and then no other file is read."""
    Path("mine.toml").write_text(toml(**CLOUD))
    Path("holdfast.toml").write_text(toml(AWS_CREDENTIALS_COMMAND="touch ran", MAX_FAILURES="7"))
    words = ("--config", "mine.toml", "settings", "--json")
    code, out, _ = run(*(words if before else ("settings", "--json", "--config", "mine.toml")))
    rows = {row["name"]: (row["value"], row["origin"]) for row in map(json.loads, out.splitlines())}
    assert code == 0
    assert rows["CLOUDFLARE_URL"] == (CLOUD["CLOUDFLARE_URL"], str(Path("mine.toml").absolute()))
    assert rows["MAX_FAILURES"] == ("3", "default")
    assert os.environ["HOLDFAST_CONFIG"] == str(Path("mine.toml").absolute())  # for child processes


def test_a_config_file_must_exist(run: Run) -> None:
    """A file that `--config` names and that does not exist is an error, not an absence of settings."""
    code, _, err = run("status", "--config", "none.toml")
    assert code == 78
    assert "none.toml: there is no such file" in err


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"BUCKET"}, "QUEUE_URL, CLOUDFLARE_URL"),
        ({"CLOUDFLARE_URL"}, "QUEUE_URL"),
        ({"CLOUDFLARE_URL", "BUCKET"}, "QUEUE_URL"),
        (set(CLOUD) - {"QUEUE_URL"}, "QUEUE_URL must"),
        (set(CLOUD) - {"CLOUDFLARE_URL"}, "CLOUDFLARE_URL must"),
        (set(CLOUD) - {"BUCKET"}, "BUCKET must"),
        ({"QUEUE_URL"}, "CLOUDFLARE_URL"),
    ],
    ids=lambda value: ",".join(sorted(value)) if isinstance(value, set) else "",
)
@pytest.mark.parametrize("command", [["status"], ["submit", "job1"], ["doctor"], ["setup", "--dry-run"]])
def test_a_forgotten_queue_or_bucket_is_refused(run: Run, command: list[str], given: set[str], missing: str) -> None:
    """No command works on local files while a setting says that the cloud was meant; the message names what is missing.

    Nothing is written.
    """
    code, out, err = run(*command, **{name: CLOUD[name] for name in given})
    assert (code, out) == (78, "")
    assert missing in err
    assert len(err.splitlines()) == 1
    assert list(Path().iterdir()) == []


def test_status_and_submit_name_their_place(run: Run) -> None:
    """Both say on stderr where they look, so that neither JSON nor a pipe is disturbed."""
    code, out, err = run("submit", "--no-input", "job1", "--json", PREFIX="runs")
    assert (code, json.loads(out)["outcome"]) == (0, "submitted")
    assert err == f"holdfast: local files in {Path('.holdfast').absolute()}, prefix runs\n"
    code, out, err = run("status", "--json")
    assert (code, json.loads(out)["job"]) == (0, "job1")
    assert err == f"holdfast: local files in {Path('.holdfast').absolute()}, prefix runs\n"
    place = open_environment(from_environ({**CLOUD, "PREFIX": "runs"}, None)).place
    assert place == f"queue {CLOUD['QUEUE_URL']}, bucket b at {CLOUD['CLOUDFLARE_URL']}, prefix runs"


@pytest.mark.parametrize("text", ["20h", "12h", "691m"])
def test_a_running_time_beyond_the_cap_is_refused(run: Run, text: str) -> None:
    """A longer time than the queue allows is refused, instead of being shown and not kept."""
    code, _, err = run("settings", MAX_RUNNING_TIME=text)
    assert code == 78
    assert "MAX_RUNNING_TIME" in err
    assert "at most 11.5h" in err


def test_the_default_running_time_is_the_deliverys_limit() -> None:
    """Unless told otherwise, an attempt runs for as long as one delivery lasts."""
    settings = from_environ({}, None)
    assert {name: value for name, value, _, _ in settings.rows()}["MAX_RUNNING_TIME"] == "11.5h"
    assert from_environ({"MAX_RUNNING_TIME": "690m"}, None).limits() == settings.limits()


@pytest.mark.parametrize("name", ["QUEUE_URL", "CLOUDFLARE_URL", "WEBHOOK_URL"])
@pytest.mark.parametrize("host", ["queue.example", "10.0.0.7:9000", "[fd00::1]", "127.0.0.1.evil.example"])
def test_plain_http_to_another_host_is_refused_unless_allowed(name: str, host: str) -> None:
    """Keys and data go to other hosts only over TLS; ALLOW_HTTP is the way out, and is named."""
    settings = {**CLOUD, "WEBHOOK_KEY": "0123456789abcdef", name: f"http://{host}/1/q"}
    with pytest.raises(ConfigError, match=f"{name} begins with http.*ALLOW_HTTP=yes"):
        from_environ(settings, None)
    assert from_environ({**settings, "ALLOW_HTTP": "yes"}, None).allow_http


@pytest.mark.parametrize("host", ["127.0.0.1:5000", "localhost:4566", "[::1]:9324", "sqs.localhost"])
def test_plain_http_to_this_machine_is_accepted(host: str) -> None:
    """An emulator on this machine needs no TLS."""
    for name in ("QUEUE_URL", "CLOUDFLARE_URL"):
        settings = from_environ({**CLOUD, name: f"http://{host}/1/q"}, None)
        assert f"http://{host}/1/q" in (settings.queue_url, settings.store_url)
        assert not settings.allow_http


@pytest.mark.parametrize(
    ("variables", "region"),
    [
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-1"),
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
        ({}, "us-east-1"),
    ],
)
def test_aws_region_comes_before_aws_default_region(variables: dict[str, str], region: str) -> None:
    """The queue's calls are signed for AWS_REGION, otherwise for AWS_DEFAULT_REGION; so are the ARNs of `setup`."""
    from client.config.composition import open_admins  # noqa: PLC0415 - imports boto3

    settings = current_settings({**CLOUD, "QUEUE_URL": "https://queue.example/1/q", **variables})
    queues, _ = open_admins(settings)
    assert (queues.client.meta.region_name, queues.region) == (region, region)


@pytest.mark.parametrize(
    ("name", "text"), [("MAX_FAILURES", "²"), ("MAX_DEATHS", "9" * 5000), ("UPLOAD_LIMIT", "9" * 5000)]
)
def test_a_number_that_python_cannot_read_has_our_message(name: str, text: str) -> None:
    """No number, however odd, is answered with a message of Python's."""
    with pytest.raises(ConfigError, match=r"whole number from 1|number of bytes"):
        from_environ({name: text}, None)
