"""What a Yellow platform needs for Kafka: its Connect cluster, and connectors in Terraform."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from datasurface.md import DataContainer, HostPortPair, PostgresDatabase
from datasurface.md.keys import LocationKey

_SINK_CLASS: Final = "io.confluent.connect.jdbc.JdbcSinkConnector"
_HEADER: Final = """\
terraform {
  required_providers {
    kafka-connect = {
      source = "Mongey/kafka-connect"
    }
  }
}

provider "kafka-connect" {
  url = %s
}

variable "merge_store_user" {
  type      = string
  sensitive = true
}

variable "merge_store_password" {
  type      = string
  sensitive = true
}
"""


class KafkaConnectCluster(DataContainer):
    """A Kafka Connect cluster, which copies topics into tables.

    Args:
        name: The cluster's name.
        locs: Where it runs.
        restAPI: Host and port of its REST interface.
        bootstrapServers: The Kafka brokers it reads from, as `host:port`.
    """

    def __init__(
        self, name: str, locs: set[LocationKey], restAPI: HostPortPair, bootstrapServers: str
    ) -> None:
        super().__init__(name, locs)
        self.restAPI = restAPI
        self.bootstrapServers = bootstrapServers

    def restAPIUrl(self) -> str:
        """Return the address of the REST interface."""
        return f"http://{self.restAPI.hostName}:{self.restAPI.port}"

    def to_json(self) -> dict[str, Any]:
        """Describe the cluster."""
        return super().to_json() | {
            "restAPI": self.restAPIUrl(),
            "bootstrapServers": self.bootstrapServers,
        }


@dataclass(frozen=True)
class SinkConnector:
    """A connector which copies one topic into one staging table."""

    #: The connector's name, also that of its Terraform resource: letters, digits, `-` and `_`.
    name: str
    #: The topic to read.
    topic: str
    #: The table, in the merge store, to write.
    table: str


def hclString(value: str) -> str:
    """Return `value` as a quoted HCL string in which nothing is a template or an escape."""
    return json.dumps(value, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")


def renderTerraform(
    cluster: KafkaConnectCluster, mergeStore: PostgresDatabase, connectors: Iterable[SinkConnector]
) -> str:
    """Return Terraform code for the connectors, in their order.

    The merge store's login comes from two Terraform variables; it is never in the text.
    """
    blocks = [_HEADER % hclString(cluster.restAPIUrl())]
    host = mergeStore.hostPortPair
    url = f"jdbc:postgresql://{host.hostName}:{host.port}/{mergeStore.databaseName}"
    blocks.extend(_renderConnector(connector, url) for connector in connectors)
    return "\n".join(blocks)


def _renderConnector(connector: SinkConnector, url: str) -> str:
    config = {
        "connector.class": _SINK_CLASS,
        "connection.url": url,
        "insert.mode": "insert",
        "name": connector.name,
        "table.name.format": connector.table,
        "tasks.max": "1",
        "topics": connector.topic,
    }
    lines = [f"    {hclString(key)} = {hclString(value)}" for key, value in config.items()]
    return "\n".join(
        [
            f'resource "kafka-connect_connector" {hclString(connector.name)} {{',
            f"  name = {hclString(connector.name)}",
            "",
            "  config = {",
            *lines,
            "  }",
            "",
            "  config_sensitive = {",
            '    "connection.user"     = var.merge_store_user',
            '    "connection.password" = var.merge_store_password',
            "  }",
            "}",
            "",
        ]
    )
