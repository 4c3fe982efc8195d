# Weirline's commands. `make` alone lists them.
SHELL := bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help

tool := go tool -modfile=tools/go.mod

# What the tests of a package need decides its stage: nothing, a real Kafka, Redis, S3, PostgreSQL, MariaDB or OpenSearch, or whole processes to kill.
uses_services := go list -f '{{.ImportPath}} {{.TestImports}} {{.XTestImports}}' ./... | grep '/internal/testsvc[] ]' | cut -d' ' -f1
service_packages := $(uses_services) | grep -v '/examples/'
crash_packages := { $(uses_services) | grep '/examples/'; go list ./examples/weblog ./internal/matrix; } | sort -u
unit_packages := go list ./... | grep -vxFf <($(service_packages); $(crash_packages))

.PHONY: help deps build run test test-unit test-services test-crash race bench fuzz soak soak-tests mutants planted planted-async matrix timeouts storms budget chaos leaks lint fmt accept ci bench-services

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

deps: ## install what the tests need: gcc, Java 17, Maven, Redis, PostgreSQL, PgBouncer, MariaDB, Chromium, the Kafka broker, OpenSearch, an object store
	@scripts/deps.sh

build: ## bin/weblog and bin/workloads, static
	CGO_ENABLED=0 go build -trimpath -o bin/weblog ./examples/weblog
	CGO_ENABLED=0 go build -trimpath -o bin/workloads ./benchmarks/workloads

run: build ## the demo on embedded services; KAFKA=host:port REDIS=host:port LOGS=dir use real ones
	exec bin/weblog $(if $(KAFKA),-kafka $(KAFKA)) $(if $(REDIS),-redis $(REDIS)) $(if $(LOGS),-logs $(LOGS)) $(ARGS)

test: deps ## all tests: unit with -race, then services, then the seeded crash tests; minutes per stage at the end
	@failed=; report=; \
	stage() { \
		local name=$$1 limit=$$2 start=$$SECONDS result=ok; shift 2; \
		echo "== $$name (at most $$limit minutes)"; \
		timeout -k 20 $${limit}m go test -timeout $${limit}m "$$@" </dev/null || { result=FAIL; failed="$$failed $$name"; }; \
		report="$$report$$(printf '%-4s %-9s %5.1f of %2d minutes' $$result $$name $$(awk "BEGIN{print ($$SECONDS-$$start)/60}") $$limit)"$$'\n'; \
	}; \
	stage unit 18 -race -shuffle=on $$($(unit_packages)); \
	stage services 27 -race -p 1 $$($(service_packages)); \
	stage crash 12 -p 1 $$($(crash_packages)); \
	printf '== stages\n%s' "$$report"; \
	[ -z "$$failed" ] || { echo "FAIL:$$failed"; exit 1; }; \
	echo "PASS: unit, services, crash"

test-unit: ## only the tests that need no service, with -race
	go test -race -shuffle=on $$($(unit_packages))

test-services: deps ## only the tests with a real Kafka, Redis, S3, PostgreSQL, MariaDB or OpenSearch
	go test -race -p 1 $$($(service_packages))

test-crash: deps ## only the tests that kill processes
	go test -p 1 $$($(crash_packages))

race: deps ## every test with -race, the crash tests too
	go test -race -p 1 -timeout 60m ./...

bench: ## each benchmark beside its limit (xlimit = time per record of ours / of the limit)
	go test -run '^$$' -bench . ./benchmarks/

bench-services: deps ## sinks on a real Kafka, PostgreSQL, MariaDB and OpenSearch, beside the bare client libraries: time, cost, pauses
	go test -run '^$$' -bench . -timeout 25m ./benchmarks/services/

fuzz: ## every fuzz target, FUZZTIME each (default 10s)
	@set -e; for p in $$(go list -f '{{.ImportPath}}:{{.Dir}}' ./...); do \
		dir=$${p#*:}; \
		for f in $$(cat $$dir/*_test.go 2>/dev/null | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p'); do \
			echo "== $${p%%:*} $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(or $(FUZZTIME),10s) $${p%%:*}; \
		done; \
	done

soak: ## SEEDS seeds of the simulation (default 10000), from FROM on (default 1)
	go run ./internal/soak -seeds $(or $(SEEDS),10000) -from $(or $(FROM),1)

mutants: ## plants bugs in the engine, one at a time, and shows that the simulation or the scripts find each
	go run ./internal/mutants $(ARGS)

planted: deps ## plants the bugs of two-phase commit, one at a time, and shows that connectors' contract and crash tests find each
	go run ./internal/mutants -set planted $(ARGS)

planted-async: ## plants the bugs of sinks that send in the background, one at a time, and shows that the tests of sink/async find each
	go run ./internal/mutants -set async $(ARGS)

soak-tests: deps ## the long variants of the random and the crash tests
	WEIRLINE_SOAK=1 go test -p 1 -timeout 180m ./...

matrix: deps ## kills a job at each step of the commit, into each exactly-once destination: a table; ARGS='-only REGEXP'
	go build -o bin/matrix ./internal/matrix
	bin/matrix $(ARGS)

timeouts: deps ## the same job down for too long, its store failing, rolled back by hand, beside a savepoint of it...: a table; ARGS='-only REGEXP'
	go build -o bin/matrix ./internal/matrix
	bin/matrix -set timeouts $(ARGS)

storms: deps ## a job into destinations that are slow, throttling, flapping, hanging, in part bad...: a table; ARGS='-only REGEXP'
	go build -o bin/storms ./internal/storms
	bin/storms $(ARGS)

budget: ## lines that authors of the smallest sources and sinks write, beside what they may be
	@go test -count=1 -v -run '^TestAuthorsBudget$$' ./internal/archtest | sed -n 's/^ *[a-z_]*\.go:[0-9]*: budget: //p; /FAIL/p; /^ *[a-z_]*\.go:[0-9]*: .*fix:/p'

chaos: deps ## a job over a real topic is killed for MINUTES (default 5), then its sums are compared
	go build -o bin/chaos ./internal/chaos
	bin/chaos -minutes $(or $(MINUTES),5) $(ARGS)

leaks: ## 1,000 restarts, a minute of a slow sink: goroutines, file handles and memory
	@WEIRLINE_SOAK=1 go test -count=1 -v ./internal/leaks | grep -v '^=== '

lint: ## formatting, vet here and for other systems, staticcheck, go.mod
	@out=$$($(tool) gofumpt -l .); [ -z "$$out" ] || { echo "not formatted (make fmt):"; echo "$$out"; exit 1; }
	go vet ./...
	GOOS=darwin go vet ./...
	GOOS=windows go vet ./...
	GOOS=linux GOARCH=arm64 go vet ./...
	$(tool) staticcheck ./...
	go mod tidy -diff
	bash -n scripts/deps.sh .ci/run

fmt: ## format all Go files
	$(tool) gofumpt -w .

accept: deps build ## what the project promises, one line each; ARGS='-only REGEXP', ARGS=-list
	go run ./internal/accept $(ARGS)

ci: lint test ## what a change must pass
