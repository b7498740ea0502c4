# make help lists what there is to do.

GO       ?= go
PORT     ?= 5000
DIR      ?= ./save
FUZZTIME ?= 30s
KILLS    ?= 200
DURATION ?= 10m
DEBIAN   ?= /

# The oldest Go that will do, as go.mod has it.
needs   := $(shell sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.mod)
version := $(shell git describe --tags --always --dirty 2>/dev/null)
tool    := $(GO) tool -modfile=.ci/tools/go.mod

# What users run; cmd/examples is there to be read.
programs := server-s server client conform

# What the library exports is recorded as text, so that a change of it is seen in
# review. apidiff (golang.org/x/exp) would record export data: binary, and as of
# one version of x/tools; gorelease needs the commit or version to compare with, which a
# shallow clone does not have.
api     := $(GO) run .ci/tools/api/main.go
library := ./stage/... ./fs/... ./transport/...

.DEFAULT_GOAL := help
.PHONY: build docs run test test-kit test-browser screenshot bench bench-quick bench-stages lint api vuln fuzz torture soak cover clean help go

build: go ## build the programs into bin/
	$(GO) build -ldflags "-X github.com/accio-go/accio/cmd/internal/cli.Version=$(version)" -o bin/ $(programs:%=./cmd/%)

docs: build ## write man pages and completion scripts into bin/man and bin/completion
	@mkdir -p bin/man/man1 bin/completion/bash bin/completion/zsh bin/completion/fish bin/completion/powershell
	@for p in $(programs); do \
		bin/$$p --man > bin/man/man1/$$p.1 && \
		bin/$$p --completion=bash > bin/completion/bash/$$p && \
		bin/$$p --completion=zsh > bin/completion/zsh/_$$p && \
		bin/$$p --completion=fish > bin/completion/fish/$$p.fish && \
		bin/$$p --completion=powershell > bin/completion/powershell/$$p.ps1 || exit 1; \
	done

run: build ## build, then save uploads to port $(PORT) in $(DIR)
	bin/server $(PORT) $(DIR)

# The tests of whole programs keep the machine busy by themselves, and look at time.
test: go ## run all tests, with the race detector
	$(GO) test -race -shuffle=on -timeout=10m $$($(GO) list ./... | grep -v /integration)
	$(GO) test -race -shuffle=on -timeout=10m -p=1 ./integration/...

test-kit: go ## try each mistake of the kit's reference by all criteria (seven minutes)
	$(GO) test -race -timeout=20m ./integration/conformance -run=Mistake -exhaustive

test-browser: go ## try the page of the admin address, where a Chromium is installed
	$(GO) test -C integration/browser -race -timeout=10m ./...

screenshot: go ## take the README's picture of that page
	$(GO) test -C integration/browser -run=Screenshot -count=1 ./... -screenshot=$(CURDIR)/cmd/server/monitoring/connections.png

bench: build ## measure the programs beside their peers (a quarter of an hour); BEFORE=dir adds those of dir
	$(GO) build -o bin/bench ./integration/bench
	bin/bench $(if $(BEFORE),-before $(BEFORE))

bench-quick: build ## measure less of that (under a minute)
	$(GO) build -o bin/bench ./integration/bench
	bin/bench -quick

bench-stages: go ## measure the stages alone, into bench.txt; OLD=file compares
	$(GO) test -run='^$$' -bench=. -count=10 ./stage | tee bench.txt
	@test -z "$(OLD)" || $(tool) benchstat $(OLD) bench.txt

.PHONY: package test-package
package: go ## build the packages of a release into bin/package/, for every platform
	GO=$(GO) .ci/package/build bin/package

test-package: go ## build the packages twice, compare them, and install one (over DEBIAN, /)
	$(GO) test ./integration -run='^TestPackages$$' -packages -debian=$(DEBIAN) -count=1 -v -timeout=20m

lint: go ## check format, modules, code for every system, and what is exported
	@out=$$(gofmt -l .); test -z "$$out" || { echo "not gofmt-ed: $$out"; exit 1; }
	$(GO) mod tidy -diff
	$(GO) build -C .ci/tools -o $(CURDIR)/bin/lint ./lint
	PATH="$$($(GO) env GOROOT)/bin:$$PATH"; \
	for system in linux/amd64 linux/386 darwin/arm64 freebsd/amd64 windows/amd64; do \
		GOOS=$${system%/*} GOARCH=$${system#*/} bin/lint ./... || exit 1; \
	done; \
	for dir in .ci/package .ci/tools integration/browser; do (cd $$dir && $(CURDIR)/bin/lint ./...) || exit 1; done
	$(tool) staticcheck ./...
	$(GO) mod tidy -C integration/browser -diff
	$(GO) test -C .ci/tools ./...
	$(api) -since .ci/api.txt $(library)

api: go ## record what the library exports, which make lint holds it to
	$(api) $(library) > .ci/api.txt.new
	mv .ci/api.txt.new .ci/api.txt

vuln: go ## look for known vulnerabilities (needs the network)
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

fuzz: go ## fuzz every target for FUZZTIME (30s)
	@for pkg in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$f"; \
			$(GO) test -run='^$$' -fuzz="^$$f$$" -fuzztime=$(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

torture: go ## kill the server KILLS (200) times under load, stop it half as often
	$(GO) test ./integration -run=AtAnyMoment -kills=$(KILLS) -count=1 -v -timeout=2h

soak: go ## have clients of all kinds go on for DURATION (10m), and look for growth
	$(GO) test ./integration -run='^TestSoak$$' -soak=$(DURATION) -count=1 -v -timeout=0

cover: go ## show what the tests cover of the packages
	$(GO) test -coverprofile=cover.out -coverpkg=./stage/...,./fs/...,./transport ./stage/... ./fs/... ./transport
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
