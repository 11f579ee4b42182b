# podsonar's image: one static program and nothing else. No shell, no library, no file to be updated beside it.
#
#   docker build --tag podsonar .       or  podman build --tag podsonar .
#   make image                          without a registry: by this machine's own compiler
#
# It is made for linux/amd64 and linux/arm64, each natively: .github/workflows/release.yml builds both.

# The version of the agent; `make release-check` holds it against Cargo.toml and the chart.
ARG VERSION=0.1.0
# Anything with Rust and a C compiler. The toolchain is the one that rust-toolchain.toml names.
ARG BUILDER=docker.io/library/rust:1.95.0-bookworm

FROM ${BUILDER} AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
COPY agent agent
COPY tests/Cargo.toml tests/
COPY tests/src tests/src
COPY tests/bench tests/bench
# Where crates are there already, true keeps cargo off the network.
ARG CARGO_NET_OFFLINE=false
ARG TARGETARCH
# Linked statically, and built for a named target, since only so the flag does not reach build scripts. What was compiled
# stays in a cache of the builder, so that the next build compiles only what has changed.
RUN --mount=type=cache,id=podsonar-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=podsonar-target-${TARGETARCH},target=/target \
    case "$TARGETARCH" in \
      amd64) target=x86_64-unknown-linux-gnu ;; \
      arm64) target=aarch64-unknown-linux-gnu ;; \
      *) echo "podsonar is built for amd64 and arm64, not for $TARGETARCH" >&2; exit 1 ;; \
    esac; \
    RUSTFLAGS="-C target-feature=+crt-static -C strip=symbols" \
      cargo build --locked --release --package podsonar --target $target --target-dir /target && \
    cp /target/$target/release/podsonar /podsonar

FROM scratch
ARG VERSION
# Source, revision and time of making are added by the workflow that publishes the image.
LABEL org.opencontainers.image.title="podsonar" \
      org.opencontainers.image.description="Pod-network prober for Kubernetes: truthful latency and loss, on /metrics." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /podsonar /podsonar
# So that `kubectl exec … -- podsonar status` finds it.
ENV PATH=/
# Uid 0, as a number so that a kubelet can tell, and on purpose. Raw sockets need the capability NET_RAW. Another uid would not
# get it: Kubernetes has no ambient capabilities, and a file capability (setcap) is void under no_new_privs, which the chart sets.
# What uid 0 may otherwise do comes from its other capabilities, and those are all dropped: what is left is NET_RAW, in
# a read-only file system with one file. Without NET_RAW any uid serves: podsonar then probes with less, and says so.
USER 0:0
# Metrics, and what agents tell each other.
EXPOSE 19988/tcp 19989/tcp
ENTRYPOINT ["/podsonar"]
CMD ["run"]
