"""The pods of the ingestion DAGs, as Kubernetes would check them."""

from __future__ import annotations

import kubernetes_validate
import pytest
from conftest import Site
from deployment_files import KUBERNETES_VERSIONS
from pod_runs import pod_of
from yellow_models import SINGLE, Model, Store

from datasurface.md import Credential
from datasurface.md.credential import CredentialType


# A real DataSurface merges no model with a Kafka store.
@pytest.mark.embedded
@pytest.mark.parametrize("cached", [True, False])
def test_kubernetes_takes_the_pod_of_every_kind_of_stream(site: Site, cached: bool) -> None:
    slack = Credential("slack_token", CredentialType.API_TOKEN)
    site.model = Model(
        stores=[
            Store("Plain"),
            Store("Own_Login", credential="Source_Cred"),
            Store("x" * 120, ["Data_SET"], SINGLE),
            Store("Topic", ["events"], SINGLE, kafka=True),
        ],
        database=site.database,
        platformArguments={"slackCredential": slack, "slackChannel": "#data $(git_TOKEN)"},
        providerArguments={"git_cache_enabled": cached},
    )
    site.bootstrap()
    site.merge_cleanly()

    dags = site.parse()

    assert len(dags) == 4
    for dag in dags.values():
        assert "config-error" not in dag.tags
        for version in KUBERNETES_VERSIONS:
            kubernetes_validate.validate(pod_of(dag), version, strict=True)
