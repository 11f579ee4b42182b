# What a release is made of and checked by; the Makefile includes it.
VERSION := $(shell .ci/version crate)
IMAGE := localhost/podsonar:$(VERSION)
# The base of the Dockerfile's first stage, from a registry. Without one this machine's own compiler builds.
BUILDER ?=
ACTIONLINT_VERSION := 1.7.12
ACTIONLINT := $(CACHE)/actionlint-$(ACTIONLINT_VERSION)/actionlint
CYCLONEDX_VERSION := 0.5.9
CYCLONEDX := $(CACHE)/cargo-cyclonedx-$(CYCLONEDX_VERSION)/bin/cargo-cyclonedx
DIST := dist

.PHONY: image image-test image-static released versions manifest workflows sbom release-check sizing

image: packages ## Build the Dockerfile as localhost/podsonar:VERSION, without a registry (BUILDER=rust:1.95.0-bookworm: from one)
	tests/tools/build.sh $(VERSION) $(if $(BUILDER),--builder $(BUILDER))

image-test: image ## The image under exactly what the chart lets it do, probing over a real link (needs root)
	tests/suite/image.sh $(IMAGE)

image-static: packages static ## The same of the Dockerfile's second stage alone, around the program that `make static` builds as the first does
	tests/tools/build.sh static --program $(STATIC) >/dev/null
	tests/suite/image.sh localhost/podsonar:static

versions: ## Crate, image and chart are of one version; what may not be released is refused
	.ci/version agree
	tests/suite/release.sh

released: # Whether the changelog tells of this version, and the tag $TAG, if set, is it
	.ci/version released

manifest: ## deploy/podsonar.yaml, for kubectl, is what the chart renders by default
	.ci/manifest

workflows: $(ACTIONLINT) ## The workflows of .github, by actionlint
	$(ACTIONLINT) -shellcheck= -pyflakes=

$(ACTIONLINT):
	GOBIN=$(dir $@) go install github.com/rhysd/actionlint/cmd/actionlint@v$(ACTIONLINT_VERSION)

sbom: $(CYCLONEDX) ## What is linked into the agent, as CycloneDX: dist/podsonar.cdx.json
	.ci/sbom $(CYCLONEDX) $(DIST)/podsonar.cdx.json

$(CYCLONEDX):
	cargo install --quiet --locked --debug cargo-cyclonedx --version $(CYCLONEDX_VERSION) --root $(CACHE)/cargo-cyclonedx-$(CYCLONEDX_VERSION)

release-check: released versions manifest workflows deny sbom image-test ## Whether this commit may be released as VERSION: one version, told of in the changelog, licences, SBOM, image

sizing: ## What a cluster of 10 to 5,000 nodes costs, by the settings: series, samples, probes, DNS, exchange, API server (CONFIG=FILE for yours)
	@$(if $(CONFIG),SIZING_CONFIG=$(abspath $(CONFIG))) $(CARGO) test --quiet --release --package podsonar --test agent sizing::the_table -- --nocapture | grep '|'
