# What one types. `make` alone lists it.

# Where cargo puts what it builds.
TARGET := $(or $(CARGO_TARGET_DIR),target)

# Without root, namespaces are made in a user namespace: cargo runs each test program through `uvs lab exec`.
ifneq ($(shell id -u),0)
HOST := $(shell rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
RUNNER := CARGO_TARGET_$(HOST)_RUNNER="$(abspath $(TARGET))/debug/uvs lab exec"
endif

# Where `make deb` puts what it makes.
DEBS := $(abspath $(TARGET))/deb/packages

FUZZ_SECONDS ?= 600
# What the daemons of the lab's tests did with their frames, a line each.
FRAMES := $(abspath $(TARGET))/lab-frames

# What `make bench-side` runs and for how long: --mode, --load, --peer, --workers, --rounds, --seconds, --print; `side --help`.
SIDE ?=
# `make bench-services`: --services, --hook, --ipvsadm, --rounds; `services --help`.
SERVICES ?=
# And `make bench-upgrade`: --hook, --mode, --upgrades, --rate, --downloads; `upgrade --help`.
UPGRADE ?=
# `make bench-beside`: the commit, what the engine's bench filters by, --rounds; `benches/beside --help`.
BESIDE ?=
# And `make bench-engines`: --at-once, --rounds, --connections, --milliseconds, --passes; `engines --help`.
ENGINES ?=

.DEFAULT_GOAL := help
# A test in the lab waits more than it computes.
export RUST_TEST_THREADS ?= 4

.PHONY: help build static container demo deb deps test test-deb test-static test-hook miri miri-plugin fuzz lint loc bpf bench bench-table bench-beside bench-engines bench-services bench-side bench-upgrade proxy-load

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

deps: ## see that the programs the tests run are there; as root, install what lacks through apt
	@lab/deps.sh test

build: ## build release/uvs, and the library beside it for keepalived and others
	cargo build --release -p uvs -p uvs-ipvs-preload

deb: ## make the Debian packages uvs, uvs-ipvsadm and uvs-dev, in target/deb/packages
	@packaging/deb.sh $(DEBS)

test-deb: ## those packages under lintian, and on a machine that systemd boots: installed, upgraded, removed; needs root
	@lab/deps.sh deb
	cargo build -p uvs -p uvs-ipvs-preload
	@rm -rf $(DEBS)
	@$(MAKE) --no-print-directory deb
	UVS_DEBS=$(DEBS) cargo test -p uvs --test packages

# Linked with musl: glibc's names of hosts (NSS) need its own libraries beside a static program, musl's do not.
STATIC := $(shell rustc -vV | sed -n 's/^host: \([^-]*\)-.*/\1/p')-unknown-linux-musl
static: ## build container/uvs, one static program, without plugins and lab; needs the target: rustup target add $(STATIC)
	@test -d "$$(rustc --print sysroot)/lib/rustlib/$(STATIC)" || { echo "static: no target $(STATIC) here: rustup target add $(STATIC)"; exit 1; }
	cargo build --release --target $(STATIC) -p uvs --no-default-features
	@mkdir -p $(TARGET)/container
	strip -o $(TARGET)/container/uvs $(TARGET)/$(STATIC)/release/uvs
	@echo "static: $(TARGET)/container/uvs is linked statically and has no plugins"

test-static: static ## that program, and an image of it where buildah is: that they serve, and say what they have not got
	cargo build -p uvs
	UVS_STATIC=$(abspath $(TARGET))/container/uvs $(RUNNER) cargo test -p uvs --test packaged -- --nocapture

container: static ## build an image of that, with buildah, which needs neither a daemon nor the network
	buildah bud --isolation chroot -f packaging/container/Containerfile --target static -t uvs:$(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1) $(TARGET)/container

demo: ## build, and show the four modes on real traffic in a lab of network namespaces
	@lab/deps.sh demo
	cargo build --release -p uvs
	$(TARGET)/release/uvs lab demo

test: deps ## run everything: engine, programs, the lab's topologies, and random bytes into the engine; then test-hook
	cargo build -p uvs -p uvs-ipvs-preload
	@rm -f $(FRAMES) $(FRAMES)-off $(FRAMES)-guard
	UVS_LAB_FRAMES=$(FRAMES) $(RUNNER) cargo test --workspace --all-targets
	@lab/frames.sh $(FRAMES)
	$(RUNNER) cargo test --workspace --doc
	@$(MAKE) --no-print-directory test-hook

# What forwards, and so may not differ by who does it. As root everything above ran with the whole hook already, which
# the suite `hook` demands; without root there is none, as no user namespace may load a program.
HOOK_SUITES := marks teardown routed restore sharing sip trace reload access
# Where frames are told apart by the hook, as in the run before, nothing of the host's differs.
HOOK_SUITES_off := host
HOOK_MODES := $(if $(RUNNER),,off guard)
# And the engine by itself, which has a model of the program in the kernel: it tells frames apart, or takes all it may.
MODEL_MODES := guard tier
# Asks for the model itself, and a flood in which it takes nothing.
MODEL_SKIPS := conversations_make_no_difference a_flood_of_a_million_half_open_connections
test-hook: ## what forwards, again without the hook, and with one that only tells frames apart; the daemons' part needs root
	for mode in $(MODEL_MODES); do \
		echo "== the model, UVS_HOOK=$$mode"; \
		UVS_HOOK=$$mode lab/built.sh modes schedulers ipvsadm -- $(MODEL_SKIPS:%=--skip %) || exit; \
		UVS_HOOK=$$mode lab/built.sh forwarder:lib -- golden:: || exit; \
	done
	@$(if $(HOOK_MODES),,echo "test-hook: without root there is no hook, and all tests of daemons ran without it: nothing more to run")
	for mode in $(HOOK_MODES); do \
		echo "== UVS_HOOK=$$mode"; \
		UVS_HOOK=$$mode UVS_LAB_FRAMES=$(FRAMES)-$$mode cargo test -p uvs $(HOOK_SUITES:%=--test %) $$([ $$mode = off ] && echo $(HOOK_SUITES_off:%=--test %)) || exit; \
		UVS_HOOK=$$mode UVS_LAB_FRAMES=$(FRAMES)-$$mode cargo test -p uvs --test traffic offloads_default::transfers || exit; \
		lab/frames.sh $(FRAMES)-$$mode || exit; \
	done

# What Miri can run: the plugin ABI's two sides against each other (no library is loaded), and what reads and writes bytes.
# Leaks do not count in the former: a caught panic's payload is forgotten on purpose, as its destructor may panic again.
MIRI := PROPTEST_CASES=8 MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-ignore-leaks" cargo +nightly miri test
miri: miri-plugin ## undefined behaviour in the plugin's two sides and the wire formats; needs a nightly toolchain with miri and rust-src
	$(MIRI) -p uvs-core --lib -- bytes:: wire::

# What CI runs: the wire formats are safe code, which has undefined behaviour only through what it calls.
miri-plugin: ## undefined behaviour in the plugin's two sides
	@cargo +nightly miri --version >/dev/null 2>&1 || { echo "miri: no Miri here: rustup component add --toolchain nightly miri rust-src"; exit 1; }
	$(MIRI) -p uvs-plugin --test faults

fuzz: ## coverage-guided fuzzing of the engine and of the exporter's HTTP, FUZZ_SECONDS each; needs a nightly toolchain and cargo-fuzz
	@cargo fuzz --version >/dev/null 2>&1 || { echo "fuzz: cargo-fuzz is missing: cargo install --locked cargo-fuzz"; exit 1; }
	for target in handle_frame http_request; do \
		mkdir -p fuzz/corpus/$$target; \
		cargo +nightly fuzz run $$target fuzz/corpus/$$target fuzz/seeds/$$target -- -max_total_time=$(FUZZ_SECONDS) || exit; \
	done

lint: ## formatting, clippy, documentation and licences, with warnings denied
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@# As the static build is: without plugins, and as in a package without the lab.
	cargo clippy -p uvs --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items
	@if command -v yamllint >/dev/null; then yamllint -s -c packaging/kubernetes/yamllint.yaml packaging/kubernetes/*.yaml; else echo "lint: packaging/kubernetes is not checked: no yamllint here"; fi
	@if command -v kubernetes-validate >/dev/null; then kubernetes-validate --strict --quiet packaging/kubernetes/daemonset.yaml; else echo "lint: its schema is not checked: no kubernetes-validate here (pip install kubernetes-validate)"; fi
	@if command -v cargo-deny >/dev/null; then \
		echo "cargo deny check licenses bans sources"; \
		cargo deny --log-level error check licenses bans sources; \
	else \
		echo "lint: licences are not checked: no cargo-deny here (cargo install --locked cargo-deny)"; \
	fi

loc: ## lines of Rust by crate: the product's, and its tests'
	@lab/loc.sh

bpf: ## compile the hook's program; needs clang-14 and llvm-14 (cargo build takes the object that is committed)
	$(MAKE) -C hook/bpf all

bench: deps ## the engine's benches, and a scrape's
	cargo bench -p uvs-benches -p uvs-exporter

bench-table: ## what a connection costs in memory: fills the table with a million
	cargo run --release -p uvs-benches --bin table

bench-beside: deps ## what the engine costs beside that of another commit, in one run; BESIDE="c44c7d1f --rounds 5" says which
	benches/beside $(BESIDE)

bench-engines: ## what 1, 2 and 4 engines, and workers, at once cost a frame; ENGINES="--at-once 1,8 --rounds 5" picks
	cargo run --release -p uvs-benches --bin engines -- $(ENGINES)

bench-services: deps ## what a table of 100, 1000 and 10000 services costs to fill, change, list and empty
	cargo build --release -p uvs -p uvs-benches
	$(TARGET)/release/services --uvs $(TARGET)/release/uvs $(SERVICES)

proxy-load: ## clients named by the PROXY protocol through bad lines, and behind one local address; CONNECTIONS=60000 makes more
	UVS_PROXY_CONNECTIONS=$(or $(CONNECTIONS),10000) $(RUNNER) cargo test --release -p uvs --test introduced -- --nocapture --test-threads 1

bench-upgrade: ## what clients notice of ten upgrades in a row; UPGRADE="--hook off --mode fullnat" picks
	@lab/deps.sh bench
	cargo build --release -p uvs -p uvs-benches
	$(TARGET)/release/upgrade --uvs $(TARGET)/release/uvs $(UPGRADE)

bench-side: ## UVS beside haproxy, nftables and the limit, into benches/RESULTS.md; SIDE="--load bulk --rounds 3 --print" picks
	@lab/deps.sh bench
	cargo build --release -p uvs -p uvs-benches
	$(TARGET)/release/side --uvs $(TARGET)/release/uvs $(SIDE)
