# The image: one static binary and the CA bundle, nothing else. `docker build -t pillion .`
#
# `--target prebuilt` makes it of a binary that is built already: the context then holds `pillion` (see .ci/build-static)
# and `ca-certificates.crt`, and no other image is needed.

FROM scratch AS base
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="pillion" \
      org.opencontainers.image.description="A sidecar proxy that carries an application's API tokens" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# Where proxy.toml is expected. Mount the directory, not the file: a changed ConfigMap is then seen.
WORKDIR /etc/pillion
# Numeric, so that runAsNonRoot can be checked.
USER 65532:65532
# The app's listener, and the SRE's.
EXPOSE 8080 9901
ENTRYPOINT ["/pillion"]

FROM base AS prebuilt
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY pillion /pillion

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cp "$(.ci/build-static)" /pillion

FROM base
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /pillion /pillion
