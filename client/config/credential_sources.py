"""Credentials of the queue and the store, from the settings, or from the file or command that the settings name."""

from adapters.aws.clients import AnyCredentials, Credentials
from adapters.aws.credentials import RefreshingCredentials, from_command, from_file
from adapters.aws.error_mapping import S3, SQS, Service
from client.config.key_settings import KeySettings
from client.config.settings import Settings
from lifecycle.ports.clock import Clock


def queue_credentials(settings: Settings, clock: Clock) -> AnyCredentials:
    """Return the credentials for SQS; reads no file and runs no command yet.

    Raises:
        ConfigError: A setting is invalid.
    """
    return _credentials(settings.queue_keys, SQS, clock)


def store_credentials(settings: Settings, clock: Clock) -> AnyCredentials:
    """Return the credentials for the store; reads no file and runs no command yet.

    Raises:
        ConfigError: A setting is invalid.
    """
    return _credentials(settings.store_keys, S3, clock)


def _credentials(keys: KeySettings, service: Service, clock: Clock) -> AnyCredentials:
    file, command = f"{keys.owner}_CREDENTIALS_FILE", f"{keys.owner}_CREDENTIALS_COMMAND"
    if keys.file:
        return RefreshingCredentials(from_file(keys.file, file), service=service, origin=file, clock=clock)
    if keys.command:
        return RefreshingCredentials(from_command(keys.command, command), service=service, origin=command, clock=clock)
    return Credentials(key_id=keys.key_id, secret=keys.secret, token=keys.token or None)
