# SPDX-License-Identifier: Apache-2.0
# `make up` runs the example, `make test` runs every test; the rest is for
# people who change the code.

GO       ?= go
FUZZTIME ?= 30s
FRAMES   ?= 10000000
ROUNDS   ?= 20
SOAK     ?= 30m
FLIPS    ?= 2000
UPFLAGS  ?=
ROWS     ?=
ANCHORS  ?=
MUTATE   ?= all

PREFIX   ?= /usr/local
UNITS    ?= /etc/systemd/system

.PHONY: build install up test generate check-generated bench soak soak-flips soak-stories soak-api mutate fuzz clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/sallyport ./cmd/sallyport-node

# Programs and units for machines of your own, see README.md. Nothing is started.
install: build
	install -D -t $(DESTDIR)$(PREFIX)/bin bin/sallyport bin/sallyport-node
	install -D -m 644 -t $(DESTDIR)$(UNITS) dist/systemd/sallyport.service dist/systemd/sallyport-node.service

# Built as you, run as root: only the second half needs the privilege.
up: build
	@if [ "$$(id -u)" = 0 ]; then exec bin/sallyport up --demo $(UPFLAGS); \
	else exec sudo bin/sallyport up --demo $(UPFLAGS); fi

test:
	@GO="$(GO)" .ci/test

# Everything committed that a program made: eBPF objects and the header they
# share with Go, protobuf code, the lists in docs/. Needs clang-19 and protoc.
generate:
	$(GO) generate ./...

check-generated:
	@GO="$(GO)" .ci/check-generated

# What packets cost, beside peers; the table is kept in bench.json. ROWS="hit-1 rr"
# measures some of its rows, ANCHORS=DIR brings prototypes that stand in for others.
bench:
	@GO="$(GO)" ROWS="$(ROWS)" ANCHORS="$(ANCHORS)" .ci/bench

# A lab under mixed load with rules that turn, targets that come and go, floods,
# and processes that die, for SOAK; it prints what it saw and measured.
soak:
	SALLYPORT_SOAK=$(SOAK) $(GO) test -v -count=1 -run '^TestStories$$/^(the_official_client_builds_the_example|soak)$$' -timeout 0 ./internal/e2e/

# Two policies that contradict each other take turns under full packet load, FLIPS
# times on each hook: it prints how many turns and packets there were, and that no
# packet was admitted, no verdict mixed. 2,000 take some three minutes on each.
soak-flips:
	FLIPS=$(FLIPS) $(GO) test -v -count=1 -run '^TestFlipsAreAtomic$$' -timeout 0 ./internal/datapath

# The stories on real packets, over and over: what leaks or races shows here.
soak-stories:
	$(GO) test -run '^TestLab$$' -count $(ROUNDS) -timeout 2h ./internal/scenario/

# Random calls of the API beside a simple model of what they mean, then several
# clients at once across kills of the server, checked for linearizability.
soak-api:
	SALLYPORT_MODEL_TIME=$(SOAK) $(GO) test -v -run '^TestModel$$' -timeout 0 ./internal/cloudapi/
	SALLYPORT_SOAK_API=$(SOAK) $(GO) test -v -run '^TestLinearizableAcrossKills$$' -timeout 0 ./cmd/sallyport/

# Plants a fault in each branch of the C sources, one at a time, and runs tests
# until one sees it; prints what survived, beside those in the data plane's
# testdata/equivalents.txt that change nothing. MUTATE=50 takes 50 of them by chance,
# MUTATE_FILE="mss.h return.h" those of files, MUTATE_ROLE=gateway those in the
# gateway's programs, MUTATE_ROUNDS="quick further live" all tests, MUTATE_LEFT=FILE what
# another run, whose output that is, left alive. Wants a quiet machine: mss.h and return.h
# were 39 faults, 38 killed, 1 equivalent, 2 minutes on two busy cores. Of all 1,638 faults
# most were not tried yet.
mutate:
	MUTATE=$(MUTATE) $(GO) test -v -count=1 -run '^TestMutants$$' -timeout 0 ./internal/datapath

fuzz:
	FRAMES=$(FRAMES) $(GO) test -count=1 -run '^TestParserMillions$$' -v ./internal/datapath
	@set -e; for file in $$(grep -rl --include='*_test.go' '^func Fuzz' internal cmd); do \
		for name in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
			echo "$$name in $$(dirname $$file), $(FUZZTIME)"; \
			$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) ./$$(dirname $$file); \
		done; \
	done

clean:
	rm -rf bin
