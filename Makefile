# The same by hand and in CI, which runs `make lint test`. What is built or
# fetched for these targets goes into .build, at versions pinned here.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

BUILD   := $(CURDIR)/.build
MODULES := . controlplane e2e bench

GOLANGCI_LINT_VERSION := v2.15.0
GOLANGCI_LINT         := $(BUILD)/golangci-lint-$(GOLANGCI_LINT_VERSION)/golangci-lint

# Besides the version that e2e/traefik/go.mod requires.
MATRIX   := v3.4.4 v3.5.3
FUZZTIME := 10s

.PHONY: help
help: ## Show this.
	@awk -F ': .*## ' '/^[a-z0-9-]+:.* ## / { printf "  %-14s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: fmt
fmt: ## Format all Go files.
	@git ls-files --cached --others --exclude-standard '*.go' | grep -v ^vendor/ | xargs gofmt -l -w

.PHONY: lint
lint: $(GOLANGCI_LINT) ## Lint all modules; unformatted files are findings too.
	@status=0; for module in $(MODULES); do \
		echo "golangci-lint: $$module"; \
		(cd $$module && $(GOLANGCI_LINT) run --config $(CURDIR)/.golangci.yml ./...) || status=1; \
	done; exit $$status

$(GOLANGCI_LINT):
	@echo "building golangci-lint $(GOLANGCI_LINT_VERSION), once: a few minutes"
	GOBIN=$(@D) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)

.PHONY: test
test: unit vendor-check yaegi e2e ## Everything that must pass: unit, vendor-check, yaegi, e2e.

.PHONY: unit
unit: ## Unit tests and fuzz seeds with the race detector.
	go test -race ./...
	cd controlplane && go test -race ./...
	cd bench && go test -race ./...

.PHONY: vendor-check
vendor-check: ## Check that vendor/ and all go.mod and go.sum are what go would write.
	for module in $(MODULES); do (cd $$module && go mod tidy -diff); done
	rm -rf $(BUILD)/vendor
	go mod vendor -o $(BUILD)/vendor
	diff -r vendor $(BUILD)/vendor

# What these two start is not in Go's test cache, so they never count as cached.
.PHONY: yaegi
yaegi: ## Run the plugin's tests interpreted, as Traefik runs the plugin.
	cd e2e && go test -count=1 -timeout 5m ./yaegi

.PHONY: e2e
e2e: traefik ## Test from outside: a real Traefik, the control plane and an upstream.
	cd e2e && go test -race -count=1 -p 1 -timeout 20m . ./stack/... ./faults ./cmd/...

.PHONY: faults
faults: traefik ## Break everything around gateways: all 1,000 schedules, all cuts: an hour. ARGS=-help
	cd e2e && go test -race -count=1 -timeout 3h ./faults -schedules 1000 -schedules-in-traefik 1000 -cuts 0 $(ARGS)

.PHONY: e2e-matrix
e2e-matrix: ## The same with other versions of Traefik, each built once: minutes.
	@for version in $(MATRIX); do \
		echo "Traefik $$version"; \
		(cd e2e && go run ./cmd/buildtraefik $$version && \
			TRAEFIK_VERSION=$$version go test -race -count=1 -timeout 20m .); \
	done

.PHONY: traefik
traefik: ## Build Traefik, if it is not there yet.
	@cd e2e && go run ./cmd/buildtraefik

.PHONY: fuzz
fuzz: ## Fuzz each target for FUZZTIME (10s).
	@for module in . controlplane; do \
		cd $(CURDIR)/$$module; \
		for package in $$(go list ./...); do \
			for target in $$(go test -list '^Fuzz' $$package | grep ^Fuzz || true); do \
				go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x $$package; \
			done; \
		done; \
	done

# ARGS may have -plugins FOLDER, -rows NAMES, -profile ROW and more: ARGS=-help.
.PHONY: bench bench-quick bench-render
bench: traefik $(BUILD)/bench ## Measure Traefik with and without the plugin: 15 minutes of a quiet machine.
	@cd bench && exec $(BUILD)/bench/bench $(ARGS)

bench-quick: traefik $(BUILD)/bench ## The same for a minute, only to see; docs/performance.md stays as it is.
	@cd bench && exec $(BUILD)/bench/bench -quick $(ARGS)

bench-render: $(BUILD)/bench ## Write docs/performance.* anew from bench/results.json.
	@cd bench && exec $(BUILD)/bench/bench -render

# ARGS may have -quick, -keys 1000000, -only waiting and more: ARGS=-help.
.PHONY: bench-sync
bench-sync: ## Measure what it costs to keep gateways up to date: ten minutes of a quiet machine.
	@cd bench && go build -o $(BUILD)/bench/sync ./sync && exec $(BUILD)/bench/sync $(ARGS)

.PHONY: $(BUILD)/bench
$(BUILD)/bench:
	@cd bench && go build -o $@/bench .

# ARGS may be -duration 5m. It looks at trends, so other work on the machine does
# not matter to it.
.PHONY: soak
soak: traefik ## Half an hour of reloads, edits and kills: is memory flat, is each answer right?
	@cd bench && go build -o $(BUILD)/soak ./soak && exec $(BUILD)/soak -out soak.json $(ARGS)

.PHONY: demo
demo: ## See it work: starts all there is and prints commands to try. ARGS=-help
	@cd e2e && go build -o $(BUILD)/demo ./cmd/demo && exec $(BUILD)/demo $(ARGS)

.PHONY: clean
clean: ## Remove what these targets have built.
	rm -rf $(BUILD)
