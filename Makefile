# What a person and CI run. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/podsonar
TARGET := $(or $(CARGO_TARGET_DIR),target)
DENY_VERSION := 0.20.2
DENY := $(CACHE)/cargo-deny-$(DENY_VERSION)/bin/cargo-deny
CARGO := cargo --locked
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
STATIC := $(TARGET)/static/$(HOST)/release/podsonar
NEXT := $(TARGET)/next/$(HOST)/debug/podsonar
AGENTS := $(TARGET)/agents
PORT ?= 19988
FUZZ_SECONDS ?= 10
# Tests run, and benchmarks measure, the binary that images have.
AGENT := PODSONAR_BIN=$(abspath $(STATIC))
BENCH := $(AGENT) $(CARGO) run --quiet --release --package podsonar-lab --bin podsonar-bench --

include release.mk

DASHBOARDS := tests/tools/dashboards.sh

# Warnings are errors wherever this Makefile compiles; the tests find the agent that was built with them.
export RUSTDOCFLAGS := -D warnings

.PHONY: help run test packages servers kubernetes helm images agents static next cluster e2e e2e-agents e2e-others fmt clippy doc purity deny advisories unit sim fuzz promtool dashboards dashboards-write pictures scraping chart chart-cluster \
  bench bench-api bench-accuracy bench-cost bench-dns bench-loss bench-names bench-node bench-peers bench-reload bench-rules bench-scrape bench-spacing soak clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-16s %s\n", $$1, $$2}'

run: packages ## A mesh of three nodes in namespaces, agents and real pods on them, to look at and to break (Ctrl-C ends it)
	@tests/tools/servers.sh >/dev/null
	$(CARGO) build --quiet --release --package podsonar --package podsonar-lab --bins
	@$(TARGET)/release/podsonar-lab mesh --port $(PORT)

test: packages servers fmt clippy doc purity deny versions manifest workflows sbom unit promtool dashboards chart scraping image-static fuzz ## Every check that needs no cluster

packages: ## Install the Debian packages that the lab uses, if any is missing
	@missing=$$(grep -v '^#' tests/packages.txt | xargs -n1 sh -c 'dpkg-query -W -f "\$${Status}" "$$0" 2>/dev/null | grep -q "ok installed" || echo "$$0"'); \
	if [ -n "$$missing" ]; then apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing; fi

servers: ## Make the lab's real servers available, in a cache: Prometheus 3 takes minutes, once
	@tests/tools/servers.sh >/dev/null
	@tests/tools/prometheus.sh >/dev/null

kubernetes: ## Make the parts of a real cluster available, in a cache: minutes, once
	@tests/tools/kubernetes.sh >/dev/null
	@tests/tools/etcd.sh >/dev/null

helm: ## Make Helm 3 and 4 and what charts are checked with available, in a cache: minutes, once
	@tests/tools/chart.sh >/dev/null

fmt: ## The formatting is rustfmt's
	cargo fmt --all --check

clippy: ## No warning in any crate; tests that `cargo test` leaves out are named
	$(CARGO) clippy --quiet --workspace --all-targets -- -D warnings
	$(CARGO) clippy --quiet --package podsonar-lab --test discovery --test cluster --test e2e --test chart --test scraping -- -D warnings

doc: ## Documentation without warnings
	$(CARGO) doc --quiet --workspace --no-deps

purity: ## The core depends on nothing that touches the world
	.ci/purity

deny: $(DENY) ## Licences, bans and sources of all dependencies
	$(DENY) --log-level error check licenses bans sources

advisories: $(DENY) ## Known vulnerabilities (needs the advisory database from the internet)
	$(DENY) check advisories

$(DENY):
	cargo install --quiet --locked --debug cargo-deny --version $(DENY_VERSION) --root $(CACHE)/cargo-deny-$(DENY_VERSION)

static: # The agent without libraries, by the Dockerfile's own flags
	RUSTFLAGS="-C target-feature=+crt-static -C strip=symbols" $(CARGO) build --quiet --release --package podsonar --target $(HOST) --target-dir $(TARGET)/static

images: kubernetes servers # The images that the cluster runs beside the agent
	@tests/tools/images.sh >/dev/null

agents: static next # The Dockerfile's image around this agent and the next, as archives that clusters import
	@tests/tools/agents.sh $(AGENTS) $(STATIC) $(NEXT)

cluster: packages images agents ## A Kubernetes cluster of real parts with an agent on each node, for a person (Ctrl-C ends it)
	$(CARGO) build --quiet --package podsonar-lab --bins
	@$(TARGET)/debug/podsonar-lab cluster --agents $(AGENTS)/podsonar.tar

next: # An agent with the next versions of what agents share, quickly built
	RUSTFLAGS="-C target-feature=+crt-static --cfg podsonar_next" CARGO_PROFILE_DEV_DEBUG=none CARGO_PROFILE_DEV_STRIP=symbols \
	  $(CARGO) build --quiet --package podsonar --target $(HOST) --target-dir $(TARGET)/next

