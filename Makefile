# Every recipe is one line; what is longer is a script in scripts/.
.DEFAULT_GOAL := help
.PHONY: help demo test test-all doctor packages build pages runtime python ui client clients interop convert frameworks oip-peer lint unit python-test ui-test e2e stories sim mutants bench-rollout bench-gates bench-ingest bench-devices bench-inference bench-shadow soak bench-models peers bench-drift bench-loop bench-watch trainers drift-campaign openapi api-fuzz fuzz release clean

LOCAL := .muster
export MUSTER_RUNTIME ?= $(abspath $(LOCAL)/runtime)

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build ## Play the whole story: epidemic, drift, retraining, rollout, a bad candidate stopped
	@$(LOCAL)/python/bin/python scripts/demo.py

test: doctor packages build client interop convert lint unit python-test ui-test stories ## Run every test; installs what the tests need
	@echo "All tests passed."

test-all: test trainers frameworks ## Run every test, and those whose tools take long to install
	@echo "All tests and all tools passed."

doctor: ## Say what this machine lacks, and the command that installs it
	@scripts/doctor.sh

packages: ## Install the Debian packages that the tests need (Mosquitto, Chromium, OpenSSL, PostgreSQL, fish, zsh, mandoc)
	@scripts/packages.sh

build: doctor runtime python ui ## Build everything that runs
	@cargo build --workspace --bins --locked

pages: ## Write manual pages and shell completions of all programs into .muster/share, laid out as below /usr/share
	@cargo run --quiet --locked -p muster-fleet --example pages -- $(LOCAL)/share

runtime: ## Fetch ONNX Runtime and OpenVINO (hash-pinned wheels) into .muster/runtime
	@scripts/get-runtime.sh $(LOCAL)/runtime

python: ## Make the example's Python environment in .muster/python
	@scripts/python-env.sh $(LOCAL)/python examples/er-capacity/requirements.lock

ui: ## Build the dashboard into fleet/dashboard/dist
	@scripts/dashboard.sh build

client: ## Make the environment of the Python client and its notebook in .muster/client
	@scripts/python-env.sh $(LOCAL)/client clients/python/requirements.lock

clients: client ## Write the Python client's types and methods anew from the API's description
	@$(LOCAL)/client/bin/python clients/python/tools/generate.py

frameworks: build client convert ## Export models anew from TensorFlow and scikit-learn (1.8 GB), and run them on boxes as signed bundles
	@scripts/python-env.sh $(LOCAL)/frameworks fleet/tests/fixtures/frameworks.lock
	@mkdir -p $(LOCAL)/exported && cp -r fleet/tests/fixtures/frameworks/. $(LOCAL)/exported
	@$(LOCAL)/frameworks/bin/python fleet/tests/fixtures/frameworks.py $(LOCAL)/exported tensorflow sklearn
	@FRAMEWORKS=$(abspath $(LOCAL)/exported) $(LOCAL)/python/bin/python hw-tests/stories.py frameworks

interop: ## Make the environments of the other tools that the tests talk to: python-tuf, model_signing, MLflow, inference clients
	@scripts/python-env.sh $(LOCAL)/interop fleet/tests/interop/requirements.lock
	@scripts/python-env.sh $(LOCAL)/oms fleet/tests/interop/oms-requirements.lock
	@scripts/python-env.sh $(LOCAL)/mlflow fleet/tests/interop/mlflow-requirements.lock
	@scripts/python-env.sh $(LOCAL)/oip agent/tests/interop/requirements.lock
	@scripts/python-env.sh $(LOCAL)/mlserver agent/tests/interop/mlserver-requirements.lock

convert: ## Make the environment of the tools that convert models: OpenVINO, NNCF, ONNX
	@scripts/python-env.sh $(LOCAL)/convert fleet/tools/convert/requirements.lock

oip-peer: interop runtime ## Play the suites of inference clients against the agent and against MLServer, and print both
	@cargo test --quiet --package muster-agent --test it clients_of_other_servers -- --nocapture

lint: ## Check formatting, lints and the dependency tree; warnings are errors
	@cargo fmt --all --check && cargo clippy --workspace --all-targets --locked -- -D warnings && scripts/deny.sh

unit: ## Run the Rust tests
	@scripts/oidc-env.sh
	@scripts/rust-tests.sh

python-test: python client ## Run the tests of the Python example and of the Python client
	@cd examples/er-capacity && ../../$(LOCAL)/python/bin/python -m pytest -q
	@cd clients/python && ../../$(LOCAL)/client/bin/python -m pytest -q && ../../$(LOCAL)/client/bin/python -m ruff check -q .

ui-test: ui ## Run the dashboard's unit tests and type checks
	@scripts/dashboard.sh test

