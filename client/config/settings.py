"""Settings, read from the environment first, then from a settings file, otherwise with their defaults.

`Settings` is the one list of them: each attribute is parsed, printed by `holdfast settings` with its origin, and
documented from its declaration. Code uses typed attributes and never sees a setting's name.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from attrs import fields, frozen

from client.config.declaration import Setting, optional_path, secret, setting
from client.config.key_settings import KeySettings
from client.config.parsers import (
    one_of,
    parse_count,
    parse_duration,
    parse_flag,
    parse_path,
    parse_port,
    parse_positive_duration,
    parse_prefix,
    parse_rate,
    parse_signing_key,
    parse_states,
    parse_text,
    parse_url,
    parse_webhook_key,
    parse_webhook_url,
)
from client.config.settings_checks import check_settings, untrusted
from client.config.settings_file import read_settings_file
from client.config.variables import CONFIG, HostVariables, host_variables, process_variables
from lifecycle.durations import show
from lifecycle.errors import ConfigError
from lifecycle.limits import DELIVERY_LIMIT, Limits
from lifecycle.record.signing import Signer
from lifecycle.states import State

FILE: Final = "holdfast.toml"
SYSTEM_FILE: Final = Path("/etc/holdfast") / FILE
"""The settings file of an image, or of all users of a machine; used if the user has none."""
MAX_FAILED_JOBS: Final = 3
"""See `Limits.max_failed_jobs`. With local files there is one machine, so nothing tells a bad node from bad jobs."""


@frozen(kw_only=True, repr=False)
class Settings:
    """All settings, parsed and checked; made by `from_environ`.

    Attributes:
        origins: Where each value came from, by the setting's name: `environment`, a file, or `default`.
        host: Variables of the host that are not settings.
    """

    queue_url: str = setting(
        "QUEUE_URL", parse_url, "", "the SQS queue (unset: everything runs on files in HOLDFAST_HOME)", trusted=True
    )
    aws_id: str = setting("AWS_ID", parse_text, "", "access key id for SQS")
    aws_key: str = secret("AWS_KEY", parse_text, "secret access key for SQS")
    aws_token: str = secret("AWS_TOKEN", parse_text, "session token for SQS, with short-lived keys")
    aws_credentials_file: Path | None = optional_path(
        "AWS_CREDENTIALS_FILE",
        "file with short-lived keys for SQS, read again before they expire; replaces the three above",
    )
    aws_credentials_command: str = secret(
        "AWS_CREDENTIALS_COMMAND", parse_text, "command that prints such keys; replaces the file", trusted=True
    )
    store_url: str = setting(
        "CLOUDFLARE_URL", parse_url, "", "R2 endpoint, or that of another S3-compatible store", trusted=True
    )
    store_region: str = setting("CLOUDFLARE_REGION", parse_text, "auto", "region of the store")
    store_id: str = setting("CLOUDFLARE_ID", parse_text, "", "access key id for the store")
    store_key: str = secret("CLOUDFLARE_KEY", parse_text, "secret access key for the store")
    store_token: str = secret("CLOUDFLARE_TOKEN", parse_text, "session token for the store, with short-lived keys")
    store_credentials_file: Path | None = optional_path(
        "CLOUDFLARE_CREDENTIALS_FILE", "file with short-lived keys for the store, as for SQS"
    )
    store_credentials_command: str = secret(
        "CLOUDFLARE_CREDENTIALS_COMMAND", parse_text, "command that prints such keys", trusted=True
    )
    bucket: str = setting(
        "BUCKET", parse_text, "", "the bucket (a worker may take it from messages of the SaladCloud demo instead)"
    )
    prefix: str = setting("PREFIX", parse_prefix, "", "key prefix of all jobs")
    lease: timedelta = setting(
        "LEASE", parse_positive_duration, "120s", "how long an owner may be silent before another worker takes over"
    )
    heartbeat: timedelta = setting(
        "HEARTBEAT",
        parse_positive_duration,
        "30s",
        "how often an owner renews its lease; at most a quarter of LEASE",
    )
    max_running_time: timedelta = setting(
        "MAX_RUNNING_TIME",
        parse_positive_duration,
        show(DELIVERY_LIMIT),
        "how long an attempt runs before it pauses; at most 11.5h, because of the queue's 12-hour limit",
    )
    state_saving_interval: timedelta = setting(
        "STATE_SAVING_INTERVAL",
        parse_positive_duration,
        "10m",
        "how often state is saved, unless the job or workload sets its own interval",
    )
    stop_grace: timedelta = setting(
        "STOP_GRACE",
        parse_positive_duration,
        "30s",
        "time a workload has to save and exit, and a stopping worker to release its job",
    )
    max_failures: int = setting(
        "MAX_FAILURES",
        parse_count,
        "3",
        "consecutive failures, without getting further, after which a job fails; on one machine after FAIL_PATIENCE",
    )
    fail_patience: timedelta = setting(
        "FAIL_PATIENCE",
        parse_duration,
        "15m",
        "how long a job that failed on one machine waits for another (local files: 0, unless set)",
    )
    misfit_patience: timedelta = setting(
        "MISFIT_PATIENCE", parse_duration, "24h", "how long a job waits for a node whose image can run it"
    )
    max_deaths: int = setting(
        "MAX_DEATHS", parse_count, "10", "consecutive lost attempts, without getting further, after which a job fails"
    )
    idle_exit: timedelta = setting("IDLE_EXIT", parse_duration, "0", "exit after being idle this long (0: never)")
    upload_limit: int = setting(
        "UPLOAD_LIMIT",
        parse_rate,
        "0",
        "maximum upload rate for checkpoints in bytes per second, such as 20M (0: unlimited)",
    )
    node_kind: str = setting(
        "NODE_KIND", parse_text, "", "kind of this machine, such as RTX 4090; reports compare machines by it"
    )
    node_image: str = setting(
        "NODE_IMAGE",
        parse_text,
        "",
        "name of this node's image, for jobs that it cannot run (unset: a digest of the workloads file)",
    )
    log_format: str = setting(
        "LOG_FORMAT",
        one_of("auto", "json", "text"),
        "auto",
        "format of the worker's log: text, json, or auto (text on a terminal, otherwise json)",
    )
    log_level: str = setting(
        "LOG_LEVEL", one_of("debug", "info", "warning", "error"), "info", "lowest level that is logged"
    )
    metrics_port: int = setting("METRICS_PORT", parse_port, "0", "port of a worker's Prometheus metrics (0: disabled)")
    metrics_host: str = setting(
        "METRICS_HOST", parse_text, "127.0.0.1", "address of a worker's metrics; use 0.0.0.0 in a container"
    )
    job_signing_key: str = secret(
        "JOB_SIGNING_KEY",
        parse_signing_key,
        "key that signs messages; workers that have it accept only signed messages",
    )
    job_signing_key_other: str = secret(
        "JOB_SIGNING_KEY_OTHER", parse_signing_key, "second key that is accepted during a key change"
    )
    webhook_url: str = secret(
        "WEBHOOK_URL", parse_webhook_url, "webhook endpoint for state changes (unset: disabled)", trusted=True
    )
    webhook_key: str = secret("WEBHOOK_KEY", parse_webhook_key, "key that signs webhooks")
    webhook_key_previous: str = secret(
        "WEBHOOK_KEY_PREVIOUS", parse_webhook_key, "previous key, which also signs webhooks during a key change"
    )
    webhook_states: tuple[State, ...] = setting(
        "WEBHOOK_STATES",
        parse_states,
        "",
        "states that are reported, such as completed,failed (unset: nearly all)",
        unset=(),
    )
    dashboard_token: str = secret("DASHBOARD_TOKEN", parse_text, "token required to open `holdfast dashboard`")
    holdfast_home: Path = setting("HOLDFAST_HOME", parse_path, ".holdfast", "folder of the local queue and store")
    configured_work_dir: Path | None = optional_path("WORK_DIR", "folder in which jobs run (unset: HOLDFAST_HOME/work)")
    configured_workloads: Path | None = optional_path(
        "WORKLOADS", "workloads file (unset: workloads.toml, if it exists in the current folder)", trusted=True
    )
    allow_http: bool = setting(
        "ALLOW_HTTP",
        parse_flag,
        "no",
        "yes: keys and data may be sent to other hosts over http, which anyone on the way can read",
        trusted=True,
    )
    origins: Mapping[str, str]
    host: HostVariables

    @property
    def is_cloud(self) -> bool:
        """True if SQS and R2 are used, False if local files are."""
        return bool(self.queue_url)

    @property
    def home(self) -> Path:
        """The absolute folder of the local queue and store."""
        return self.holdfast_home.absolute()

    @property
    def work_dir(self) -> Path:
        """The absolute folder in which jobs run; a workload's current folder differs from the worker's."""
        return self.configured_work_dir.absolute() if self.configured_work_dir else self.home / "work"

    @property
    def workloads(self) -> Path | None:
        """The workloads file; None if there is none."""
        if self.configured_workloads:
            return self.configured_workloads
        usual = Path("workloads.toml")
        return usual if usual.exists() else None

    @property
    def queue_keys(self) -> KeySettings:
        """The sources of SQS credentials."""
        return KeySettings(
            owner="AWS",
            key_id=self.aws_id,
            secret=self.aws_key,
            token=self.aws_token,
            file=self.aws_credentials_file,
            command=self.aws_credentials_command,
        )

    @property
    def store_keys(self) -> KeySettings:
        """The sources of the store's credentials."""
        return KeySettings(
            owner="CLOUDFLARE",
            key_id=self.store_id,
            secret=self.store_key,
            token=self.store_token,
            file=self.store_credentials_file,
            command=self.store_credentials_command,
        )

    @property
    def secrets(self) -> list[str]:
        """The values of all secret settings that are set."""
        return [str(value) for declared, value in self._values() if declared.secret and value]

    def signer(self) -> Signer:
        """Return the signer of messages, with the keys that it accepts."""
        return Signer(self.job_signing_key.encode(), self.job_signing_key_other.encode())

    def limits(self) -> Limits:
        """Return a worker's timeouts, intervals and retry limits."""
        return Limits(
            lease=self.lease,
            heartbeat=self.heartbeat,
            max_running_time=self.max_running_time,
            state_saving_interval=self.state_saving_interval,
            stop_grace=self.stop_grace,
            max_failures=self.max_failures,
            fail_patience=self._fail_patience,
            misfit_patience=self.misfit_patience,
            max_failed_jobs=MAX_FAILED_JOBS if self.is_cloud else 0,
            max_lost_attempts=self.max_deaths,
            idle_exit=self.idle_exit,
            upload_limit=self.upload_limit,
            write_gap=timedelta(seconds=1) if self.is_cloud else timedelta(0),
        )

    @property
    def _fail_patience(self) -> timedelta:
        """The wait for another machine; with local files there is none to wait for."""
        is_set = self.origins["FAIL_PATIENCE"] != "default"
        return self.fail_patience if self.is_cloud or is_set else timedelta(0)

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Return name, value as text with secrets masked, origin and meaning of each setting."""
        return [
            (declared.name, declared.show(value), self.origins[declared.name], declared.meaning)
            for declared, value in self._values()
        ]

    def _values(self) -> list[tuple[Setting, Any]]:
        return [(declared, getattr(self, attribute)) for attribute, declared in _DECLARED.items()]

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value}' for name, value, _, _ in self.rows() if value)})"


_DECLARED: Final[Mapping[str, Setting]] = {
    attribute.name: attribute.metadata[Setting] for attribute in fields(Settings) if Setting in attribute.metadata
}
TABLE: Final = tuple(_DECLARED.values())
"""The declarations of all settings, in the order in which they are shown."""
NAMES: Final = tuple(declared.name for declared in TABLE)


def from_environ(environ: Mapping[str, str], file: Path | None, *, own: Path | None = None) -> Settings:
    """Read the settings.

    Args:
        environ: Environment variables; an empty value counts as unset.
        file: A `holdfast.toml` that was found, in the current folder; used if it exists. It may have come with a
            download, so settings that are marked `trusted` are not taken from it. None: there is none.
        own: A settings file that the user chose, which comes after *file*; used if it exists. None: there is none.

    Raises:
        ConfigError: A setting is invalid or missing; the message names it and its origin, in one line.
    """
    file, own_file = (each if each and _exists(each) else None for each in (file, own))
    if file and own_file and file.samefile(own_file):
        file = None
    found = read_settings_file(file, NAMES) if file else {}
    chosen = read_settings_file(own_file, NAMES) if own_file else {}
    values: dict[str, Any] = {}
    origins = {}
    for attribute, declared in _DECLARED.items():
        name, text, origin = declared.name, declared.default, "default"
        if environ.get(name):
            text, origin = environ[name], "environment"
        elif name in found:
            text, origin = found[name], str(file)
            if declared.trusted:
                raise ConfigError(untrusted(name, origin, own))
        elif name in chosen:
            text, origin = chosen[name], str(own)
        values[attribute] = declared.read(text, origin)
        origins[name] = origin
    settings = Settings(**values, origins=origins, host=host_variables(environ))
    check_settings(settings, NAMES)
    return settings


def current_settings(variables: Mapping[str, str] | None = None) -> Settings:
    """Read the settings of this process.

    They come from its environment and from the file that `--config` or HOLDFAST_CONFIG names; otherwise from
    `holdfast.toml` in the current folder and then from the one in the user's own configuration folder or in
    `/etc/holdfast`.

    Args:
        variables: Environment variables; None: those of this process.

    Raises:
        ConfigError: A setting is invalid or missing, or the file that was named does not exist.
    """
    environ = process_variables() if variables is None else variables
    host = host_variables(environ)
    if not host.config:
        usual = host.config_dir / FILE
        return from_environ(
            environ, Path(FILE), own=SYSTEM_FILE if _exists(SYSTEM_FILE) and not _exists(usual) else usual
        )
    chosen = Path(host.config)
    if not _exists(chosen):
        raise ConfigError(f"{CONFIG}={host.config}: there is no such file")
    return from_environ(environ, None, own=chosen)


def _exists(file: Path) -> bool:
    """Return True if *file* exists; False, too, if there can be none of that name."""
    try:
        return file.exists()
    except (OSError, ValueError):
        return False
