"""Settings: origin and precedence, parsing, and error messages."""

from datetime import timedelta
from pathlib import Path

import pytest

from client.config.settings import TABLE, from_environ
from lifecycle.durations import parse, show
from lifecycle.errors import ConfigError, PermanentError
from lifecycle.limits import saving_interval

CLOUD = {
    "QUEUE_URL": "https://sqs.us-east-2.amazonaws.com/1/q",
    "AWS_ID": "AKIAEXAMPLE",
    "AWS_KEY": "wJalrXUtnFEMI/K7MDENG/secret",
    "CLOUDFLARE_URL": "https://x.r2.cloudflarestorage.com",
    "CLOUDFLARE_ID": "id",
    "CLOUDFLARE_KEY": "another-long-secret-value",
    "BUCKET": "b",
}


def test_environment_before_file_before_default(tmp_path: Path) -> None:
    """The environment takes precedence over the file, and the file over the default; each value has its origin."""
    file = tmp_path / "holdfast.toml"
    file.write_text('LEASE = "60s"\nHEARTBEAT = 5\nMAX_FAILURES = 7\n')
    settings = from_environ({"HEARTBEAT": "6s", "MAX_DEATHS": ""}, file)
    rows = {name: (value, origin) for name, value, origin, _ in settings.rows()}
    assert rows["HEARTBEAT"] == ("6s", "environment")
    assert rows["LEASE"] == ("1m", str(file))
    assert rows["MAX_DEATHS"] == ("10", "default")
    assert settings.limits().max_failures == 7
    assert settings.limits().write_gap == timedelta(0)


def test_secrets_are_never_shown() -> None:
    """Tables and reprs show at most the last four characters of a secret."""
    settings = from_environ(CLOUD, None)
    shown = repr(settings) + str(settings.rows())
    for row in TABLE:
        if row.secret and CLOUD.get(row.name):
            assert CLOUD[row.name] not in shown
            assert CLOUD[row.name][-4:] in shown
    assert settings.limits().write_gap == timedelta(seconds=1)


def test_all_missing_settings_are_named_at_once() -> None:
    """One error names all missing settings."""
    with pytest.raises(ConfigError, match="AWS_KEY, CLOUDFLARE_URL, CLOUDFLARE_ID, CLOUDFLARE_KEY, BUCKET must be set"):
        from_environ({"QUEUE_URL": CLOUD["QUEUE_URL"], "AWS_ID": "x"}, None)


@pytest.mark.parametrize(
    ("text", "limit"), [("0", 0), ("1000", 1000), ("500K", 500 << 10), ("20m", 20 << 20), ("1 GiB/s", 1 << 30)]
)
def test_rates_are_parsed(text: str, limit: int) -> None:
    """A rate is a number of bytes a second, with an optional unit."""
    assert from_environ({"UPLOAD_LIMIT": text}, None).limits().upload_limit == limit


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("LEASE", "soon", "invalid duration 'soon': use forms like 90s, 15m, 2h"),
        ("LEASE", "0", "more than zero"),
        ("LEASE", "12h", "shorter than 12h"),
        ("LEASE", "20s", "HEARTBEAT=30s must be at most a quarter of LEASE=20s"),
        ("HEARTBEAT", "31s", "at most a quarter"),
        ("MAX_FAILURES", "0", "whole number from 1"),
        ("MAX_FAILURES", "many", "whole number from 1"),
        ("UPLOAD_LIMIT", "fast", "not a number of bytes"),
        ("QUEUE_URL", "jobs", "not an http or https URL"),
        ("PREFIX", "a/../b", "plain ASCII path"),
        ("PREFIX", "ü", "plain ASCII path"),
        ("PREFIX", "a/.holdfast", "plain ASCII path"),
    ],
)
def test_an_invalid_value_is_one_line_that_names_it(name: str, value: str, reason: str) -> None:
    """An invalid value is an error of one line that names the setting and gives the reason."""
    with pytest.raises(ConfigError, match=reason) as caught:
        from_environ({name: value}, None)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["LEASE = ", "COLOUR = 1", "LEASE = true", "LEASE = [1]"])
def test_an_invalid_file_is_named(tmp_path: Path, text: str) -> None:
    """An error in the settings file names the file."""
    file = tmp_path / "holdfast.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"holdfast\.toml"):
        from_environ({}, file)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("1.5h", 5400), ("2d", 172_800), (" 5 S ", 5)],
)
def test_durations_are_parsed(text: str, seconds: float) -> None:
    """A duration is a number with an optional unit."""
    assert parse(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "s", "-1", "1w", "1h30m", "1e3", "nan", "400d"])
def test_invalid_durations_are_refused(text: str) -> None:
    """A text that is not a duration is an error that shows the format."""
    with pytest.raises(ValueError, match=r"duration|year"):
        parse(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.5, "0.5s"), (90, "90s"), (120, "2m"), (7200, "2h"), (86_400, "1d")]
)
def test_durations_are_formatted(seconds: float, text: str) -> None:
    """A duration is shown in the largest unit that fits, and can be parsed again."""
    assert show(timedelta(seconds=seconds)) == text
    assert parse(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(("value", "seconds"), [(None, 600), (60, 60), (0.5, 0.5), ("600.0", 600), ("15m", 900)])
def test_a_job_may_set_its_saving_interval(value: object, seconds: float) -> None:
    """A saving interval is a number of seconds, also as a string, or a duration."""
    params = {} if value is None else {"STATE_SAVING_INTERVAL": value}
    assert saving_interval(params, timedelta(minutes=10)) == timedelta(seconds=seconds)


@pytest.mark.parametrize("value", ["", "often", "nan", 0, -1, 31 * 86_400, "31d", 10**400, [60], {"s": 1}])
def test_invalid_saving_intervals_are_refused(value: object) -> None:
    """An invalid saving interval is a permanent error."""
    with pytest.raises(PermanentError, match=r"invalid STATE_SAVING_INTERVAL"):
        saving_interval({"STATE_SAVING_INTERVAL": value}, timedelta(minutes=10))


@pytest.mark.parametrize("way", ["AWS_CREDENTIALS_FILE", "AWS_CREDENTIALS_COMMAND"])
def test_keys_have_one_source(way: str) -> None:
    """Keys come from the settings, a file or a command; two sources at once are an error."""
    without = {name: value for name, value in CLOUD.items() if name not in {"AWS_ID", "AWS_KEY"}}
    assert from_environ({**without, way: "/bin/true"}, None).is_cloud
    with pytest.raises(ConfigError, match=f"AWS_ID and AWS_KEY and {way} are set.*one source only"):
        from_environ({**CLOUD, way: "/bin/true"}, None)
    both = {"AWS_CREDENTIALS_FILE": "x", "AWS_CREDENTIALS_COMMAND": "x"}
    with pytest.raises(ConfigError, match="one source only"):
        from_environ({**without, **both}, None)


@pytest.mark.parametrize("url", ["https://me:hush@host/1/q", "https://hush@host/1/q", "htps://me:hu/@hush@host"])
def test_a_url_with_a_password_is_refused_and_not_shown(url: str) -> None:
    """A URL with user or password is refused, since it would appear in messages; the error does not show it."""
    for name in ("QUEUE_URL", "CLOUDFLARE_URL"):
        with pytest.raises(ConfigError, match=name) as caught:
            from_environ({**CLOUD, name: url}, None)
        assert "hush" not in str(caught.value)
