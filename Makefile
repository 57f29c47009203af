# Auditrail. `make help` lists what people and CI run.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

MODULES   := schemas pkg services
PACKAGES  := ./schemas/... ./pkg/... ./services/...
GOLANGCI  := v2.15.0
TOOLS     := $(CURDIR)/bin/tools
GOTESTARGS ?=
export CGO_ENABLED ?= 0

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: run
run: deps ## run everything on embedded parts with demo data (flags: make run ARGS="--demo-rate 0")
	bin/auditrail dev $(ARGS)

.PHONY: deps
deps: build ## install what run and test need: the ClickHouse engine's library, into a cache
	@bin/auditrail engine --fetch >/dev/null

.PHONY: build
build: ## build bin/auditrail
	@command -v go >/dev/null || { echo "make build: Go 1.26 or newer is needed: install it, then run make again" >&2; exit 1; }
	@mkdir -p bin
	@[ -e bin/auditrail ] || echo "building bin/auditrail; the first time takes a few minutes"
	go build -trimpath -o bin/auditrail ./services/auditrail

.PHONY: test
test: deps ## unit, component and end-to-end tests on embedded parts
	go test -timeout 30m $(GOTESTARGS) $(PACKAGES)

KAFKA_LIB := $(or $(AUDITRAIL_TEST_KAFKA_LIB),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/auditrail/apache-kafka-4.3.1)

.PHONY: kafka-lib
kafka-lib:
	@command -v java >/dev/null && command -v mvn >/dev/null || { echo "make: Java 17 or newer and Maven are needed to run Apache Kafka: install them, then run the same command again" >&2; exit 1; }
	@ls $(KAFKA_LIB)/kafka_*.jar >/dev/null 2>&1 || { echo "fetching Apache Kafka with Maven, about 43 MB"; rm -rf $(KAFKA_LIB).new; \
	  mvn -q -B -f services/internal/testenv/apachekafka/pom.xml dependency:copy-dependencies -DoutputDirectory=$(KAFKA_LIB).new && mv $(KAFKA_LIB).new $(KAFKA_LIB); }

ON_APACHE := AUDITRAIL_TEST_KAFKA=apache AUDITRAIL_TEST_KAFKA_LIB=$(KAFKA_LIB)

.PHONY: test-kafka
test-kafka: deps kafka-lib ## the component and end-to-end tests against Apache Kafka itself (needs Java 17 and Maven)
	$(ON_APACHE) go test -timeout 40m $(GOTESTARGS) ./services/ingest ./services/expiry ./services/migrate ./services/deadletter ./services/reporter ./services/internal/ktable ./services/internal/settings ./services/auditrail ./services/internal/faults

S3_STORE := $(or $(AUDITRAIL_TEST_S3),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/auditrail/versitygw-1.8.0)

.PHONY: s3-store
s3-store:
	@[ -e $(S3_STORE) ] || { echo "building an S3 store, versitygw; it takes some minutes"; mkdir -p $(dir $(S3_STORE)); \
	  cd services/internal/testenv/s3store && GOWORK=off go build -trimpath -o $(S3_STORE).new github.com/versity/versitygw/cmd/versitygw && mv $(S3_STORE).new $(S3_STORE); }

.PHONY: test-s3
test-s3: deps s3-store ## the tests of reports against an S3 store in place of a folder
	AUDITRAIL_TEST_S3=$(S3_STORE) go test -timeout 20m $(GOTESTARGS) ./services/reporter

SEEDS    ?= 10
SEED     ?=
FIRST    ?= 1
PARALLEL ?= 2

.PHONY: faults
faults: deps $(if $(filter apache,$(KAFKA)),kafka-lib) ## kill, pause, cut and refuse everything at seeded moments (SEEDS=10, FIRST=1, SEED=7 for one, PARALLEL=2 at a time, KAFKA=apache)
	AUDITRAIL_FAULT_SEEDS=$(SEEDS) AUDITRAIL_FAULT_FIRST=$(FIRST) AUDITRAIL_FAULT_SEED=$(SEED) $(if $(filter apache,$(KAFKA)),$(ON_APACHE)) \
	  go test -v -count 1 -timeout 0 -parallel $(PARALLEL) -run TestCampaign $(GOTESTARGS) ./services/internal/faults | grep --line-buffered -v '^=== '

