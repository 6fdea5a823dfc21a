# Jetway's everyday commands. `make` lists them.

ARGS      ?=
GOTEST    ?= go test
TESTFLAGS ?=
TIMEOUT   ?= 10m
# Packages tested at a time: most wait more than they work.
PARALLEL  ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
FUZZTIME  ?= 10s
STARTS    ?= 25
GOLANGCI  ?= go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# The version that `jetway version` shows is the tag or commit that Go records.
VCS = $(shell git status >/dev/null 2>&1 && echo true || echo false)

# Of the tests that torture: how long, from which seed (0: a new one), with which
# faults ("kill,cut"; all where none is named), and where a failed run leaves its history.
DURATION ?= 10m
SEED     ?= 0
FAULTS   ?=
REPORT   ?= /tmp/jetway-torture

.PHONY: help build run test torture mutants soak compiler browser lint fuzz bench clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/jetway and bin/room
	@mkdir -p bin
	@CGO_ENABLED=0 go build -trimpath -buildvcs=$(VCS) -o bin/ ./cmd/jetway ./cmd/room

# Ctrl-C reaches jetway itself, which stops everything; make waits for that.
run: build ## Run all of Jetway here: NATS, Postgres, worker, drone, proxy (ARGS='--proxy-port 0')
	@exec ./bin/jetway dev $(ARGS)

# Half of its time on a fresh machine is the compiler's: make lint vets, and no debugger needs its tables.
test: compiler browser ## Run all tests, with the race detector (TESTFLAGS='-short')
	@$(DOCKER_TESTS); set -x; CGO_ENABLED=1 $(GOTEST) -race -vet=off -ldflags=-w -p $(PARALLEL) -timeout $(TIMEOUT) $(TESTFLAGS) ./...

# What cannot be tested with Docker here is left out, and said; with JETWAY_TEST_DOCKER=on
# it fails instead. The test that is run to find out asks as all others do.
define DOCKER_TESTS
if [ -z "$$JETWAY_TEST_DOCKER" ]; then \
	if ! CGO_ENABLED=1 go test -race -count=1 -run '^TestEngineAnswers$$' ./internal/runtime/docker >/dev/null 2>&1; then \
		export JETWAY_TEST_DOCKER=off; \
		echo "No Docker engine answers: leaving out the tests that need one"; \
	elif [ "$$(id -u)" != 0 ] || ! command -v dockerd >/dev/null || ! command -v mkfs.btrfs >/dev/null; then \
		echo "Leaving out the tests that start a Docker engine of their own, which takes root, dockerd and mkfs.btrfs"; \
	fi; \
fi
endef

torture: ## Attack the whole system for DURATION (10m), its faults from SEED
	@go test ./internal/torture -run '^TestTorture$$' -count=1 -v -timeout 0 -torture.duration $(DURATION) -torture.seed $(SEED) -torture.faults "$(FAULTS)" -torture.report $(REPORT)

mutants: ## See that the attack finds deliberate bugs
	@go test -tags long ./internal/torture -run '^TestMutants$$' -count=1 -v -timeout 0 -torture.seed $(SEED) -torture.report $(REPORT)

soak: ## Run at half of what is possible for DURATION, and through 100,000 lives, and see that nothing grows
	@go test -tags long ./internal/torture -run '^TestSoak$$' -count=1 -v -timeout 0 -torture.duration $(DURATION) -torture.report $(REPORT)
	@go test ./internal/store -run '^TestI8ManyLivesLeaveNothingBehind$$' -count=1 -v -lives 100000

# Installs what the shell variables apt, dnf, apk and brew name, after saying why.
define INSTALL
	if [ "$$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi; \
	for tool in apt-get dnf apk brew none; do command -v $$tool >/dev/null && break; done; \
	case $$tool in \
	apt-get) do="$$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 $$apt" ;; \
	dnf) do="$$sudo dnf install -y -q $$dnf" ;; \
	apk) do="$$sudo apk add --quiet $$apk" ;; \
	brew) do="brew install $$brew" ;; \
	*) echo "$$why: install $$apt"; exit 1 ;; \
	esac; \
	echo "$$why: installing it with $${sudo:+$$sudo }$$tool"; \
	said=$$(sh -c "$$do" 2>&1) || { echo "$$said"; exit 1; }
endef

# The race detector needs a C compiler.
compiler:
	@command -v "$$(go env CC | cut -d ' ' -f 1)" >/dev/null && exit 0; \
	why="No C compiler is installed, which the race detector needs"; \
	apt="gcc libc6-dev" dnf=gcc apk="gcc musl-dev" brew=gcc; \
	$(INSTALL)

# The proxy is tested with a real browser, too. Where it may be is also in e2e_browser_test.go.
browser:
	@for name in chromium chromium-browser google-chrome google-chrome-stable \
		"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" /Applications/Chromium.app/Contents/MacOS/Chromium; do \
		command -v "$$name" >/dev/null && exit 0; \
	done; \
	why="No Chromium is installed, which tests of the proxy need"; \
	apt=chromium dnf=chromium apk=chromium brew="--cask google-chrome"; \
	$(INSTALL)

lint: ## Check style, imports and common mistakes
	@$(GOLANGCI) run

fuzz: ## Fuzz every target for FUZZTIME (10s)
	@set -e; grep -roE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' . | sed 's,/[^/]*:func , ,' | sort | \
	while read -r package name; do \
		echo "$$package $$name"; \
		go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x $$package; \
	done

bench: build ## Measure connects, the proxy (ARGS='--duration 1s') and starts (STARTS=25)
	@./bin/jetway bench connect --dev $(ARGS)
	@./bin/jetway bench proxy --dev $(ARGS)
	@./bin/jetway bench start --dev --starts $(STARTS)

clean: ## Remove what build made; the data of run stays in .jetway
	@rm -rf bin
