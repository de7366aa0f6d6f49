# The targets of this repository. Cargo decides what to build, so nothing is rebuilt without a change.
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
# The prerequisites of a target run one after the other, because cargo itself uses all cores.
.NOTPARALLEL:

# The engine's crates declare a newer rustc than some machines have, but they compile with 1.95. There cargo ignores the
# declaration.
rust_version := $(shell rustc --version 2>/dev/null | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
ignore_rust_version := $(if $(shell [ "$(or $(rust_version),0)" -lt 97 ] && echo older),--ignore-rust-version)
# The host is built in CARGO_TARGET_DIR. The guests' components are always in target/guests.
host_target := $(or $(CARGO_TARGET_DIR),target)
# WITH_CLIPPY=1: the build of the tests also lints. This is an option of cargo instead of a variable, because the tests run cargo
# themselves.
with_clippy := $(if $(WITH_CLIPPY),--config 'build.rustc-workspace-wrapper="$(CURDIR)/.ci/clippy.sh"')
# The benchmark's driver and peers are a separate cargo workspace.
peers := --manifest-path host/benches/peers/Cargo.toml --target-dir $(host_target)/peers

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

# The counter compiles beside the host. cargo's own progress lines follow the first one.
.PHONY: run
run: setup ## build for a first look, and serve the counter on http://127.0.0.1:3000/session
	@echo "make run: builds the host (profile quick, some 330 crates) and the guest counter; from nothing this takes minutes"
	@guests/build.sh counter & counter=$$!; \
	cargo build --locked $(ignore_rust_version) --profile quick --package cloakroom && wait $$counter
	@$(host_target)/quick/cloakroom serve target/guests/counter.wasm

.PHONY: build
build: guests-rust ## build target/release/cloakroom and the guests in Rust: target/guests/*.wasm
	cargo build --locked $(ignore_rust_version) --release --package cloakroom

.PHONY: guests
guests: guests-rust ## build the guests in all languages; needs Node.js and Python with venv
	@guests/sdk/js/build.sh
	@guests/sdk/python/build.sh

.PHONY: guests-rust
guests-rust: setup
	@guests/build.sh

# Tests that kill servers, fill disks, start many clients or follow the book from an empty folder take minutes each, and the
# others listed here take half a minute each, so `make test` leaves them to test-long. `make test` runs three tests of the
# database cluster (two minutes at most), and test-cluster runs the others.
long_tests := long:: faults:: book:: guests::ten_thousand_hostile_requests storm::increments storm::get_and_set \
	stalled_log::a_reader_that_comes_back swap::load

.PHONY: test
test: test-sdks test-host ## run the tests; installs MariaDB, Node.js and Python's venv for them if possible

# The runtime's tests run the fixtures, so those are built first. Needs Rust alone: no database, no Node.js, no Python.
.PHONY: test-unit
test-unit: guests-rust ## run the unit tests of all crates; needs only Rust
	cargo test --locked $(ignore_rust_version) --workspace --lib --bins

.PHONY: test-sdks
test-sdks: test-setup guests
	guests/cargo.sh test --locked --release --package cloakroom-guest --features service
	guests/cargo.sh test --locked --release --package cloakroom-testing
	cd guests/sdk/js && npm test --silent && npm run --silent check
	guests/sdk/python/test.sh

.PHONY: test-host
test-host: test-setup guests
	cargo test --locked $(ignore_rust_version) $(with_clippy) --workspace -- $(addprefix --skip ,$(long_tests))
	@# Unit tests in modules of these names are short.
	cargo test --locked $(ignore_rust_version) $(with_clippy) --workspace --lib -- long:: faults::

# Builds everything that the tests need from cargo, and runs nothing.
.PHONY: test-build
test-build:
	cargo test --locked $(ignore_rust_version) $(with_clippy) --workspace --no-run

# Run this by hand before a release, like test-cluster. `make test` leaves these tests out to keep the check of each change short.
.PHONY: test-long
test-long: lint test-setup guests ## run the tests that take minutes each, and those of the benchmark
	CLOAKROOM_TEST_CASES=$${CLOAKROOM_TEST_CASES:-10000} \
		cargo test --locked $(ignore_rust_version) --workspace -- $(long_tests) serial:: --skip cluster:: --test-threads 2
	cargo clippy --locked $(ignore_rust_version) $(peers) --package cloakroom-peers --all-targets -- -D warnings
	cargo test --locked $(ignore_rust_version) $(peers) --package cloakroom-peers

# Three database nodes, three hosts, one fault after the other. The output lines that begin with | are the table in
# host/docs/src/cluster.md. CLUSTER_ONLY selects tests by a part of their name. If CLOAKROOM_MYSQL names an unpacked MySQL
# (tests/mysql.sh unpack), its clusters are also tested.
.PHONY: test-cluster
test-cluster: build test-setup ## test each fault on a cluster of three databases, a quarter of an hour; prints the book's table
	CLOAKROOM_TEST_BINARY=$(abspath $(host_target)/release/cloakroom) cargo test --locked $(ignore_rust_version) --workspace -- \
		--nocapture --test-threads 1 $(or $(CLUSTER_ONLY),cluster::)

# CLOAKROOM_SIEGE_SECONDS=300 make siege runs for five minutes.
.PHONY: siege
siege: build test-setup ## run all hostile clients together with 100 visitors for half an hour; compare latency and memory
	CLOAKROOM_SIEGE_SECONDS=$${CLOAKROOM_SIEGE_SECONDS:-1800} CLOAKROOM_TEST_BINARY=$(abspath $(host_target)/release/cloakroom) \
		cargo test --locked $(ignore_rust_version) --workspace -- --nocapture siege::

# FUZZ_SECONDS=1800 FUZZ_ONLY="head rows" make fuzz
.PHONY: fuzz
fuzz: ## fuzz the parsing of heads, cookies, rows, configurations and components, a minute each
	@host/fuzz/run.sh --locked $(ignore_rust_version)

.PHONY: test-setup
test-setup:
	@tests/setup.sh

# A full run (9 contenders, 5 rounds) writes its results to host/benches/results and to README.md. A shorter one only shows them:
# BENCH_SECONDS=1 BENCH_ROUNDS=2 BENCH_ONLY=cloakroom_mysql,axum_mysql make bench
.PHONY: bench
bench: build ## compare with Express, axum and wasmtime serve: alternating rounds, some seven minutes
	@tests/setup.sh
	cargo build --locked $(ignore_rust_version) --release $(peers)
	@wasmtime=$$(host/benches/peers/setup.sh $(host_target)/peers) && \
	$(host_target)/peers/release/peers --cloakroom $(host_target)/release/cloakroom --wasmtime "$$wasmtime" \
		--axum $(host_target)/peers/release/axum-peer --scratch $(host_target)/peers/run \
		--seconds "$(BENCH_SECONDS)" --rounds "$(BENCH_ROUNDS)" --only "$(BENCH_ONLY)"

# A series at full length (3 rounds, 5 s per turn; 600 s for the series `run`) writes its page to host/benches/results/scale. A
# shorter one only shows it. The series: connections, sessions, reaper, size, guests, hosts, idle, run.
# SCALE_SECONDS=1 SCALE_ROUNDS=1 SCALE_RUN_SECONDS=60 SCALE_ONLY=connections,run make scale
.PHONY: scale
scale: build ## measure with more connections, sessions, guests and hosts, one series at a time; most of an hour
	@tests/setup.sh
	cargo build --locked $(ignore_rust_version) --release $(peers) --package cloakroom-peers
	@ulimit -n "$$(ulimit -Hn)"; \
	$(host_target)/peers/release/peers scale --cloakroom $(host_target)/release/cloakroom --scratch $(host_target)/peers/run \
		--seconds "$(SCALE_SECONDS)" --rounds "$(SCALE_ROUNDS)" --run-seconds "$(SCALE_RUN_SECONDS)" --only "$(SCALE_ONLY)"

# Both select benchmarks by a part of their name: BENCH_ONLY=codec make bench-micro
.PHONY: bench-micro
bench-micro: guests-rust ## time the parts of a request in one process: cookie, session, instance, store
	cargo bench --locked $(ignore_rust_version) --package cloakroom --bench micro -- $(BENCH_ONLY)

.PHONY: bench-counts
bench-counts: guests-rust ## count the instructions of these parts under valgrind and compare with host/benches/micro/counts.toml
	cargo bench --locked $(ignore_rust_version) --package cloakroom --bench counts -- $(BENCH_ONLY)

# After a small change, this takes less than two minutes.
.PHONY: check
check: format tidy ## check formatting, project rules and types; the quick check of each change
	cargo check --locked $(ignore_rust_version) --workspace --all-targets

# The rules are in tests/tidy/tests/tidy.rs. They read source text, so nothing of the host is compiled.
.PHONY: tidy
tidy:
	cargo test --quiet --locked $(ignore_rust_version) --package cloakroom-tidy

# REV=91727b9 make tidy-figures counts the files of that commit.
.PHONY: tidy-figures
tidy-figures: ## print figures of the code: language, names, lengths, import circles, places touched per kind of change
	@cargo run --quiet --locked $(ignore_rust_version) --package cloakroom-tidy -- $(REV)

.PHONY: lint
lint: format lint-guests ## check formatting, lints and documentation
	cargo clippy --locked $(ignore_rust_version) --workspace --all-targets -- -D warnings
	@# The host without the commands for authors of guests.
	cargo clippy --locked $(ignore_rust_version) --package cloakroom --no-default-features -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked $(ignore_rust_version) --workspace --no-deps

.PHONY: format
format: setup
	cargo fmt --all --check
	cargo fmt --manifest-path host/benches/peers/Cargo.toml --all --check
	guests/cargo.sh fmt --all --check

.PHONY: lint-guests
lint-guests: setup
	guests/cargo.sh clippy --locked --release --workspace --target wasm32-wasip2 -- -D warnings

# Checks the dependencies of the shipped workspaces: the host, and the guests with their SDKs. Installs cargo-deny if it is missing.
.PHONY: deny
deny: ## check the dependencies' versions, licenses and sources; takes seconds
	@.ci/deny.sh check $(host_target)/cargo-deny

.PHONY: audit
audit: ## look the dependencies up in the RustSec advisory database, which is on GitHub
	@.ci/deny.sh audit $(host_target)/cargo-deny

# Installs the wasm target, which the builds need in addition to cargo. Prints nothing if it is already installed.
.PHONY: setup
setup:
	@guests/setup-target.sh