E2E := PODSONAR_IMAGE=$(abspath $(AGENTS))/podsonar.tar PODSONAR_NEXT_IMAGE=$(abspath $(AGENTS))/next.tar $(CARGO) test --quiet --package podsonar-lab

# First alone what looks at the whole machine. Clusters mostly wait: with two at once two cores were idle for 60 % of the time.
e2e: packages images agents helm ## The agent in a real cluster: discovery, faults, updates, times, the chart's life (needs root, 11 minutes)
	$(E2E) --test cluster
	$(E2E) --no-run --test discovery --test e2e --test chart
	$(MAKE) --jobs=2 --output-sync=target --no-print-directory e2e-agents e2e-others

# Parts of e2e, which makes what they need.
e2e-agents:
	$(E2E) --test e2e

e2e-others:
	$(E2E) --test discovery
	$(E2E) --test chart

# They wait for time to pass far more than they compute: four at once leave two cores idle for 79 % of the time.
unit: static servers ## All tests of all crates, real packets included (needs root)
	RUST_TEST_THREADS=4 $(AGENT) $(CARGO) test --quiet --workspace

sim: ## Who probes whom at 3 to 5,000 nodes, as a table, with the bars that it must hold
	$(CARGO) test --quiet --release --package podsonar-core --test selection simulation:: -- --nocapture

promtool: servers ## The golden scrape, rules and alerts by Prometheus' own promtool, 2.42 and 3: what fires in which cluster
	tests/tools/promtool.sh check metrics < agent/tests/golden/scrape.txt
	python3 dashboards/rules/tests/run.py $(TARGET)/rules $(CACHE)/servers/bin/promtool $(CACHE)/servers/bin/promtool3

dashboards: ## The dashboards are what their source makes, fit Grafana's published types, and name only the agents' metrics
	$(DASHBOARDS) main check dashboards/grafana agent/tests/golden/scrape.txt

dashboards-write: ## Make the dashboards from dashboards/src
	$(DASHBOARDS) main write dashboards/grafana agent/tests/golden/scrape.txt

pictures: packages servers ## Draw the README's pictures: a mesh that breaks and heals while Prometheus 3 watches (5 minutes, needs root)
	$(CARGO) build --quiet --release --package podsonar --package podsonar-lab --bins
	$(TARGET)/release/podsonar-lab pictures --answers $(TARGET)/pictures.json
	$(DASHBOARDS) draw $(TARGET)/pictures.json docs/pictures

scraping: static packages servers kubernetes helm ## How Prometheus 2 and 3 come to scrape agents: the PodMonitor by prometheus-operator's own generator, the README's job (needs root)
	@tests/tools/scrapeconfig.sh >/dev/null
	$(AGENT) $(CARGO) test --quiet --package podsonar-lab --test scraping

chart-cluster: packages images agents helm ## The chart in a real cluster: installed, upgraded, rolled back, nodes off and on, in each way (5 minutes, needs root)
	$(E2E) --test chart

chart: static helm ## The chart: both Helms, unit tests, refusals, configurations that the agent takes, README
	$(AGENT) .ci/chart

fuzz: ## Fuzz the engine's law and the decoders, FUZZ_SECONDS each
	agent/core/fuzz/run.sh $(FUZZ_SECONDS)

bench: bench-cost bench-accuracy bench-loss bench-spacing bench-scrape bench-reload bench-dns bench-names bench-node bench-peers bench-api ## All benchmarks, whole; they write BENCHMARKS.md

bench-api: static kubernetes ## Bytes from the API server to one agent of a large cluster
	$(BENCH) api --write

bench-accuracy: static ## How far reported round trips are from the wire's
	$(BENCH) accuracy --write

bench-cost: static ## CPU per probe and memory, beside the limit
	$(BENCH) cost --write

bench-loss: static ## Losses reported against losses on the wire
	$(BENCH) loss --write

bench-spacing: static ## How evenly probes leave
	$(BENCH) spacing --write

bench-dns: ## CPU of one question to a name server
	$(CARGO) bench --quiet --package podsonar --bench dns

bench-names: static servers ## CPU of the whole agent for 500 names
	$(BENCH) names --write

bench-scrape: static ## CPU per scrape
	$(BENCH) scrape --write

bench-node: static kubernetes servers ## CPU and memory of an agent with 32 peers and 240 pods
	$(BENCH) node --write

bench-peers: static ## The same targets under podsonar, fping, oping, smokeping_prober and blackbox_exporter
	tests/tools/peers.sh >/dev/null
	$(BENCH) peers --write

bench-rules: servers ## Time of one evaluation of the rules at 500 nodes, in a real Prometheus (12 minutes)
	python3 dashboards/rules/tests/scale.py $(CACHE)/servers/bin/prometheus3

bench-reload: static ## CPU per reload of the configuration
	$(BENCH) reload --write

soak: packages images agents ## What takes minutes to show: verdicts in ten minutes of random loss, how soon dead paths and black holes are found
	$(BENCH) soak --write
	PODSONAR_SOAK=1 $(E2E) --test e2e bars

clean: ## Remove what was built
	cargo clean
