# make help lists what there is to do.

GO       ?= go
PORT     ?= 5000
DIR      ?= ./save
FUZZTIME ?= 30s

# The oldest Go that will do, as go.mod has it.
needs   := $(shell sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.mod)
version := $(shell git describe --tags --always --dirty 2>/dev/null)
tool    := $(GO) tool -modfile=.ci/tools/go.mod

.DEFAULT_GOAL := help
.PHONY: build run test test-kit bench bench-quick bench-stages lint vuln fuzz cover clean help go

build: go ## build the programs into bin/
	$(GO) build -ldflags "-X github.com/accio-go/accio/cmd/internal/cli.Version=$(version)" -o bin/ ./cmd/...

run: build ## build, then save uploads to port $(PORT) in $(DIR)
	bin/server $(PORT) $(DIR)

test: go ## run all tests, with the race detector
	$(GO) test -race -shuffle=on -timeout=10m ./...

test-kit: go ## try each mistake of the kit's reference by all criteria (seven minutes)
	$(GO) test -race -timeout=20m ./integration/conformance -run=Mistake -exhaustive

bench: build ## measure the programs beside their peers (a quarter of an hour)
	$(GO) build -o bin/bench ./integration/bench
	bin/bench

bench-quick: build ## measure less of that (under a minute)
	$(GO) build -o bin/bench ./integration/bench
	bin/bench -quick

bench-stages: go ## measure the stages alone, into bench.txt; OLD=file compares
	$(GO) test -run='^$$' -bench=. -count=10 ./stage | tee bench.txt
	@test -z "$(OLD)" || $(tool) benchstat $(OLD) bench.txt

lint: go ## check format, modules and code, for every system
	@out=$$(gofmt -l .); test -z "$$out" || { echo "not gofmt-ed: $$out"; exit 1; }
	$(GO) mod tidy -diff
	for os in linux darwin freebsd windows; do GOOS=$$os $(GO) vet ./... || exit 1; done
	GOARCH=386 $(GO) vet ./...
	$(tool) staticcheck ./...
	check=$$($(tool) -n staticcheck) && GOOS=windows $$check -checks=inherit,-U1000 ./...

vuln: go ## look for known vulnerabilities (needs the network)
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

fuzz: go ## fuzz every target for FUZZTIME (30s)
	@for pkg in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$f"; \
			$(GO) test -run='^$$' -fuzz="^$$f$$" -fuzztime=$(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

cover: go ## show what the tests cover of the packages
	$(GO) test -coverprofile=cover.out -coverpkg=./stage,./fs,./transport ./stage ./fs ./transport
	$(GO) tool cover -func=cover.out | tail -n 1
	@echo "line by line: $(GO) tool cover -html=cover.out"

clean: ## remove what was built
	rm -rf bin cover.out bench.txt

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r t h; do printf '  %-12s %s\n' "$$t" "$$h"; done

# One clear line if Go is missing or too old; every target that needs it asks.
go:
	@command -v $(GO) >/dev/null || { echo "ERROR: Go $(needs) or later is needed (https://go.dev/dl); there is none in PATH"; exit 1; }
	@v=$$(GOTOOLCHAIN=local $(GO) env GOVERSION | sed 's/^go//; s/[^0-9.].*//'); \
	 [ "$$(printf '%s\n' $(needs) "$$v" | sort -V | head -n 1)" = "$(needs)" ] || \
	 [ "$$($(GO) env GOTOOLCHAIN)" != local ] || \
	 { echo "ERROR: Go $(needs) or later is needed (https://go.dev/dl); this is $$v"; exit 1; }
