"""The notification policy that the settings ask for."""

from typing import TYPE_CHECKING

from client.config.settings import Settings
from lifecycle.ports.clock import Clock

if TYPE_CHECKING:
    from lifecycle.record.notifications import NotificationPolicy


def notification_policy(settings: Settings, clock: Clock) -> "NotificationPolicy | None":
    """Return the policy, with a notifier that posts to WEBHOOK_URL; None if that is not set."""
    if not settings.webhook_url:
        return None
    from adapters.webhook import RetryingNotifier, Webhook
    from lifecycle.record.notifications import DEFAULT_NOTIFIED_STATES, NotificationPolicy

    keys = [key for key in (settings.webhook_key, settings.webhook_key_previous) if key]
    webhook = Webhook(settings.webhook_url, keys=keys, clock=clock, certificates=settings.host.ca_bundle)
    return NotificationPolicy(
        RetryingNotifier(webhook, clock), frozenset(settings.webhook_states) or DEFAULT_NOTIFIED_STATES
    )
