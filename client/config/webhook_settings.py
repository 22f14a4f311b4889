"""The settings of webhooks, and what they make: whom changes of state are told through, and which."""

from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from lifecycle.errors import ConfigError
from lifecycle.outbox import NOTIFIABLE_STATES
from lifecycle.ports.clock import Clock
from lifecycle.states import State

if TYPE_CHECKING:
    from lifecycle.record.notifications import NotificationPolicy

SHORTEST_KEY: Final = 16  # characters


class Read(Protocol):
    """The settings, as far as they matter here."""

    def __getitem__(self, name: str) -> Any:
        """The value of the setting *name*."""


def read_url(value: str) -> str:
    """An address that can be posted to.

    Raises:
        ValueError: It is none; the address itself, which may hold a secret, is not said.
    """
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise ValueError("has a blank or a strange character in it")
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("is no http or https address")
    if parts.username is not None or parts.password is not None:
        raise ValueError("has a user or a password in it: what is sent is signed with WEBHOOK_KEY instead")
    _ = parts.port  # raises if it is none
    return value


def read_key(value: str) -> str:
    """A key that can sign.

    Raises:
        ValueError: It is too short, or starts with `whsec_` and is no base64.
    """
    from adapters.webhook import key_bytes

    if len(key_bytes(value)) < SHORTEST_KEY:
        raise ValueError(f"must have {SHORTEST_KEY} characters or more, like those that `openssl rand -hex 32` prints")
    return value


def read_states(value: str) -> str:
    """States with commas between them, in the order of the table.

    Raises:
        ValueError: One is none.
    """
    asked = {name.strip() for name in value.split(",") if name.strip()}
    if not asked or not asked <= set(NOTIFIABLE_STATES):
        raise ValueError(f"is no list of states, with commas between; they are {', '.join(NOTIFIABLE_STATES)}")
    return ",".join(state for state in NOTIFIABLE_STATES if state in asked)


def check(settings: Read) -> None:
    """Whether they go together.

    Raises:
        ConfigError: An address without a key.
    """
    if settings["WEBHOOK_URL"] and not settings["WEBHOOK_KEY"]:
        raise ConfigError("WEBHOOK_URL is set, so WEBHOOK_KEY must be set too: it signs what is sent there")


def notification_policy(settings: Read, clock: Clock) -> "NotificationPolicy | None":
    """Whom changes of state are told through; None if WEBHOOK_URL is not set."""
    if not settings["WEBHOOK_URL"]:
        return None
    from adapters.webhook import RetryingNotifier, Webhook
    from lifecycle.record.notifications import DEFAULT_NOTIFIED_STATES, NotificationPolicy

    keys = [settings[name] for name in ("WEBHOOK_KEY", "WEBHOOK_KEY_PREVIOUS") if settings[name]]
    webhook = Webhook(settings["WEBHOOK_URL"], keys=keys, clock=clock)
    wanted = settings["WEBHOOK_STATES"]
    states = frozenset(State(name) for name in wanted.split(",")) if wanted else DEFAULT_NOTIFIED_STATES
    return NotificationPolicy(RetryingNotifier(webhook, clock), states)
