"""Whose keys the queue and the bucket are used with: those in the settings, or those that a file or a command gives."""

from adapters.aws.clients import AnyCredentials, Credentials
from adapters.aws.credentials import RefreshingCredentials, from_command, from_file
from adapters.aws.error_mapping import S3, SQS, Service
from client.config.settings import Settings
from lifecycle.ports.clock import Clock


def queue_keys(settings: Settings, clock: Clock) -> AnyCredentials:
    """For SQS. Nothing is read yet.

    Raises:
        ConfigError: A setting cannot be used.
    """
    return _keys(settings, "AWS", SQS, clock)


def store_keys(settings: Settings, clock: Clock) -> AnyCredentials:
    """For R2. Nothing is read yet.

    Raises:
        ConfigError: A setting cannot be used.
    """
    return _keys(settings, "CLOUDFLARE", S3, clock)


def _keys(settings: Settings, whose: str, service: Service, clock: Clock) -> AnyCredentials:
    file, command = f"{whose}_CREDENTIALS_FILE", f"{whose}_CREDENTIALS_COMMAND"
    if settings[file]:
        return RefreshingCredentials(from_file(settings[file], file), service=service, origin=file, clock=clock)
    if settings[command]:
        return RefreshingCredentials(
            from_command(settings[command], command), service=service, origin=command, clock=clock
        )
    key_id, secret, token = (settings[f"{whose}_{part}"] for part in ("ID", "KEY", "TOKEN"))
    return Credentials(key_id=key_id, secret=secret, token=token or None)
