# The image of Airflow: Apache's own image with the driver and the provider that the factory file
# imports, and with yellow_dynamic for short DAG files and for the page Streams of Airflow 3.3.
#
#     docker build --file docker/airflow.Dockerfile --tag registry.example.org/airflow:1 .
#
# For Airflow 2.11: --build-arg AIRFLOW_VERSION=2.11.2. It has no such page.
ARG AIRFLOW_VERSION=3.3.2
ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim AS wheel
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM apache/airflow:${AIRFLOW_VERSION}-python${PYTHON_VERSION}
ARG AIRFLOW_VERSION
ARG KUBERNETES_PROVIDER_VERSION=10.25.0
ARG PSYCOPG2_VERSION=2.9.13
COPY --from=wheel /wheels /wheels
# Airflow's own version is named so that pip never replaces it.
# hadolint ignore=DL3013
RUN wheel="$(find /wheels -name '*.whl')" && pip install --no-cache-dir \
    "apache-airflow==${AIRFLOW_VERSION}" \
    "apache-airflow-providers-cncf-kubernetes==${KUBERNETES_PROVIDER_VERSION}" \
    "psycopg2-binary==${PSYCOPG2_VERSION}" \
    "${wheel}"
# The user `airflow` of Apache's image.
USER 50000
