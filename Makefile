# SPDX-License-Identifier: Apache-2.0
# Ripstop: `make help` lists the targets. On Debian 12, as root.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

export CGO_ENABLED ?= 0
export GOFLAGS     ?= -buildvcs=false

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.1.0-dev)
LDFLAGS  := -s -w -X github.com/ripstop/ripstop/daemon/api.Version=$(VERSION)
BIN      ?= bin
TOOLS    := $(CURDIR)/bin/tools

# Debian packages: what the daemons need to run is nothing; these are for
# looking at their work (nft, ip), for the laboratory and for the tests.
PACKAGES := iproute2 nftables iptables ipset conntrack netcat-openbsd iputils-ping procps

# The race detector needs a C compiler; ipset makes sets of others.
# The packages are tested on machines of their own.
test: PACKAGES += gcc libc6-dev ipset systemd-container debootstrap lintian rpm rpmlint gpg apt-utils createrepo-c dnf openssl groff-base ruby

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

deps: ## install the Debian packages and Go modules that are missing, visibly
	@missing=; for p in $(PACKAGES); do \
	  dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then echo "Installing Debian packages:$$missing"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	else echo "Debian packages: all there ($(PACKAGES))"; fi
	@echo "Go modules: downloading what is missing"; go mod download

build: ## put the programs in bin/
	@mkdir -p $(BIN)
	go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ ./daemon/cmd/... ./cli/ripstop

run: deps build ## protect this machine: ripstopd with its own ripstop-server; Ctrl-C stops it, rules stay
	@exec $(BIN)/ripstopd --role standalone

lab: deps build ## three hosts as network namespaces, with policy, shown with real connections
	@vagrant/lab.sh up && vagrant/lab.sh demo

lab-down: ## remove every trace of the laboratory
	@vagrant/lab.sh down

test: deps vet ## all tests; says what is skipped and why (TESTFLAGS='-run Calc -short')
	@mkdir -p $(BIN)
	CGO_ENABLED=1 go test -race -v -timeout 60m $(TESTFLAGS) ./... 2>&1 | tee $(BIN)/test.log | awk -f .ci/summary.awk

bench: build ## the figures of docs/reference/benchmarks.md (BENCHFLAGS='-bench-json=FILE')
	go test -run '^$$' -bench . -benchmem -benchtime 200ms -timeout 60m $$(go list ./... | grep -v /e2e$$)
	go test -run '^$$' -bench . -benchtime 1x -timeout 60m ./daemon/internal/e2e -args $(BENCHFLAGS)

man: ## write the manual pages (docs/man) from the text of --help
	go test ./cli/command -run '^TestMan_PagesAreWhatHelpSays$$' -count=1 -args -update

package: nfpm ## deb and rpm packages for amd64 and arm64, checksums and bills of materials, in dist/
	@NFPM=$(TOOLS)/nfpm packaging/build.sh

repo: package ## signed apt and dnf repositories of the packages, in dist/repo (SIGNING_KEY=file REPO_URL=url)
	@packaging/repo.sh

rpmlint: package ## rpmlint of the rpms; what it is told is in packaging/rpmlint.toml
	rpmlint -c packaging/rpmlint.toml dist/*.rpm

nfpm: # the packager; newer versions need a module that not every proxy serves
	@mkdir -p $(TOOLS)
	@test -x $(TOOLS)/nfpm || GOBIN=$(TOOLS) go install github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2

vet:
	@test -z "$$(gofmt -l cli daemon packaging web)" || { gofmt -l cli daemon packaging web; echo "run gofmt -w on these"; exit 1; }
	go vet ./...

lint: vet ## vet, staticcheck, and govulncheck where its database can be reached
	@mkdir -p $(TOOLS)
	@test -x $(TOOLS)/staticcheck || GOBIN=$(TOOLS) go install honnef.co/go/tools/cmd/staticcheck@v0.8.2
	$(TOOLS)/staticcheck ./...
	@if command -v govulncheck >/dev/null; then govulncheck ./...; \
	else echo "govulncheck: skipped, the program is not installed (its database needs the internet)"; fi

ci: test lint ## what CI runs

clean: ## remove what was built
	rm -rf bin dist

.PHONY: help deps build run lab lab-down test bench man package repo rpmlint nfpm vet lint ci clean
