# Targets for people. `make demo` and `make test` are the two that a newcomer needs.
SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help

# One set of build settings everywhere: another one would compile Kubernetes a second time.
export CGO_ENABLED := 0
export GOFLAGS := -buildvcs=false -trimpath

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
STAMP := -s -w -X main.version=$(VERSION)
KEEP ?=
MODE ?= full
ENGINE ?= auto
FOCUS ?=
RUNS ?= 1
NODES ?=

.PHONY: help demo test test-unit test-wire test-kernel test-e2e test-e2e-vm test-first build-meanwhile test-beside test-direct test-modes-vm test-conformance test-conformance-short bench lint generate manifests images build build-lab build-conformance build-vm deps clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: deps build ## a real cluster, a Service with an address, a node that loses power (KEEP=1 leaves the lab up)
	bin/demo $(if $(KEEP),-keep)

test: test-first test-kernel test-e2e test-e2e-vm test-beside ## everything that must pass

test-first: deps # while the wire tests wait for routers, the processors have time: the lab is compiled, of which the tests hardly notice
	$(MAKE) -j2 --output-sync=target test-wire build-meanwhile

build-meanwhile:
	nice -n 19 $(MAKE) --no-print-directory build-conformance build-vm

test-beside: # while the longest specs wait for pods, the processors have time; each says what it has to say when it is done
	$(MAKE) -j2 --output-sync=target test-conformance-short lint test-unit

test-unit: ## table, property, fuzz seed and simulation tests; no root, no network
	go test ./...
	cd lab && go test ./...
	cd test/monitoring && go test ./...

test-wire: deps ## real sockets in network namespaces (root)
	scripts/test-wire

test-kernel: deps build-vm ## both datapath engines on a real kernel: the host's, and a VM's where the host has no IPVS (root)
	scripts/test-kernel

# TestDirect... need engine ipvs: test-e2e-vm and test-direct.
test-e2e: deps build ## the lab: manifests in, packets out (root)
	scripts/routers
	scripts/servers
	scripts/chromium
	scripts/metallb
	cd lab && go test -p 1 -count=1 -tags lab -timeout 15m ./...
	go test -count=1 -tags e2e -parallel 4 -timeout 50m -skip '^TestDirect' -v ./test/e2e/...

test-e2e-vm: deps build build-vm ## the lab's core scenarios with the ipvs engine, in a VM where the host has no IPVS (root)
	scripts/test-e2e-vm

test-direct: deps build build-vm ## direct server return in a cluster of three nodes before a router, in a VM where the host has no IPVS: 10 minutes (root)
	scripts/test-e2e-vm direct

test-modes-vm: deps build build-vm ## all promises of the Service API in both modes with the ipvs engine, in a VM where the host has no IPVS: an hour (root)
	scripts/test-e2e-vm full
	scripts/test-e2e-vm external

test-conformance: build-conformance build-vm ## Kubernetes' own e2e suite against the lab: MODE=full, external or kube-proxy, ENGINE=nft or ipvs, FOCUS=expression, RUNS=n, NODES=n (root)
	scripts/conformance -mode $(MODE) -engine $(ENGINE) -runs $(RUNS) $(if $(NODES),-nodes $(NODES)) $(if $(FOCUS),-focus '$(FOCUS)')

test-conformance-short: build-conformance ## of that suite the conformance specs and those of load balancers (root)
	scripts/conformance -short -nodes 2

bench: deps build build-vm ## print the figures that README and docs quote
	scripts/bench

lint: ## gofmt, go vet, staticcheck, govulncheck where its database can be reached
	scripts/lint

generate: ## deepcopy functions and CRDs from the API types, docs/reference.md and docs/reasons.md
	go generate ./api/...

manifests: build-lab ## the chart as plain manifests with its defaults, for those without Helm: bin/fairlead.yaml
	@mkdir -p bin
	(printf 'apiVersion: v1\nkind: Namespace\nmetadata:\n  name: fairlead-system\n'; \
		bin/helm template fairlead charts/fairlead --namespace fairlead-system --kube-version 1.36) > bin/fairlead.yaml

images: ## OCI archives of both programs for amd64 and arm64, and their SBOMs, into bin/images; the same commit gives the same bytes
	@mkdir -p bin/images
	for arch in amd64 arm64; do GOARCH=$$arch go build -ldflags '$(STAMP)' -o bin/images/$$arch/ ./cmd/lbcontroller ./cmd/speaker || exit 1; done
	go -C lab run ./cmd/images -dir $(abspath bin/images) -version $(VERSION) -revision $(shell git rev-parse HEAD) -created $(shell git log -1 --format=%ct)

build: build-lab ## every binary into bin/
	go build -ldflags '$(STAMP)' -o bin/ ./cmd/...
	go build -o bin/ ./test/cmd/probe ./test/demo ./test/bench/...

build-lab: # the first build compiles Kubernetes: 5 to 9 minutes on two cores, seconds afterwards
	$(MAKE) -C lab build VERSION=$(VERSION)

build-conformance: deps build
	$(MAKE) -C lab e2e

build-vm:
	@mkdir -p bin
	go build -o bin/ ./test/vm

deps: # Debian packages that the lab and the tests call
	@scripts/deps

clean: ## stop every lab, remove what was built
	-bin/fairlab down --all 2>/dev/null
	rm -rf bin .cache
