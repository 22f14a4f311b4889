"""Webhook settings: parsing, defaults and error messages."""

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


def test_without_a_url_webhooks_are_off() -> None:
    """Without WEBHOOK_URL there are no webhooks, even if other settings are given."""
    assert (
        notification_policy(from_environ({"WEBHOOK_KEY": KEY, "WEBHOOK_STATES": "failed"}, None), SystemClock()) is None
    )


def test_a_url_needs_a_key() -> None:
    """WEBHOOK_URL requires WEBHOOK_KEY, so that receivers can verify the sender."""
    with pytest.raises(ConfigError, match="WEBHOOK_URL is set, so WEBHOOK_KEY must be set too"):
        from_environ({"WEBHOOK_URL": URL}, None)


def test_the_default_states_can_be_replaced() -> None:
    """The default states are reported, or those in WEBHOOK_STATES, in any order."""
    usual = notification_policy(from_environ({"WEBHOOK_URL": URL, "WEBHOOK_KEY": KEY}, None), SystemClock())
    asked = {"WEBHOOK_URL": URL, "WEBHOOK_KEY": KEY, "WEBHOOK_STATES": " failed, completed,"}
    fewer = notification_policy(from_environ(asked, None), SystemClock())
    assert usual
    assert usual.states == DEFAULT_NOTIFIED_STATES
    assert fewer
    assert fewer.states == {State.COMPLETED, State.FAILED}


@pytest.mark.parametrize("wrong", ["done", "completed;failed", "superseded", ",", "COMPLETED"])
def test_an_invalid_state_is_refused_with_the_valid_ones(wrong: str) -> None:
    """An error about WEBHOOK_STATES lists all valid states."""
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
def test_an_invalid_value_is_named_and_not_shown(name: str, value: str, reason: str) -> None:
    """An error names the setting and not its value, since URLs may be secret too."""
    with pytest.raises(ConfigError, match=reason) as raised:
        from_environ({name: value}, None)
    assert name in str(raised.value)
    assert "secret-path" not in str(raised.value)


def test_url_and_keys_are_masked() -> None:
    """URL and keys are masked in the table of settings and in reprs."""
    settings = from_environ({"WEBHOOK_URL": URL, "WEBHOOK_KEY": KEY, "WEBHOOK_KEY_PREVIOUS": KEY[::-1]}, None)
    shown = str(settings.rows()) + repr(settings)
    assert not [value for value in (URL, KEY, KEY[::-1], "hooks.example.com") if value in shown]
