# The image of the jobs, of bootstrap and of merges: DataSurface's own image with yellow_dynamic.
#
#     docker build --file docker/datasurface.Dockerfile --tag registry.example.org/datasurface:1 .
#
# Name it in the model as datasurfaceDockerImage. DATASURFACE_IMAGE and DATASURFACE_TAG are
# DataSurface's image of the release that you run; `latest` is one that yellow_dynamic may refuse.
ARG DATASURFACE_IMAGE=datasurface/datasurface
ARG DATASURFACE_TAG=0.0.57
ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS wheel
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM ${DATASURFACE_IMAGE}:${DATASURFACE_TAG}
COPY --from=wheel /wheels /wheels
# pip replaces what DataSurface has installed only where a package needs a newer one. The build fails
# if the plugin does not support this DataSurface.
# hadolint ignore=DL3013
RUN wheel="$(find /wheels -name '*.whl')" && \
    pip install --no-cache-dir --upgrade-strategy only-if-needed "${wheel}[cli]" && \
    python -c "import yellow_dynamic.plugin" && yellow-dynamic --version
# DataSurface's own image runs as root. A volume that the jobs write to must let this user's group:
# securityContext.fsGroup of a pod does that. 0 is root.
ARG RUN_AS=10001
ENV HOME=/tmp
USER ${RUN_AS}
