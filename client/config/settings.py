"""Settings: environment first, `holdfast.toml` second, defaults third; every value knows where it came from.

`TABLE` is the one list of them: it is parsed, printed by `holdfast settings`, and documented from there.
"""

import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import frozen

from client.config.webhook_settings import check, read_key, read_states, read_url
from lifecycle.durations import parse, show
from lifecycle.errors import ConfigError
from lifecycle.limits import Limits
from lifecycle.record.signing import Signer

FILE: Final = "holdfast.toml"
UNITS: Final = {"": 0, "K": 10, "M": 20, "G": 30}
BEATS_IN_A_LEASE: Final = 4
LAST_PORT: Final = 65535
LONGEST_LEASE: Final = timedelta(hours=12)
CLOUD_NEEDS: Final = ("CLOUDFLARE_URL", "BUCKET")
KEY_OWNERS: Final = ("AWS", "CLOUDFLARE")
SHORTEST_KEY: Final = 16  # characters


_USER: Final = re.compile(r"//.*@")  # of a URL; what comes before the last @ may be a password


def _text(value: str) -> str:
    return value


def _path(value: str) -> Path:
    return Path(value)


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("is no http or https address")
    if parts.username is not None or parts.password is not None:
        raise ValueError("has a user or a password in it, which belong into settings of their own")
    return value


def _signing_key(value: str) -> str:
    if len(value) < SHORTEST_KEY or not (value.isascii() and value.isprintable()) or " " in value:
        raise ValueError(f"must have {SHORTEST_KEY} characters or more, plain ASCII without blanks")
    return value


def _prefix(value: str) -> str:
    parts = value.strip("/").split("/") if value.strip("/") else []
    if not value.isascii() or any(part in {"", ".", "..", ".holdfast"} for part in parts):
        raise ValueError("is no plain ASCII path")
    return "/".join(parts)


def _positive(value: str) -> timedelta:
    duration = parse(value)
    if not duration:
        raise ValueError("must be more than zero")
    return duration


def _count(value: str) -> int:
    if not value.isdigit() or int(value) < 1:
        raise ValueError("is no whole number from 1 on")
    return int(value)


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value.lower() not in choices:
            raise ValueError(f"is none of {', '.join(choices)}")
        return value.lower()

    return read


def _port(value: str) -> int:
    if not value.isascii() or not value.isdigit() or int(value) > LAST_PORT:
        raise ValueError(f"is no port from 0 to {LAST_PORT}")
    return int(value)


def _rate(value: str) -> int:
    found = re.fullmatch(r"(\d+)\s*([KMG]?)i?B?(?:/s)?", value.strip(), re.IGNORECASE)
    if not found:
        raise ValueError("is no number of bytes, like 500K or 20M")
    return int(found[1]) << UNITS[found[2].upper()]


@frozen
class Setting:
    """One row of the table: name, how its text is read, its default as text, whether it is secret, what it is for."""

    name: str
    read: Callable[[str], Any]
    default: str
    meaning: str
    secret: bool = False


