"""Alerts to Feishu, DingTalk, WeCom, Slack, mail and what else apprise knows: `GUARDRAIL_ALERT_URLS`.

The addresses are secrets. They are read from the environment only, never written anywhere, and nothing that
apprise or a service says of them is passed on: a service is called by its kind, `Feishu` or `Slack 2`.
"""

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

from guardrail.errors import InputError
from guardrail.shipped import install_command
from guardrail.track.alerts import Alert

__all__ = ["URLS_VARIABLE", "NotDelivered", "Service", "alert_services", "deliver", "send_alert"]

URLS_VARIABLE = "GUARDRAIL_ALERT_URLS"
"""Environment variable with apprise addresses, separated by spaces."""

Service = tuple[str, Any]
"""What it is called, and apprise's object that sends to it."""


class NotDelivered(RuntimeError):
    """Services that did not take an alert, by name."""


def alert_services() -> list[Service]:
    """Return the services the environment names, none where it names none.

    Raises:
        InputError: apprise is missing, or it does not know an address; the address is not repeated.
    """
    addresses = os.environ.get(URLS_VARIABLE, "").split()
    if not addresses:
        return []
    try:
        from apprise import Apprise
    except ImportError as error:
        raise InputError(
            f"{URLS_VARIABLE} is set, and apprise, which sends the alerts, is not installed; run "
            f"{install_command('watch')}, or unset it"
        ) from error
    services: list[Service] = []
    seen: Counter[str] = Counter()
    for number, address in enumerate(addresses, start=1):
        with _no_word_of_addresses():
            found = Apprise.instantiate(address, suppress_exceptions=True)
        if not found:
            raise InputError(
                f"address {number} of {len(addresses)} in {URLS_VARIABLE} is none that apprise knows; it must "
                "read like feishu://TOKEN, dingtalk://TOKEN, wecombot://KEY or slack://... (see `apprise --help`)"
            )
        kind = str(found.service_name)
        seen[kind] += 1
        services.append((kind if seen[kind] == 1 else f"{kind} {seen[kind]}", found))
    return services


def deliver(services: list[Service], alert: Alert) -> dict[str, bool]:
    """Send an alert to every service; return which of them took it. Each has a few seconds."""
    taken = {}
    for name, service in services:
        with _no_word_of_addresses():
            try:
                sent = service.notify(
                    title=alert.title, body=alert.text, notify_type=alert.severity
                )
            except Exception:  # whatever it says may hold the address
                sent = False
        taken[name] = bool(sent)
    return taken


def send_alert(services: list[Service], alert: Alert) -> None:
    """Send an alert to every service.

    Raises:
        NotDelivered: some did not take it.
    """
    refused = [name for name, taken in deliver(services, alert).items() if not taken]
    if refused:
        raise NotDelivered(f"{', '.join(refused)} did not take an alert")


@contextlib.contextmanager
def _no_word_of_addresses() -> Iterator[None]:
    """Keep apprise and its HTTP client from logging: their lines can hold addresses."""
    loggers = [logging.getLogger(name) for name in ("apprise", "urllib3.connectionpool")]
    before = [one.disabled for one in loggers]
    for one in loggers:
        one.disabled = True
    try:
        yield
    finally:
        for one, was in zip(loggers, before, strict=True):
            one.disabled = was
