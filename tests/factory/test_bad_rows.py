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
    for number, (text, _) in enumerate(BAD_TEXTS.values()):
        site.insert(f"BadText{number}", text)
    for number, (changes, _) in enumerate(BAD_CHANGES.values()):
        key = f"BadValue{number}"
        site.insert(key, json.dumps(good_config(site, key) | changes))

    dags = site.parse()

    broken = [dag_id for dag_id, dag in dags.items() if "config-error" in dag.tags]
    assert len(broken) == len(BAD_TEXTS) + len(BAD_CHANGES)
    assert len(dags) - len(broken) == 102