TABLE: Final = (
    Setting("QUEUE_URL", _url, "", "the SQS queue; unset: everything runs in HOLDFAST_HOME"),
    Setting("AWS_ID", _text, "", "access key id for SQS"),
    Setting("AWS_KEY", _text, "", "secret access key for SQS", secret=True),
    Setting("AWS_TOKEN", _text, "", "session token for SQS, with short-lived keys", secret=True),
    Setting("AWS_CREDENTIALS_FILE", _path, "", "a file with short-lived keys for SQS, read again when it is time"),
    Setting("AWS_CREDENTIALS_COMMAND", _text, "", "a command that prints such keys, run again", secret=True),
    Setting("CLOUDFLARE_URL", _url, "", "the R2 (or any S3) endpoint"),
    Setting("CLOUDFLARE_REGION", _text, "auto", "its region"),
    Setting("CLOUDFLARE_ID", _text, "", "access key id for it"),
    Setting("CLOUDFLARE_KEY", _text, "", "secret access key for it", secret=True),
    Setting("CLOUDFLARE_TOKEN", _text, "", "session token for it, with short-lived keys", secret=True),
    Setting("CLOUDFLARE_CREDENTIALS_FILE", _path, "", "a file with short-lived keys for it, as for SQS"),
    Setting("CLOUDFLARE_CREDENTIALS_COMMAND", _text, "", "a command that prints such keys, run again", secret=True),
    Setting("BUCKET", _text, "", "the bucket"),
    Setting("PREFIX", _prefix, "", "all jobs lie under it"),
    Setting("LEASE", _positive, "120s", "how long a silent owner is taken for alive"),
    Setting("HEARTBEAT", _positive, "30s", "how often an owner says that it lives; at most a quarter of LEASE"),
    Setting("MAX_RUNNING_TIME", _positive, "2h", "after which an attempt pauses; never past 11 h 30 min"),
    Setting("STATE_SAVING_INTERVAL", _positive, "10m", "how often state is saved, where the job does not say"),
    Setting("STOP_GRACE", _positive, "30s", "what a workload has to save and leave, and a worker to hand back"),
    Setting("MAX_FAILURES", _count, "3", "failures in a row without a new checkpoint that fail a job"),
    Setting("MAX_DEATHS", _count, "10", "vanished nodes in a row without a new checkpoint that fail a job"),
    Setting("IDLE_EXIT", parse, "0", "a worker without a job for so long ends; 0: never"),
    Setting("UPLOAD_LIMIT", _rate, "0", "the most that checkpoints send in a second, like 20M; 0: no limit"),
    Setting("NODE_KIND", _text, "", "what kind of machine this is, like RTX 4090: reports compare them by it"),
    Setting(
        "LOG_FORMAT", _one_of("auto", "json", "text"), "auto", "the worker's log; auto: text on a terminal, else json"
    ),
    Setting("LOG_LEVEL", _one_of("debug", "info", "warning", "error"), "info", "the least level that is logged"),
    Setting("METRICS_PORT", _port, "0", "where a worker shows its metrics to Prometheus; 0: nowhere"),
    Setting("METRICS_HOST", _text, "127.0.0.1", "the address it does so at; 0.0.0.0 in a container"),
    Setting("JOB_SIGNING_KEY", _signing_key, "", "signs messages; workers with it take signed ones only", secret=True),
    Setting("JOB_SIGNING_KEY_OTHER", _signing_key, "", "a key that is taken as well, while keys change", secret=True),
    Setting("WEBHOOK_URL", read_url, "", "is told of every change of state; unset: nobody is", secret=True),
    Setting("WEBHOOK_KEY", read_key, "", "signs what it is told", secret=True),
    Setting("WEBHOOK_KEY_PREVIOUS", read_key, "", "signs it as well, while keys change", secret=True),
    Setting("WEBHOOK_STATES", read_states, "", "only those states are told, like completed,failed; unset: nearly all"),
    Setting("DASHBOARD_TOKEN", _text, "", "who looks at `holdfast dashboard` must have it", secret=True),
    Setting("HOLDFAST_HOME", _path, ".holdfast", "where the embedded queue and store lie"),
    Setting("WORK_DIR", _path, "", "where jobs run; unset: HOLDFAST_HOME/work"),
    Setting("WORKLOADS", _path, "", "the file of workloads; unset: workloads.toml, if there is one here"),
)


SECRETS: Final = tuple(row.name for row in TABLE if row.secret)
"""Names of what no workload, output or log may have."""


@frozen
class Value:
    """A setting's value, and where it came from."""

    value: Any
    origin: str


