# Jetway's everyday commands. `make` lists them.

ARGS      ?=
GOTEST    ?= go test
TESTFLAGS ?=
# Only a hang meets it: it bounds one package's tests.
TIMEOUT   ?= 30m
# Packages tested at a time: most wait more than they work.
PARALLEL  ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
# Of make test-slow: how often, and with how many hundredths of a processor.
ROUNDS    ?= 3
PERCENT   ?= 50
FUZZTIME  ?= 10s
STARTS    ?= 25
GOLANGCI  ?= go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# Of what is shipped: for which machines, as which version, and by which tools (the newer nfpm has parts that cannot be had).
ARCHS     ?= amd64 arm64
VERSION   ?= $(shell (git describe --tags --match 'v[0-9]*' 2>/dev/null || git log -1 --format='0.0.0+%cd.%h' --date=format:%Y%m%d%H%M%S 2>/dev/null || echo 0.0.0) | sed 's/^v//')
IMAGE     ?= jetway
DOCKER    ?= docker
NFPM      ?= go run github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.44.2
CYCLONEDX ?= go run github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

# The version that `jetway version` shows is the tag or commit that Go records.
VCS = $(shell git status >/dev/null 2>&1 && echo true || echo false)

# Of the tests that torture: how long, from which seed (0: a new one), with which
# faults ("kill,cut"; all where none is named), and where a failed run leaves its history.
DURATION ?= 10m
SEED     ?= 0
FAULTS   ?=
REPORT   ?= /tmp/jetway-torture

.PHONY: help build run test test-all test-race test-long test-slow mixed torture mutants soak apps plane-cli compiler browser lint fuzz bench bench-beside dist deb images deploy-tools deploy-test hosts-test helm-test clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Passes on what a command of Go's prints, but counts what it compiles and downloads, for on
# a slow machine that takes minutes. The command is followed by a line with its exit code.
define PROGRESS
awk '/^exit [0-9]+$$/ {code = $$2; next} \
	/^go: downloading / {if (++d % 20 == 1) {print "  downloading modules: " d; fflush()}; next} \
	/^[A-Za-z0-9_.~\/-]+$$/ {if (++n % 40 == 0) {print "  compiled " n " packages"; fflush()}; next} \
	{print; fflush()} END {exit code}'
endef

build: ## Build bin/jetway and bin/room
	@mkdir -p bin
	@echo "compiling jetway and room (the first time takes a while)"
	@{ CGO_ENABLED=0 go build -v -trimpath -buildvcs=$(VCS) -o bin/ ./cmd/jetway ./cmd/room; echo "exit $$?"; } 2>&1 | $(PROGRESS)

# Ctrl-C reaches jetway itself, which stops everything; make waits for that.
run: build ## Run all of Jetway here: NATS, Postgres, worker, drone, proxy (ARGS='--proxy-port 0')
	@exec ./bin/jetway dev $(ARGS)

# Half of its time on a fresh machine is the compiler's: make lint vets, and no debugger needs
# the binaries' tables. It compiles as make build does, so nothing is compiled twice.
TEST = CGO_ENABLED=0 $(GOTEST) -trimpath -vet=off -ldflags='-s -w'
RACE = CGO_ENABLED=1 $(GOTEST) -race -vet=off -ldflags=-w

test: browser ## Run the tests, each in the smallest form that shows what it guards
	@$(call COMPILE_TESTS,CGO_ENABLED=0,-trimpath)
	@$(call TESTS,,$(TEST) -p $(PARALLEL) -timeout $(TIMEOUT) $(TESTFLAGS) ./...,running the tests)

test-all: ## Run make test, test-long and test-race
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory test-long
	@$(MAKE) --no-print-directory test-race