.PHONY: test-race
test-race: deps ## the same under the race detector (needs a C compiler)
	CGO_ENABLED=1 go test -race -timeout 30m $(GOTESTARGS) $(PACKAGES)

.PHONY: race
race: deps
	@command -v cc >/dev/null || { echo "make race: the race detector needs a C compiler: install gcc, then run make check again" >&2; exit 1; }
	CGO_ENABLED=1 go test -race -short -timeout 30m ./pkg/... ./services/ingest ./services/expiry ./services/deadletter ./services/query ./services/reporter ./services/internal/ops ./services/internal/ktable ./services/internal/report ./services/internal/settings

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (30s)
	@for pkg in $$(go list $(PACKAGES)); do \
	  for f in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $${FUZZTIME:-30s} $$pkg; done; done

.PHONY: bench
bench: ## ratios against yardsticks measured in the same run
	go run ./services/bench

.PHONY: bench-backpressure
bench-backpressure: deps ## memory of ingest while ClickHouse is away, 10 minutes (flags: ARGS="--for 3m")
	go run ./services/bench/pipeline backpressure $(ARGS)

.PHONY: bench-ingest
bench-ingest: ## ingest against the limit, from Kafka to rows, on 1 and on 20 topics (flags: ARGS="--engine")
	go run ./services/bench/pipeline ingest $(ARGS)

.PHONY: bench-apicall
bench-apicall: ## the part of bench about API calls: what limits cost, counted in memory and in Redis (flags: ARGS="--rounds 12")
	go run ./services/bench --only APICall $(ARGS)

EVENTS ?= 20000000
RATE   ?= 20000

.PHONY: bench-search
bench-search: deps ## searches over EVENTS=20000000 events: the API against the engine, the table against coarser granules, and beside ingest at RATE=20000 (flags: ARGS="--rounds 5")
	go run ./services/bench/pipeline search --events $(EVENTS) --rate $(RATE) $(ARGS)

.PHONY: bench-report
bench-report: deps ## reports against the engine alone, and the reporter's memory at EVENTS=20000000 rows (flags: ARGS="--rounds 3")
	go run ./services/bench/pipeline report --events $(EVENTS) $(ARGS)

.PHONY: bench-freshness
bench-freshness: deps ## time from emitted to searchable, with the real engine
	go run ./services/bench/pipeline freshness $(ARGS)

.PHONY: check
check: fmt-check lint tidy-check image-check test race ## all that CI checks; test-kafka and test-s3 stand apart

.PHONY: fmt
fmt: ## format the code
	gofmt -w $(MODULES)

.PHONY: fmt-check
fmt-check:
	@out=$$(gofmt -l $(MODULES)); [ -z "$$out" ] || { echo "not formatted (run make fmt):"; echo "$$out"; exit 1; }

$(TOOLS)/golangci-lint-$(GOLANGCI):
	@mkdir -p $(TOOLS)
	GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)
	mv $(TOOLS)/golangci-lint $@

.PHONY: lint
lint: $(TOOLS)/golangci-lint-$(GOLANGCI) ## linters
	$< run $(PACKAGES)

.PHONY: tidy-check
tidy-check:
	@for m in $(MODULES); do (cd $$m && GOWORK=off go mod tidy -diff) || { echo "$$m/go.mod is not tidy, or could not be checked: run make tidy"; exit 1; }; done

.PHONY: tidy
tidy: ## tidy all modules
	@for m in $(MODULES); do (cd $$m && GOWORK=off go mod tidy); done

.PHONY: image-check
image-check: ## build the production binary (no embedded engine) and assert that it is static
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -tags noengine -o bin/auditrail-static ./services/auditrail
	@! (go version -m bin/auditrail-static | grep -q purego) || { echo "the production binary links purego"; exit 1; }
	@if command -v readelf >/dev/null && [ "$$(go env GOOS)" = linux ]; then \
	  ! readelf -l bin/auditrail-static | grep -q INTERP || { echo "the production binary is dynamically linked"; exit 1; }; fi

.PHONY: clean
clean: ## remove what was built; data and caches stay
	rm -rf bin
