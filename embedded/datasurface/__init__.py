"""A small stand-in for DataSurface: its model classes, and its Yellow platform.

It covers what one-machine runs need: ecosystems with zones, teams, workspaces and vendors;
datastores that SQLSnapshotIngestion reads from PostgreSQL, and those of KafkaIngestion as far as
their DAGs; the Yellow platform with its static DAG files, manifests and a snapshot merge job, live
and forensic; and the two commands of `datasurface.cmd.platform`.

It does not cover other platforms and databases, ingestion of deltas, of captured changes and by
Kafka connectors as they run, data transformers, policies, the types Variant and Binary, access
rights, and the checks of a change of a model against the one before. A model that uses one of these
is told so by its lint, where the class is there at all, or cannot be imported.
"""
