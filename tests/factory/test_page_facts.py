"""What the page about a DAG says for programs: whole, and seen by nobody who reads the page."""

from __future__ import annotations

import json

from bad_rows import BAD_CHANGES, good_config
from conftest import Site
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from yellow_models import Store

from yellow_dynamic.factory.dag import metadata_comment
from yellow_dynamic.factory.rules import compute_revision
from yellow_dynamic.monitoring.in_airflow import Facts, parse_facts

TEXTS = st.text() | st.sampled_from(["it's", "\\'", "]: # '{}'", '"', "*/", "\n\n[yellow_dynamic]"])


@given(key=TEXTS, text=st.none() | TEXTS, problem=st.none() | TEXTS)
def test_any_key_and_problem_is_read_as_it_was_written(
    key: str, text: str | None, problem: str | None
) -> None:
    line = metadata_comment(key, compute_revision(text), problem=problem)

    assert len(line.splitlines()) == 1
    assert parse_facts(f"### A page\n\n{line}\n") == Facts(key, compute_revision(text), problem)


def test_pages_show_no_word_of_it(site: Site) -> None:
    site.model.stores = [Store("Good1")]
    site.bootstrap()
    site.merge_cleanly()
    for number, (changes, _) in enumerate(BAD_CHANGES.values()):
        key = f"Bad's {number}"
        site.insert(key, json.dumps({**good_config(site, key), **changes}))

    pages = [dag.doc_md for dag in site.parse().values()]

    assert len(pages) == 1 + len(BAD_CHANGES)
    for page in pages:
        *seen, line = page.rstrip("\n").split("\n")
        shown = MarkdownIt("commonmark").render(page)
        assert line.startswith("[yellow_dynamic]: # '{")
        assert shown == MarkdownIt("commonmark").render("\n".join(seen))
        assert parse_facts(page).problem is None or "has no ingestion DAG" in shown
