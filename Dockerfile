# One image for both programs:  docker build -t lbspeaker:0.1.0 .        (docs/image.md says all of it)
# For builds that must be repeatable, pin the base:  --build-arg BASE=python:3.13-slim-bookworm@sha256:…
# Any base will do that has Debian's dpkg, Python 3.11 or newer, and its venv: `make image` uses one of its own.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
COPY .ci/constraints.txt pyproject.toml README.md LICENSE ./
COPY lbspeaker ./lbspeaker
# The secrets are for those whose package index is not the usual one; nothing of them stays.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.pem,target=/run/secrets/ca.pem \
    python3 -m venv /opt/lbspeaker \
 && /opt/lbspeaker/bin/pip install --no-cache-dir --no-compile --disable-pip-version-check -c constraints.txt . \
 && /opt/lbspeaker/bin/pip uninstall --yes --quiet setuptools pip
# Needless here: clients for each kind of object (of `kubernetes` only its credentials are used), protocols of others
# (of scapy only ARP and NDP), tests. The last lines prove that what is used is still there.
RUN cd /opt/lbspeaker/lib/python3*/site-packages \
 && rm -r kubernetes/aio kubernetes/client/api kubernetes/client/models/*_*.py scapy/contrib \
        lbspeaker-*.dist-info/direct_url.json \
 && find . -type d -name tests -prune -exec rm -r {} + \
 && rm /opt/lbspeaker/bin/[Aa]ctivate* \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/lbspeaker/lib \
 && /opt/lbspeaker/bin/lbspeaker --version \
 && /opt/lbspeaker/bin/python -c "from kubernetes.config import exec_provider, incluster_config, kube_config" \
 && /opt/lbspeaker/bin/python -c "from lbspeaker.wire import arp, ndp; arp.template(), ndp.probe_template()"

# What only installs, logs in, or runs as somebody else goes (that needs perl), and libc's character sets. The list
# of packages stays true, for scanners.
FROM ${BASE} AS root
COPY --from=build /opt/lbspeaker /opt/lbspeaker
RUN library=$(python3 -c 'import os; print(os.path.dirname(os.__file__))') \
 && python3 -m compileall -q -j 0 -x '/(test|tests|site-packages)/' "$library" \
 && purge="dpkg --purge --force-depends --force-remove-essential" \
 && $purge apt e2fsprogs libapt-pkg6.0 login mount passwd util-linux util-linux-extra \
        python3-distutils python3-lib2to3 python3-pip-whl python3-setuptools-whl python3-venv python3.11-venv \
 && $purge bash debconf perl-base tar \
 && find / -xdev -perm /6000 -type f -exec chmod ug-s {} + \
 && rm -rf /usr/local/lib/python3*/ensurepip /usr/local/lib/python3*/site-packages/* /usr/local/bin/pip* \
        /usr/lib/*/gconv /usr/share/info /usr/share/locale /usr/share/man \
        /var/cache/* /var/lib/apt /var/log/* /tmp/*

# Copied into one layer, so that what was removed is not in the layers below.
FROM scratch
LABEL org.opencontainers.image.title="lbspeaker" \
      org.opencontainers.image.description="LoadBalancer Services for Kubernetes clusters without a cloud" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0 AND GPL-2.0-only"
COPY --from=root / /
ENV PATH=/opt/lbspeaker/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# The controller's user. The speaker runs as root with two capabilities: see config/base/speaker.yaml.
USER 65532:65532
# STOPSIGNAL stays SIGTERM: both programs end in order then, and the speaker hands its IPs over.
# Kubernetes has probes of its own, and ignores this. Without --metrics there is nothing to ask.
HEALTHCHECK --start-period=30s --timeout=5s CMD ["python3", "-ISc", "\
import http.client, sys\n\
words = open('/proc/1/cmdline').read().replace('=', chr(0)).split(chr(0))\n\
at = words.index('--metrics') if '--metrics' in words else sys.exit()\n\
host, _, port = words[at + 1].rpartition(':')\n\
asked = http.client.HTTPConnection(host.strip('[]') or '127.0.0.1', int(port), timeout=4)\n\
asked.request('GET', '/healthz')\n\
sys.exit(asked.getresponse().status != 200)"]
ENTRYPOINT ["lbspeaker"]
