# One image for both programs:  docker build -t lbspeaker:0.1.0 .
# For builds that must be repeatable, pin the base in both places: python:3.13-slim-bookworm@sha256:…
FROM python:3.13-slim-bookworm AS build

WORKDIR /src
COPY .ci/constraints.txt pyproject.toml README.md LICENSE ./
COPY lbspeaker ./lbspeaker
RUN python -m venv /opt/lbspeaker \
 && /opt/lbspeaker/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt . \
 && /opt/lbspeaker/bin/pip uninstall --yes --quiet pip \
 && /opt/lbspeaker/bin/lbspeaker --version

FROM python:3.13-slim-bookworm

LABEL org.opencontainers.image.title="lbspeaker" \
      org.opencontainers.image.description="LoadBalancer Services for Kubernetes clusters without a cloud" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"

# The base image comes without the compiled standard library, and a read-only root file system cannot keep one.
RUN python -m compileall -q -x '/(test|tests|site-packages)/' "$(python -c 'import os; print(os.path.dirname(os.__file__))')"
COPY --from=build /opt/lbspeaker /opt/lbspeaker
ENV PATH=/opt/lbspeaker/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# The controller's user. The speaker runs as root with one capability: see config/base/speaker.yaml.
USER 65532:65532
ENTRYPOINT ["lbspeaker"]
