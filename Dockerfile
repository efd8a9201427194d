# syntax=docker/dockerfile:1
# Targets: runtime (all services), probe, dev (source beside its tools, for live updates).
# The same file builds where the two bases can be pulled and, in tests, on stand-ins made of Debian's packages
# (tests/support/images): keep to what both BuildKit and buildah 1.28 understand.
ARG PYTHON_BASE=docker.io/library/python:3.13-slim-trixie
ARG RUNTIME_BASE=gcr.io/distroless/python3-debian13:nonroot

FROM ${RUNTIME_BASE} AS base

# Built on the processor that builds, for the one that is asked for: emulated, numpy alone would take hours.
FROM --platform=$BUILDPLATFORM ${PYTHON_BASE} AS tools
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
RUN python3 -m venv /tools
ENV PATH=/tools/bin:$PATH
WORKDIR /src
ARG TARGETARCH
RUN dpkg --add-architecture ${TARGETARCH} && apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends clang gcc g++ \
      crossbuild-essential-${TARGETARCH} libpython3.13-dev:${TARGETARCH} libbpf1:${TARGETARCH} \
 && rm -rf /var/lib/apt/lists/*
COPY images/target.py images/
RUN python3 images/target.py ${TARGETARCH}

# The wheel brings a BLAS, Fortran and each loop for five generations of processors: a quarter of the
# image for what nothing here asks for. Of those loops the ones for AVX-512 are left out.
FROM tools AS numpy
COPY requirements/numpy.txt requirements/compile.txt requirements/
ARG NUMPY_OPTIONS="-Dblas=none -Dlapack=none -Dallow-noblas=true -Dcpu-dispatch=max-x86_v4"
RUN pip install -q --no-cache-dir --require-hashes -r requirements/compile.txt \
 && told= && for option in --cross-file=/target/meson.ini ${NUMPY_OPTIONS}; do \
      told="$told --config-settings=setup-args=$option"; done \
 && sed "s|^numpy==[^ ]*|&$told|" requirements/numpy.txt > /numpy.txt \
 && for-target pip wheel -q --no-cache-dir --no-deps --no-build-isolation --require-hashes --no-binary :all: \
      --wheel-dir /wheels -r /numpy.txt

FROM tools AS build
COPY requirements/ requirements/
RUN pip install -q --no-cache-dir --no-compile --require-hashes -r requirements/build.txt -r requirements/node.txt
RUN for-target pip install -q --no-cache-dir --no-compile --no-deps --require-hashes --only-binary :all: \
      --target /app/lib -r requirements/image.txt \
 && for-target pip install -q --no-cache-dir --no-compile --no-deps --require-hashes --only-binary :all: \
      --target /probe/lib -r requirements/probe.txt
COPY --from=numpy /wheels/ /wheels/
RUN for-target pip install -q --no-compile --no-deps --no-index --find-links /wheels --target /app/lib numpy
# Another value does all that follows again: the same must come out (tests/images).
ARG AGAIN=
RUN : ${AGAIN}
COPY protos/ protos/
COPY clients/ clients/
RUN PYTHONPATH=/app/lib python clients/web/build.py && cp -r clients/web/dist /app/web
COPY pyproject.toml ./
COPY services/ services/
RUN python protos/generate.py \
 && for-target pip install -q --no-cache-dir --no-compile --no-deps --no-build-isolation --target /app/lib . \
 && mkdir /probe/bpf && PYTHONPATH=services python -m rallypoint.probe.build /probe/bpf
COPY images/ images/
COPY --from=base / /base/
RUN PYTHONHASHSEED=0 PYTHONNODEBUGRANGES=1 for-target python images/pack.py && rm -r /base

FROM build AS dev
ARG TARGETARCH
RUN test "$(dpkg --print-architecture)" = "${TARGETARCH}" \
 || { echo "dev, which has the compilers beside it, is made for the processor that builds" >&2; exit 1; }
ENV PYTHONPATH=/src/services:/app/lib RALLYPOINT_WEB_ROOT=/app/web RALLYPOINT_DATA_DIR=/tmp/rallypoint
RUN cd /app/lib && find rallypoint -name '*.so' -exec cp --parents '{}' /src/services ';'
USER 65532:65532
ENTRYPOINT ["python3", "/src/images/dev/reload.py"]
CMD ["--help"]

# The base less what nobody reads, with byte code for sources: 23 MB compressed become 13.
FROM scratch AS root
COPY --from=build /root-fs/ /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt

FROM root AS probe
COPY --from=build /probe-fs/ /
COPY --from=build /probe/ /app/
# A pod may give capabilities to root only: the probe starts as root with BPF and PERFMON and nothing else.
ENV PYTHONPATH=/app/lib PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 RALLYPOINT_PROBE_OBJECTS=/app/bpf
WORKDIR /app
USER 0:0
ENTRYPOINT ["/usr/bin/python3.13", "-P", "-m", "rallypoint", "probe"]
ARG VERSION=0.1.0
ARG RUNTIME_BASE
LABEL org.opencontainers.image.title="Rallypoint probe" \
      org.opencontainers.image.description="What sockets wait for, measured in the kernel, per pod" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.base.name="${RUNTIME_BASE}"

FROM root AS runtime
COPY --from=build /app/ /app/
ENV PYTHONPATH=/app/lib PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    RALLYPOINT_WEB_ROOT=/app/web RALLYPOINT_DATA_DIR=/tmp/rallypoint
WORKDIR /app
USER 65532:65532
EXPOSE 8080 8090 9090 9400
ENTRYPOINT ["/usr/bin/python3.13", "-P", "-m", "rallypoint"]
CMD ["--help"]
ARG VERSION=0.1.0
ARG RUNTIME_BASE
LABEL org.opencontainers.image.title="Rallypoint" \
      org.opencontainers.image.description="A multiplayer game backend: every service" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.base.name="${RUNTIME_BASE}"
