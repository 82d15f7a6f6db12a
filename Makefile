# Thin: each target is one command that also works by hand. `make help` lists them.
CARGO ?= cargo

.PHONY: help demo demo-down test chaos measure lint bench

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

demo: ## a real Kubernetes, this operator, a real PostgreSQL, and a query answered by it
	@./demo/up

demo-down: ## ends the demo; nothing is left but the cache
	@./demo/down

test: ## every test: pure, on a real control plane, on a real node
	@./test/run

chaos: ## replicas under faults of every kind for CHAOS_MINUTES (30), in an order of CHAOS_SEED (1)
	$(CARGO) build --quiet --workspace --bins
	CHAOS_MINUTES=$${CHAOS_MINUTES:-30} $(CARGO) test --workspace --test replicas chaos -- --nocapture

measure: ## takeovers, handovers, memory, outages: each figure of docs/sharding.md that takes real replicas (90 minutes)
	$(CARGO) build --quiet --workspace --bins
	$(CARGO) build --quiet --release --workspace --bin database-operator
	REPLICAS_OPERATOR=$(CURDIR)/target/release/database-operator $(CARGO) test --workspace --test replicas measure -- --ignored --nocapture --test-threads=1

lint: ## format, clippy, rustdoc, licences and sources of dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	$(CARGO) clippy --workspace --test cluster --test crd_deletion --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet
	./test/deny

bench: ## criterion benchmarks
	$(CARGO) bench --workspace