e2e: ui ## Walk every page and act of the dashboard in a real browser, on a real fleet with running agents (part of stories)
	@$(LOCAL)/python/bin/python hw-tests/stories.py dashboard

stories: client convert ## Run the stories on real processes of this machine, the dashboard in a real browser among them
	@$(LOCAL)/python/bin/python hw-tests/stories.py

sim: ## Live through RUNS (10000) made-up fleets from SEED (1) on, with both real minds, and check every invariant
	@scripts/sim.sh

mutants: ## Put deliberate bugs into the engine and show which invariant catches each, and after how many runs
	@scripts/mutants.sh

openapi: ## Write the API's description anew
	@cargo run --quiet --bin muster-fleet -- openapi > fleet/docs/openapi.json

bench-rollout: ## Measure the rollout engine on fleets of 1,000 to 100,000 boxes against its goals
	@cargo bench --quiet --profile fast --package muster-fleet --bench rollout

trainers: build ## Close the loop by a real MLflow, a real Ray and a real Airflow (1 GB to install)
	@scripts/python-env.sh $(LOCAL)/mlflow fleet/tests/interop/mlflow-requirements.lock
	@scripts/python-env.sh $(LOCAL)/ray fleet/tests/interop/ray-requirements.lock
	@scripts/python-env.sh $(LOCAL)/airflow fleet/tests/interop/airflow-requirements.lock
	@cargo test --locked -p muster-fleet --test it -- --include-ignored --test-threads 1 trainers::mlflow trainers::ray trainers::airflow

bench-loop: build ## Close the loop LOOPS (30) times over 3 real boxes and BOXES (1000) simulated ones, and time every stage
	@cargo build --quiet --workspace --locked --example swarm
	@$(LOCAL)/python/bin/python scripts/bench_loop.py

bench-watch: ## Measure what watching 10,000 boxes for drift costs the fleet server
	@cargo bench --quiet --profile fast --package muster-fleet --bench drift

bench-ingest: packages ## Measure how fast reports of 10,000 boxes are committed, beside the same bytes inserted raw
	@cargo bench --quiet --profile fast --package muster-fleet --bench ingest

bench-devices: packages ui ## Measure what an operator of 100,000 boxes waits for, at the server and in a real browser
	@PATH=$$(scripts/node-env.sh $(LOCAL)/node):$$PATH cargo bench --quiet --profile fast --package muster-fleet --bench devices

bench-inference: runtime interop bench-models ## Measure what inference costs beside OpenVINO's own benchmark and beside MLServer
	@scripts/python-env.sh $(LOCAL)/openvino agent/benches/inference/requirements.lock
	@cargo bench --quiet --profile fast -p muster-agent --bench inference

bench-models: python ## Make the models that inference is measured with
	@$(LOCAL)/python/bin/python agent/benches/models.py $(LOCAL)/bench-models

soak: runtime bench-models ## Replace a model under load again and again: SWAPS (100), or for HOURS
	@cargo bench --quiet --profile fast -p muster-agent --bench soak

bench-shadow: runtime bench-models ## Measure what a second bundle on the same requests costs the one that answers
	@cargo bench --quiet --profile fast -p muster-agent --bench shadow

api-fuzz: build convert ## Ask every operation of the API what nobody would (Schemathesis), EXAMPLES requests each (20)
	@scripts/python-env.sh $(LOCAL)/fuzz fleet/tests/interop/fuzz-requirements.lock
	@$(LOCAL)/python/bin/python hw-tests/api_fuzz.py

fuzz: ## Fuzz every reader of foreign bytes, SECONDS each (60)
	@scripts/fuzz.sh $(or $(SECONDS),60)

bench-gates: ## Measure how far a bad bundle gets, and how often a good one is stopped; SEEDS rollouts each (200)
	@cargo bench --quiet --profile fast -p muster-fleet --bench blast -- $(or $(SEEDS),200)

peers: ## Make the environment of the tools that drift is measured against: Evidently, NannyML, whylogs
	@scripts/python-env.sh $(LOCAL)/peers protocol/benches/peers/requirements.lock

bench-drift: peers ## Measure what drift costs a box, beside whylogs on the same table
	@cargo bench --quiet --profile fast --package muster-protocol --bench drift

drift-campaign: python peers ## Show that drift does not cry wolf: beside Evidently and NannyML on the same streams, and on whole fleets through their years
	@cargo bench --quiet --profile fast --package muster-protocol --bench campaign
	@cargo bench --quiet --profile fast --package muster-fleet --bench years

release: ## Build the release binaries and say what they need and weigh
	@cross/release.sh

clean: ## Remove everything that was made here
	@cargo clean && rm -rf $(LOCAL) fleet/dashboard/dist fleet/dashboard/node_modules
