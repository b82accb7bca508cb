"""How Airflow notifies users of failed DAG runs: the platform's argument `onFailure`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

#: What Airflow accepts as the id of a connection.
CONNECTION_ID = re.compile(r"[\w#!()\-.:/\\]{1,250}", re.ASCII)
MAIL_ADDRESS = re.compile(r"[^\s@,;<>\"]+@[^\s@,;<>\"]+")


@dataclass(frozen=True)
class SlackWebhook:
    """Notify a Slack channel of each failed DAG run; an `onFailure` of the platform.

    Args:
        connectionId: id of the Airflow connection of type Slack Incoming Webhook. Airflow's image
            needs apache-airflow-providers-slack.
    """

    connectionId: str

    @property
    def settings(self) -> dict[str, Any]:
        """What the factory file needs to send it."""
        return {"on_failure_slack_connection": self.connectionId}

    def validate(self) -> Iterator[str]:
        """Yield the problems of the arguments."""
        yield from validate_connection_id(self.connectionId)


@dataclass(frozen=True)
class EMail:
    """Send an email for each failed DAG run; an `onFailure` of the platform.

    Args:
        to: the addresses.
        connectionId: id of the Airflow connection of type SMTP, which also has the sender.
    """

    to: str | Sequence[str]
    connectionId: str = "smtp_default"

    @property
    def addresses(self) -> list[Any]:
        return list(self.to) if isinstance(self.to, (list, tuple)) else [self.to]

    @property
    def settings(self) -> dict[str, Any]:
        """What the factory file needs to send it."""
        return {
            "on_failure_mail_connection": self.connectionId,
            "on_failure_mail_to": ",".join(self.addresses),
        }

    def validate(self) -> Iterator[str]:
        """Yield the problems of the arguments."""
        yield from validate_connection_id(self.connectionId)
        for address in self.addresses or [None]:
            if not (isinstance(address, str) and MAIL_ADDRESS.fullmatch(address)):
                yield f"it has {address!a:.100}, which is no mail address"


def validate_connection_id(connection_id: str) -> Iterator[str]:
    """Yield the problem of an id that Airflow refuses."""
    if not (isinstance(connection_id, str) and CONNECTION_ID.fullmatch(connection_id)):
        yield f"it has {connection_id!a:.100}, which cannot be the id of a connection of Airflow"
