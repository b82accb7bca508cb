"""Every value and every name arrives in the merge store as it is in the source."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pytest
from job_site import ID, NAME, JobSite
from psycopg2 import sql

pytestmark = pytest.mark.embedded

AWKWARD_TEXTS = [
    None,
    "",
    " ",
    "\\N",
    "\\.",
    "a\tb",
    "a\nb",
    "a\r\nb",
    "back\\slash",
    "quote ' and \"",
    "(1,2)",
    "comma, and null: NULL",
    "%s %(x)s 100%",
    "Zürich 東京 \U0001f695",
]


def test_awkward_texts_arrive_unchanged(site: JobSite) -> None:
    for number, value in enumerate(AWKWARD_TEXTS):
        site.source("INSERT INTO people VALUES (%s, %s)", number, value)
    site.cycle()
    assert site.content() == list(enumerate(AWKWARD_TEXTS))


def test_all_column_types_arrive_unchanged(site: JobSite) -> None:
    types = {
        "flag": ["Boolean"],
        "small": ["SmallInt"],
        "big": ["BigInt"],
        "real": ["Double"],
        "money": ["Decimal", 12, 2],
        "day": ["Date"],
        "moment": ["Timestamp"],
        "span": ["Interval"],
        "code": ["Char", 3],
        "words": ["VarChar", 20],
    }
    columns = [ID, *({"name": name, "type": type_} for name, type_ in types.items())]
    site.write_model(datasets={"typed": columns})
    site.source(
        "CREATE TABLE typed (id int PRIMARY KEY, flag boolean, small smallint, big bigint, "
        "real float8, money numeric(12, 2), day date, moment timestamp, span interval, "
        "code char(3), words varchar(20))"
    )
    row = (
        True,
        -3,
        2**62,
        0.1 + 0.2,
        Decimal("1234567890.12"),
        datetime.date(2013, 1, 31),
        datetime.datetime(2013, 1, 31, 23, 59, 59, 123456),
        datetime.timedelta(days=-3, hours=5),
        "NYC",
        "words",
    )
    site.source("INSERT INTO typed VALUES (1, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)", *row)
    site.source("INSERT INTO typed (id) VALUES (2)")
    site.cycle()
    assert site.content("typed") == [(1, *row), (2, *(None for _ in row))]


def test_settings_of_the_source_change_neither_values_nor_hashes(site: JobSite) -> None:
    types = {"real": ["Double"], "moment": ["Timestamp"], "span": ["Interval"], "day": ["Date"]}
    columns = [ID, *({"name": name, "type": type_} for name, type_ in types.items())]
    site.write_model(datasets={"typed": columns})
    site.source(
        "CREATE TABLE typed (id int PRIMARY KEY, real float8, moment timestamptz, span interval, "
        "day date)"
    )
    span = datetime.timedelta(days=1, hours=2)
    site.source(
        "INSERT INTO typed VALUES (1, %s, '2013-02-01 12:00+02', %s, '2013-02-01')", 0.1 + 0.2, span
    )
    site.cycle()
    for name, value in {
        "extra_float_digits": "0",
        "timezone": "Asia/Tokyo",
        "intervalstyle": "iso_8601",
        "datestyle": "SQL, DMY",
    }.items():
        site.source(
            sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                sql.Identifier(site.spec["source"]), sql.Identifier(name), sql.Literal(value)
            )
        )
    site.cycle()
    assert site.counts() == (0, 0, 0, 1)
    moment, day = datetime.datetime(2013, 2, 1, 10), datetime.date(2013, 2, 1)
    assert site.content("typed") == [(1, 0.1 + 0.2, moment, span, day)]


def test_moving_text_between_columns_or_to_null_counts_as_a_change(site: JobSite) -> None:
    columns = [ID, *({"name": name, "type": ["VarChar", 9]} for name in ("first", "second"))]
    site.write_model(datasets={"pairs": columns})
    site.source("CREATE TABLE pairs (id int PRIMARY KEY, first text, second text)")
    site.source("INSERT INTO pairs VALUES (1, 'ab', 'c'), (2, '', 'x'), (3, 'a,b', 'c')")
    site.cycle()
    site.source("UPDATE pairs SET first = 'a', second = 'bc' WHERE id = 1")
    site.source("UPDATE pairs SET first = NULL WHERE id = 2")
    site.source("UPDATE pairs SET first = 'a', second = 'b,c' WHERE id = 3")
    site.cycle()
    assert site.counts() == (0, 3, 0, 3)
    assert site.content("pairs") == [(1, "a", "bc"), (2, None, "x"), (3, "a", "b,c")]


def test_composite_keys_are_told_apart_whatever_they_contain(site: JobSite) -> None:
    columns = [{"name": name, "type": ["VarChar", 9], "key": True} for name in ("first", "second")]
    site.write_model(datasets={"pairs": columns})
    site.source("CREATE TABLE pairs (first text, second text, PRIMARY KEY (first, second))")
    site.source("INSERT INTO pairs VALUES ('a', 'bc'), ('ab', 'c'), ('a,b', 'c'), ('a', 'b,c')")
    site.cycle()
    assert site.live_equals_source("pairs")
    assert len(site.content("pairs")) == 4


def test_key_with_another_spelling_of_the_same_number_is_merged(site: JobSite) -> None:
    site.write_model(
        datasets={"prices": [{"name": "price", "type": ["Decimal", 9, 2], "key": True}]}
    )
    site.source("CREATE TABLE prices (price numeric PRIMARY KEY)")
    site.source("INSERT INTO prices VALUES (1.0)")
    site.cycle()
    site.source("UPDATE prices SET price = 1.00")
    site.cycle()
    assert site.content("prices") == [(Decimal("1.00"),)]


@pytest.mark.parametrize(
    "table", ["Flights", "order", "two words", "with.dot", 'quo"te', "100%", "Größe"]
)
def test_source_table_may_have_any_name(site: JobSite, table: str) -> None:
    site.source(sql.SQL("ALTER TABLE people RENAME TO {}").format(sql.Identifier(table)))
    site.source(sql.SQL("INSERT INTO {} VALUES (1, 'Ann')").format(sql.Identifier(table)))
    site.write_model(tables={"people": table})
    site.cycle()
    assert site.content() == [(1, "Ann")]


def test_source_table_may_be_in_another_schema(site: JobSite) -> None:
    site.source("CREATE SCHEMA sales")
    site.source("CREATE TABLE sales.people AS SELECT 5 AS id, 'Eve' AS name")
    site.write_model(tables={"people": "sales.people"})
    site.cycle()
    assert site.content() == [(5, "Eve")]


def test_dataset_with_capitals_finds_the_folded_table(site: JobSite) -> None:
    site.source("INSERT INTO people VALUES (1, 'Ann')")
    site.write_model(datasets={"People": [ID, NAME]})
    site.cycle()
    assert site.content("People") == [(1, "Ann")]


def test_table_written_as_in_the_model_wins_over_the_folded_one(site: JobSite) -> None:
    site.source("INSERT INTO people VALUES (1, 'folded')")
    site.source("CREATE TABLE \"People\" AS SELECT 1 AS id, 'literal' AS name")
    site.write_model(datasets={"People": [ID, NAME]})
    site.cycle()
    assert site.content("People") == [(1, "literal")]


def test_column_names_keep_their_case(site: JobSite) -> None:
    columns = [ID, {"name": "FullName", "type": ["VarChar", 20]}]
    site.write_model(datasets={"named": columns})
    site.source('CREATE TABLE named (id int PRIMARY KEY, "FullName" text, fullname text)')
    site.source("INSERT INTO named VALUES (1, 'right', 'wrong')")
    site.cycle()
    assert site.content("named") == [(1, "right")]


def test_views_can_be_ingested(site: JobSite) -> None:
    site.source("INSERT INTO people VALUES (1, 'Ann'), (2, 'Bob')")
    site.source("CREATE VIEW bobs AS SELECT * FROM people WHERE name = 'Bob'")
    site.write_model(tables={"people": "bobs"})
    site.cycle()
    assert site.content() == [(2, "Bob")]


def test_passwords_and_users_may_have_any_characters(site: JobSite) -> None:
    number = site.spec["source"].rpartition("_")[2]
    user, password = f"o'neil @:/ {number}", "@:/%#?'\" \\`&=+ $é"
    site.postgres.create_role(user, password)
    site.source(sql.SQL("GRANT SELECT ON people TO {}").format(sql.Identifier(user)))
    site.source("INSERT INTO people VALUES (1, 'Ann')")
    site.login("source_login", user, password)
    site.cycle()
    assert site.content() == [(1, "Ann")]
    site.source(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(user)))
    site.postgres.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(user)))
