# Nexus Provisioner. `make help` lists the targets.
TOOL := go tool -modfile=tools/go.mod
TAGS := service,bench

.DEFAULT_GOAL := help
.PHONY: help run build test test-all test-bench bench soak lint gen

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## everything in one process, in the foreground (nexus dev)
	go run ./cmd/nexus dev

build: ## the three binaries, into bin/
	go build -o bin/ ./cmd/...

test: ## the fast suite: no service, no network
	go test ./...

test-all: ## the whole suite with -race: needs redis-server, Docker and MariaDB (see .ci/services)
	go test -race -tags service -timeout 85m ./...

test-bench: ## the conformance table on a real bench, see CONTRIBUTING.md (RUN=TestAttackedBench)
	go test -tags bench -run $(or $(RUN),TestConformance) -timeout 60m -count 1 -v ./internal/bench

bench: ## measures the product and its peers; writes bench.json (ARGS='-runs 3 rate')
	go run ./internal/e2e/benchmark $(ARGS)

soak: ## 10,000 jobs while processes are killed, suspended and replaced; then 10,000 watchers; needs redis-server
	go test -tags service -run '^TestSoak$$' -count 1 -timeout 60m -v ./internal/e2e -soak 10000
	go run ./internal/e2e/benchmark -runs 1 -watchers 10000 -json /dev/null watch

lint: ## formatting, vet and golangci-lint
	@out=$$(gofmt -l .) && test -z "$$out" || { echo "not gofmt, or no gofmt: $$out"; exit 1; }
	go vet -tags $(TAGS) ./...
	go vet -tags faults ./internal/nexus
	$(TOOL) golangci-lint run --build-tags $(TAGS) ./...

gen: ## generate api/gen from api/openapi.yaml
	go generate ./...
