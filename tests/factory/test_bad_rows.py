"""One bad row costs one stream, as the table and the factory file have it.

tests/units/test_bad_rows.py has what each bad row becomes.
"""

from __future__ import annotations

import json

from bad_rows import BAD_CHANGES, BAD_TEXTS, good_config
from conftest import Site
from yellow_models import Store


def test_a_hundred_good_rows_load_beside_every_bad_one(site: Site) -> None:
    site.model.stores = [Store("Good1"), Store("Good2")]
    site.bootstrap()
    site.merge_cleanly()
    for number in range(100):
        site.insert(f"Row{number}", json.dumps(good_config(site, f"Row{number}")))
    reasons = {}
    for number, (text, reason) in enumerate(BAD_TEXTS.values()):
        site.insert(f"BadText{number}", text)
        reasons[f"yellowlive__BadText{number}_ingestion"] = reason
    for number, (changes, reason) in enumerate(BAD_CHANGES.values()):
        key = f"BadValue{number}"
        site.insert(key, json.dumps(good_config(site, key) | changes))
        reasons[f"yellowlive__{key}_ingestion"] = reason

    dags = site.parse()

    broken = {dag_id: dag for dag_id, dag in dags.items() if "config-error" in dag.tags}
    assert broken.keys() == reasons.keys()
    assert [dag_id for dag_id, dag in broken.items() if reasons[dag_id] not in dag.doc_md] == []
    assert len(dags) - len(broken) == 102