# make test notes which tests it leaves out and which it makes small. These are run, and no others.
test-long: browser ## Run in full size the tests that make test leaves out or makes small
	@test -d "$(CURDIR)/bin/left-out/running the tests" || $(MAKE) --no-print-directory test
	@noted=$$(cat "$(CURDIR)/bin/left-out/running the tests"/* | sed -nE 's/^(long|small) //p'); \
	names=$$(echo "$$noted" | cut -d ' ' -f 2 | sort -u | paste -sd '|' -); packages=$$(echo "$$noted" | cut -d ' ' -f 1 | sort -u); \
	$(call TESTS,JETWAY_TEST_ALL=1,$(TEST) -p $(PARALLEL) -timeout $(TIMEOUT) -run "^($$names)\$$" $(TESTFLAGS) $$packages,running the tests in full size)

# The race detector takes several times the work: by itself it is for the packages whose goroutines share what they have, and not for those
# whose tests start programs and look at them from outside (RACED=./... for all). Memory is not measured so.
RACED ?= $(shell go list ./... | grep -vE '/internal/(cli|conformance|deployed|dev|dev/natsd|dev/postgres|testkit|torture)$$')
test-race: compiler browser ## Run the tests of make test with the race detector (RACED=./... in all packages)
	@$(call COMPILE_TESTS,CGO_ENABLED=1,-race,$(RACED))
	@$(call TESTS,,$(RACE) -p $(PARALLEL) -timeout $(TIMEOUT) -skip Memory $(TESTFLAGS) $(RACED),running the tests with the race detector)

test-slow: browser ## Run the tests ROUNDS (3) times with half a processor, beside a load
	@$(call COMPILE_TESTS,CGO_ENABLED=0,-trimpath)
	@$(call TESTS,JETWAY_TEST_PATIENCE=4,internal/testkit/slow.sh $(PERCENT) $(ROUNDS) \
		env $(TEST) -count=1 -p $(PARALLEL) -timeout 4h $(TESTFLAGS) ./...,running the tests)

# Compiles all that is tested, which go test would do in silence: $(1) is its environment, $(2) its flags, $(3) the packages, all if there are none.
define COMPILE_TESTS
echo "compiling the tests (the first time takes a while)"; \
{ $(1) go list -v -test -deps -export $(2) -f '{{""}}' $(or $(3),./...) >/dev/null; echo "exit $$?"; } 2>&1 | $(PROGRESS)
endef

# Runs tests, $(2), in an environment, $(1), after saying so, $(3), and says at the end what was left out. What a
# package left out stays known where its result is remembered, for runs of the same kind.
define TESTS
export $(1) JETWAY_TEST_LEFT_OUT="$(CURDIR)/bin/left-out/$(3)" && mkdir -p "$$JETWAY_TEST_LEFT_OUT" && echo "$(3)" && \
said="$(CURDIR)/bin/left-out/said" && \
{ internal/testkit/running.sh & running=$$!; }; \
{ { $(2); echo $$? >"$$said.code"; } 2>&1 | tee "$$said"; }; code=$$(cat "$$said.code"); kill $$running 2>/dev/null; \
grep -E '^ *--- FAIL|^FAIL.*[[:space:]]' "$$said" | sed 's/^/failed: /'; \
cat "$$JETWAY_TEST_LEFT_OUT"/* 2>/dev/null | sort -u | awk \
	'/^here / {sub("here ", ""); print "left out here: " $$0} /^long / {n++} /^small / {m++} \
	END {if (n + m) print n + 0 " long tests are left to make test-long, and " m + 0 " are larger there"}'; \
exit $$code
endef

torture: ## Attack the whole system for DURATION (10m), its faults from SEED
	@go test ./internal/torture -run '^TestTorture$$' -count=1 -v -timeout 0 -torture.duration $(DURATION) -torture.seed $(SEED) -torture.faults "$(FAULTS)" -torture.report $(REPORT)

mutants: ## See that the attack finds deliberate bugs
	@go test -tags long ./internal/torture -run '^TestMutants' -count=1 -v -timeout 0 -torture.seed $(SEED) -torture.report $(REPORT)

soak: ## Run at half of what is possible for DURATION, and through 100,000 lives, and see that nothing grows
	@go test -tags long ./internal/torture -run '^TestSoak$$' -count=1 -v -timeout 0 -torture.duration $(DURATION) -torture.report $(REPORT)
	@go test ./internal/store -run '^TestI8ManyLivesLeaveNothingBehind$$' -count=1 -v -lives 100000

# They are in a folder that the go command does not look into: packages of npm hold Go files.
apps: browser ## Try real applications through the proxy in a browser, against the table of deploy/README.md
	@deploy/apps/install.sh "$(CURDIR)/bin/.apps"
	@$(TEST) -tags apps -count=1 -v -timeout 1h -run '^TestApps$$' ./internal/proxy -apps "$(CURDIR)/bin/.apps"

# Plane is on crates.io. Its own command and client are compiled once, which takes some minutes, and ask a gateway of a stack of the
# test's own: no Docker, Postgres or NATS is needed beside what the tests have.
PLANE ?= 0.5.5
plane-cli: ## Run Plane's own CLI and Rust client against the gateway (compiles them with cargo)
	@command -v cargo >/dev/null || { echo "No Rust is installed, which Plane is compiled with: install it with rustup, version 1.80 or later"; exit 1; }
	@test -x bin/.plane/bin/plane || { echo "compiling Plane $(PLANE) (the first time takes some minutes)"; \
		cargo install --quiet --debug --locked --version $(PLANE) --root bin/.plane --target-dir bin/.plane/target plane; }
	@cargo build --quiet --manifest-path internal/gateway/testdata/plane/Cargo.toml --target-dir bin/.plane/target
	@$(TEST) -tags plane -count=1 -v -run '^TestPlanesOwn' ./internal/gateway \
		-plane "$(CURDIR)/bin/.plane/bin/plane" -plane-client "$(CURDIR)/bin/.plane/target/debug/plane-client"

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

bench: build ## Measure connects, the proxy (ARGS='--duration 1s'), starts (STARTS=25) and heartbeats
	@./bin/jetway bench connect --dev $(ARGS)
	@./bin/jetway bench proxy --dev $(ARGS)
	@./bin/jetway bench start --dev --starts $(STARTS)
	@./bin/jetway bench heartbeat --dev

# Makes $$other a jetway of OTHER for what follows in the same shell.
define OTHER_JETWAY
test -n "$(OTHER)" || { echo "OTHER must name a file, another jetway, or a commit of this repository"; exit 2; }; \
set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; other="$(OTHER)"; \
if [ -f "$$other" ]; then \
	cp "$$other" "$$dir/jetway"; \
else \
	echo "compiling jetway of $$other"; mkdir "$$dir/src"; \
	git archive "$$other" >"$$dir/src.tar"; tar -x -C "$$dir/src" -f "$$dir/src.tar"; \
	(cd "$$dir/src" && CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$$dir/jetway" ./cmd/jetway); \
fi; \
other="$$dir/jetway"
endef

bench-beside: build ## Measure this build beside OTHER, a jetway or a commit, in turns (ARGS='--turns 30')
	@$(OTHER_JETWAY); ./bin/jetway bench beside --other "$$other" $(ARGS)

mixed: ## Upgrade a system of OTHER, a jetway or a commit, to this build, part by part
	@$(OTHER_JETWAY); JETWAY_TEST_OTHER="$$other" $(TEST) -count=1 -v -run '^TestI1I5I7SystemOfAnotherBuild' ./internal/cli

dist: ## Build jetway and room for ARCHS (amd64 arm64) in bin/dist, each with its SBOM
	@set -e; for arch in $(ARCHS); do \
		dir=bin/dist/$$arch; mkdir -p $$dir; \
		echo "compiling jetway and room for linux/$$arch"; \
		CGO_ENABLED=0 GOOS=linux GOARCH=$$arch go build -trimpath -buildvcs=$(VCS) -ldflags='-s -w' -o $$dir/ ./cmd/jetway ./cmd/room; \
		GOFLAGS= $(CYCLONEDX) bin -json -noserial -version "v$(VERSION)" -output $$dir/sbom.json $$dir/jetway 2>&1 | grep -v ' INF ' || true; \
		test -s $$dir/sbom.json; \
	done

deb: dist ## Make Debian packages of ARCHS in bin/dist: the program, its units and users
	@set -e; for arch in $(ARCHS); do \
		BIN=bin/dist/$$arch ARCH=$$arch VERSION="$(VERSION)" $(NFPM) package --config deploy/debian/nfpm.yaml --packager deb --target bin/dist/; \
	done

# Where a machine has the certificates of authorities, which an image from scratch takes along.
CA = $(firstword $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem))

images: dist ## Build the images jetway and jetway-room with DOCKER (docker), those of other machines tagged -<arch>
	@set -e; here=$$(go env GOHOSTARCH); for arch in $(ARCHS); do \
		dir=bin/dist/$$arch; cp "$(CA)" $$dir/ca-certificates.crt; \
		suffix=-$$arch; if [ $$arch = $$here ]; then suffix=; fi; \
		for name in $(IMAGE):deploy/images/Dockerfile $(IMAGE)-room:deploy/images/room.Dockerfile; do \
			file=$${name##*:}; name=$${name%:*}; \
			echo "building $$name:latest$$suffix"; \
			$(DOCKER) build -q --platform linux/$$arch -f $$file -t $$name:latest$$suffix -t $$name:$(subst +,-,$(VERSION))$$suffix $$dir >/dev/null; \
			is=$$($(DOCKER) image inspect -f '{{.Architecture}}' $$name:latest$$suffix); \
			test "$$is" = $$arch || { echo "$(DOCKER) has built $$name for $$is, not for $$arch: use one that heeds --platform"; exit 1; }; \
		done; \
	done

# What the tests of deploy take, in bin/.tools: a Debian system with systemd and Postgres, two packages of which the second is an
# upgrade, docker-compose, and a NATS server for images from scratch.
TOOLS = bin/.tools
DEPLOY_TEST = JETWAY_TEST_TOOLS="$(CURDIR)/$(TOOLS)" JETWAY_TEST_ALL=1 $(TEST) -tags deploy -count=1 -v -timeout 2h

deploy-tools:
	@mkdir -p $(TOOLS)/debs
	@test -x $(TOOLS)/nats-server || { echo "compiling a NATS server"; CGO_ENABLED=0 go build -trimpath -o $(TOOLS)/nats-server github.com/nats-io/nats-server/v2; }

deploy-test: deploy-tools ## Install the Debian package in a system of its own, and go through its life; start compose, jetway dev and the sandbox of the examples with engines of their own (root)
	@for tool in mmdebstrap systemd-nspawn; do command -v $$tool >/dev/null || { \
		why="No $$tool is installed, which a system of its own takes"; apt="mmdebstrap systemd-container" dnf="mmdebstrap systemd-container" apk=none brew=none; $(INSTALL); break; }; done
	@test -e $(TOOLS)/root.tar || { echo "making a Debian system (minutes)"; \
		said=$$(mmdebstrap --format=tar --variant=minbase --include=systemd,systemd-sysv,dbus,ca-certificates,procps,postgresql,python3 \
			--customize-hook='copy-in $(TOOLS)/nats-server /usr/local/bin' bookworm $(TOOLS)/root.new 2>&1) || { echo "$$said"; exit 1; }; mv $(TOOLS)/root.new $(TOOLS)/root.tar; }
	@test -x $(TOOLS)/docker-compose || { echo "compiling docker-compose"; \
		GOFLAGS= CGO_ENABLED=0 go build -C deploy/compose/tool -trimpath -o "$(CURDIR)/$(TOOLS)/docker-compose" github.com/docker/compose/v2/cmd; }
	@rm -f $(TOOLS)/debs/*.deb; for version in 0.0.1 0.0.2; do \
		$(MAKE) --no-print-directory deb ARCHS=$$(go env GOHOSTARCH) VERSION=$$version && mv bin/dist/jetway_$${version}_*.deb $(TOOLS)/debs/ || exit 1; done
	@$(DEPLOY_TEST) -run 'Debian|Compose|Dev|Crash|Sandbox' ./internal/deployed

hosts-test: deploy-tools ## Run Jetway on ten hosts in network namespaces: upgrade each role, lose hosts, restore a backup (root)
	@$(DEPLOY_TEST) -run SeveralHosts ./internal/deployed

HELM ?= go run helm.sh/helm/v3/cmd/helm@v3.22.0
# Values that turn on all of the chart's parts, and the least that it takes.
HELM_ALL = postgres.dsn=postgres://db,drone.enabled=true,drone.keysDirectory=/etc/jetway,gateway.enabled=true,gateway.tokensSecret=tokens,gateway.tlsSecret=gt,nats.gatewaySecret=g,dns.enabled=true,dns.zones={a.example},dns.nameservers={b.example},nats.caSecret=ca,nats.workerSecret=w,nats.proxySecret=p,nats.dnsSecret=d,proxy.tlsSecret=t

helm-test: ## Lint the Helm chart, and see that Kubernetes' types know all that it makes
	@$(HELM) lint --quiet --strict --kube-version 1.33 --set postgres.dsn=postgres://db deploy/helm/jetway
	@set -e; for values in postgres.secret=db "$(HELM_ALL)"; do \
		$(HELM) template jetway deploy/helm/jetway --kube-version 1.33 --set "$$values" | GOFLAGS= go run -C deploy/helm/check .; done

clean: ## Remove what build made; the data of run stays in .jetway
	@rm -rf bin
