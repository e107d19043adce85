# kops-mirror in an image without a shell: docker build -t kops-mirror .
#
# Both bases are arguments, for who reaches neither registry from where it is built: a copy of them does as well. The two must
# have the same glibc, here Debian 12's.
ARG BUILD_BASE=docker.io/library/rust:1.95-slim-bookworm
ARG RUN_BASE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILD_BASE} AS build
WORKDIR /src
# Names of functions stay, for backtraces; lines go, which are nine tenths of the file.
ENV CARGO_PROFILE_RELEASE_DEBUG=none \
    CARGO_PROFILE_RELEASE_STRIP=debuginfo
COPY Cargo.toml Cargo.lock ./
# Cargo.toml names them, so cargo wants to see them; they are not built.
COPY benches benches
COPY tests tests
COPY config config
COPY src src
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin kops-mirror \
    && install -D -m 755 target/release/kops-mirror /image/usr/local/bin/kops-mirror \
    && install -d /image/empty

FROM ${RUN_BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="kops-mirror" \
      org.opencontainers.image.description="Mirrors Kubernetes and kops releases over slow cross-border links into S3, verified before visible" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY LICENSE /usr/share/doc/kops-mirror/LICENSE
COPY --from=build /image/usr/local/bin/kops-mirror /usr/local/bin/kops-mirror
# What it writes; all else may be read-only: docker run --read-only.
COPY --from=build --chown=65532:65532 /image/empty /var/lib/kops-mirror
COPY --from=build --chown=65532:65532 /image/empty /var/cache/kops-mirror
ENV KOPS_MIRROR_SPOOL_DIR=/var/cache/kops-mirror
VOLUME ["/var/lib/kops-mirror", "/var/cache/kops-mirror"]
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 8430
# SIGTERM drains; it is PID 1 by itself and starts no other processes.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/kops-mirror"]
CMD ["daemon", "--config", "/etc/kops-mirror/mirror.toml", "--listen", "0.0.0.0:8430", "--state", "/var/lib/kops-mirror"]