@frozen(repr=False)
class Settings:
    """All settings, read and checked. Made by `from_environ`."""

    values: Mapping[str, Value]

    def __getitem__(self, name: str) -> Any:
        """The value of the setting *name*."""
        return self.values[name].value

    @property
    def is_cloud(self) -> bool:
        """Whether SQS and R2 are used, rather than files here."""
        return bool(self["QUEUE_URL"])

    @property
    def home(self) -> Path:
        """Where the embedded queue and store lie, absolute."""
        return Path(self["HOLDFAST_HOME"]).absolute()

    @property
    def work_dir(self) -> Path:
        """Where jobs run, absolute: a workload runs in another directory than we do."""
        return Path(self["WORK_DIR"]).absolute() if self["WORK_DIR"] else self.home / "work"

    @property
    def workloads(self) -> Path | None:
        """The file of workloads; None if there is none."""
        if self["WORKLOADS"]:
            return Path(self["WORKLOADS"])
        usual = Path("workloads.toml")
        return usual if usual.exists() else None

    def signer(self) -> Signer:
        """Who signs messages, and whose are taken."""
        return Signer(self["JOB_SIGNING_KEY"].encode(), self["JOB_SIGNING_KEY_OTHER"].encode())

    def limits(self) -> Limits:
        """The numbers for a worker."""
        return Limits(
            lease=self["LEASE"],
            heartbeat=self["HEARTBEAT"],
            max_running_time=self["MAX_RUNNING_TIME"],
            state_saving_interval=self["STATE_SAVING_INTERVAL"],
            stop_grace=self["STOP_GRACE"],
            max_failures=self["MAX_FAILURES"],
            max_lost_attempts=self["MAX_DEATHS"],
            idle_exit=self["IDLE_EXIT"],
            upload_limit=self["UPLOAD_LIMIT"],
            write_gap=timedelta(seconds=1) if self.is_cloud else timedelta(0),
        )

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Name, value as text with secrets masked, origin and meaning of each, for people."""
        return [
            (row.name, _shown(row, self.values[row.name].value), self.values[row.name].origin, row.meaning)
            for row in TABLE
        ]

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value}' for name, value, _, _ in self.rows() if value)})"


def from_environ(environ: Mapping[str, str], file: Path | None) -> Settings:
    """Read the settings.

    Args:
        environ: The environment; an empty value is as good as none.
        file: A `holdfast.toml`, used if it exists; None: only the environment.

    Raises:
        ConfigError: A setting is wrong or missing; the message names it and where it came from, in one line.
    """
    written = _read_file(file) if file and file.exists() else {}
    values = {}
    for row in TABLE:
        text, origin = row.default, "default"
        if environ.get(row.name):
            text, origin = environ[row.name], "environment"
        elif row.name in written:
            text, origin = written[row.name], str(file)
        try:
            values[row.name] = Value(row.read(text) if text else "", origin)
        except ValueError as error:
            shown = _mask(text) if row.secret else _USER.sub("//…@", text)
            raise ConfigError(f"{row.name}={shown!r} (from {origin}) {error}") from error
    settings = Settings(values)
    _check(settings)
    return settings


def current() -> Settings:
    """The settings of this process: its environment, and `holdfast.toml` where it was started."""
    return from_environ(os.environ, Path(FILE))


def _read_file(file: Path) -> dict[str, str]:
    try:
        table = tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    if isinstance(table.get("holdfast"), dict):
        own = table.pop("holdfast")
        table.update(own)
    known = {row.name for row in TABLE}
    for name, value in table.items():
        if name not in known:
            raise ConfigError(f"{file}: there is no setting {name!r}; `holdfast settings` lists them")
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise ConfigError(f"{file}: {name} must be a text or a number")
    return {name: str(value) for name, value in table.items()}


def _check(settings: Settings) -> None:
    if settings.is_cloud:
        _check_cloud(settings)
    if settings["JOB_SIGNING_KEY_OTHER"] and not settings["JOB_SIGNING_KEY"]:
        raise ConfigError("JOB_SIGNING_KEY_OTHER is set, so JOB_SIGNING_KEY must be set too: it is the one that signs")
    check(settings)
    lease, beat = settings["LEASE"], settings["HEARTBEAT"]
    if beat * BEATS_IN_A_LEASE > lease:
        raise ConfigError(
            f"HEARTBEAT={show(beat)} must be at most a quarter of LEASE={show(lease)}: "
            "one lost beat must not cost the lease "
            f"(from {settings.values['HEARTBEAT'].origin} and {settings.values['LEASE'].origin})"
        )
    if lease >= LONGEST_LEASE:
        raise ConfigError(
            f"LEASE={show(lease)} must be shorter than 12h, for which SQS hides a message at most "
            f"(from {settings.values['LEASE'].origin})"
        )


def _check_cloud(settings: Settings) -> None:
    needed = {*CLOUD_NEEDS, *(name for owner in KEY_OWNERS for name in _key_settings(settings, owner))}
    missing = [row.name for row in TABLE if row.name in needed and not settings[row.name]]
    if missing:
        raise ConfigError(f"QUEUE_URL is set, so {', '.join(missing)} must be set too")


def _key_settings(settings: Settings, owner: str) -> tuple[str, ...]:
    """Where *owner*'s keys come from: one of three ways."""
    ways = ((f"{owner}_ID", f"{owner}_KEY"), (f"{owner}_CREDENTIALS_FILE",), (f"{owner}_CREDENTIALS_COMMAND",))
    given = [way for way in ways if any(settings[name] for name in way)]
    if len(given) > 1:
        several = " and ".join(name for way in given for name in way if settings[name])
        raise ConfigError(f"{several} are set, and it is not clear which keys to use: leave one way of giving them")
    return given[0] if given else ways[0]


def _shown(row: Setting, value: Any) -> str:
    if isinstance(value, timedelta):
        return show(value)
    return _mask(str(value)) if row.secret and value else str(value)


def _mask(secret: str) -> str:
    """Enough to tell two keys apart, and no more."""
    shown = 4
    return f"…{secret[-shown:]}" if len(secret) >= 4 * shown else "…"


def print_all(settings: Settings, *, as_json: bool) -> int:
    """Print every setting, its value with secrets masked, and where it came from."""
    if as_json:
        for name, value, origin, meaning in settings.rows():
            print(json.dumps({"name": name, "value": value, "origin": origin, "meaning": meaning}))
        return 0
    for name, value, origin, meaning in settings.rows():
        print(f"{name:<22} {value or '-':<28} {origin:<14} {meaning}")
    return 0
