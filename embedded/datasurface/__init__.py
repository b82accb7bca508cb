"""A small stand-in for DataSurface: its model classes, and its Yellow platform.

It takes models written for DataSurface 0.0.36 to 0.0.38, and does for them what one machine needs:
lint, both rings of the bootstrap, the merge, and the ingestion job for snapshots of PostgreSQL
databases, with transformers and the views that they read.

It does not cover the following. Models may name all that lint refuses, so that they load:

- Static DAGs for transformers: their jobs are there, and YellowDynamicDataPlatform runs them.
- Sources and merge stores other than PostgreSQL: lint refuses them.
- Ingestion by change capture or by deltas, storage and classification policies, and the types
  Variant and Binary: lint refuses them.
- Kafka: streams are rendered, with their Terraform code, but the ingestion job refuses them.
- DataSurface's class names beyond those that models of these releases commonly use, and anything
  of later releases, whose platforms depend on their services provider.

It replaces no DataSurface that runs anything but a try on one machine, and must not be installed
beside the real one.
"""
