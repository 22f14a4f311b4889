"""The settings of webhooks: what is taken, and how a wrong one is said."""

import pytest

from adapters.local.clock import SystemClock
from client.config.settings import from_environ
from client.config.webhook_setup import notification_policy
from lifecycle.errors import ConfigError
from lifecycle.outbox import NOTIFIABLE_STATES
from lifecycle.record.notifications import DEFAULT_NOTIFIED_STATES
from lifecycle.states import State

URL = "https://hooks.example.com/services/T0/a-secret-of-its-own"
KEY = "a-key-that-is-long-enough"


def test_without_an_address_nobody_is_told() -> None:
    """Whatever else is set."""
    assert (
        notification_policy(from_environ({"WEBHOOK_KEY": KEY, "WEBHOOK_STATES": "failed"}, None), SystemClock()) is None
    )


def test_an_address_needs_a_key() -> None:
    """A receiver could not tell what is from us."""
    with pytest.raises(ConfigError, match="WEBHOOK_URL is set, so WEBHOOK_KEY must be set too"):
        from_environ({"WEBHOOK_URL": URL}, None)


def test_usually_nearly_all_states_are_told() -> None:
    """Or those that are asked for, in whatever order."""
    usual = notification_policy(from_environ({"WEBHOOK_URL": URL, "WEBHOOK_KEY": KEY}, None), SystemClock())
    asked = {"WEBHOOK_URL": URL, "WEBHOOK_KEY": KEY, "WEBHOOK_STATES": " failed, completed,"}
    fewer = notification_policy(from_environ(asked, None), SystemClock())
    assert usual
    assert usual.states == DEFAULT_NOTIFIED_STATES
    assert fewer
    assert fewer.states == {State.COMPLETED, State.FAILED}


@pytest.mark.parametrize("wrong", ["done", "completed;failed", "superseded", ",", "COMPLETED"])
def test_a_wrong_state_is_answered_with_the_right_ones(wrong: str) -> None:
    """All of them."""
    with pytest.raises(ConfigError, match=f"the states are {', '.join(NOTIFIABLE_STATES)}"):
        from_environ({"WEBHOOK_STATES": wrong}, None)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("WEBHOOK_URL", "ftp://example.com/secret-path", "is not an http or https URL"),
        ("WEBHOOK_URL", "hooks.example.com/secret-path", "is not an http or https URL"),
        ("WEBHOOK_URL", "https://u:secret-path@example.com/", "contains a user or password"),
        ("WEBHOOK_URL", "https://example.com:99999/secret-path", "Port out of range"),
        ("WEBHOOK_URL", "https://example.com/secret-path x", "contains a space"),
        ("WEBHOOK_KEY", "secret-path", "16 characters or more"),
        ("WEBHOOK_KEY", "whsec_secret-path-of-no-base64", "no base64"),
        ("WEBHOOK_KEY", "whsec_c2hvcnQ=", "16 characters or more"),
        ("WEBHOOK_KEY_PREVIOUS", "secret-path", "16 characters or more"),
    ],
)
def test_a_wrong_value_is_named_and_not_shown(name: str, value: str, reason: str) -> None:
    """Addresses may be secrets as much as keys are."""
    with pytest.raises(ConfigError, match=reason) as raised:
        from_environ({name: value}, None)
    assert name in str(raised.value)
    assert "secret-path" not in str(raised.value)


def test_address_and_keys_are_masked() -> None:
    """In the table that `holdfast settings` prints."""
    settings = from_environ({"WEBHOOK_URL": URL, "WEBHOOK_KEY": KEY, "WEBHOOK_KEY_PREVIOUS": KEY[::-1]}, None)
    shown = str(settings.rows()) + repr(settings)
    assert not [value for value in (URL, KEY, KEY[::-1], "hooks.example.com") if value in shown]
