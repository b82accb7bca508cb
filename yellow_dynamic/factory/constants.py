"""Names and marks that all DAG files share."""

from __future__ import annotations

# The container of a job's pod that runs the job; there may be others.
JOB_CONTAINER = "base"
# The volumes that the pod itself needs: of the model, and of a transformer's code.
MODEL_VOLUME, WORKING_VOLUME = "git-model-cache", "datatransformer"
# Jobs look for a newer image each time, unless a platform says otherwise.
PULL_ALWAYS = "Always"
# Begins the line of a DAG's page that programs read, and nobody sees: see `metadata_comment`.
METADATA_START = "[yellow_dynamic]: # '"
# A program that needs only the functions of a factory file imports it under this name.
UNREGISTERED = "yellow_dynamic_unregistered"
