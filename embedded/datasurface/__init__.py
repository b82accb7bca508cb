"""A small stand-in for DataSurface: its model classes, and its Yellow platform.

It takes models written for DataSurface 0.0.35 to 0.0.38 (up to 29 July 2025), and does for them
what one machine needs: lint, both rings of the bootstrap, the merge, and the ingestion job of SQL
snapshots in PostgreSQL.

It does not cover, and says so where a model or a command asks for it:

- transformers: a model may describe them, but no DAG and no job runs them;
- ingestion of Kafka topics by the job, and of sources other than PostgreSQL;
- merge stores other than PostgreSQL, and data containers outside of the platform;
- data types and ingestions whose classes derive from `NotCoveredByEmbedded`;
- DataSurface 0.0.39 and later, whose platforms hang on their services provider.

It is no replacement for DataSurface, and is never installed beside it.
"""
