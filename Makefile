# Needs python3 (3.11 or 3.12), git and make. Everything else is set up by the first target that runs.
.DEFAULT_GOAL := help
SHELL := /bin/sh
# The tests and the demo start many processes; each would compile anew what it imports.
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3
RUN = .venv/bin

.PHONY: help setup demo test pytest lint test-all storm storm-loop storm-hotpath storm-webhooks storm-rules storm-verdicts storm-windows bench-deliver bench-diff bench-ingress bench-build bench-decide bench-replay bench-decide-one bench-hotpath bench-engine bench-learning bench-evaluate clean

help:  ## show the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 18

.venv/.ready: pyproject.toml uv.lock .ci/get_uv.py
	@uv=$$($(PYTHON) .ci/get_uv.py) && "$$uv" sync --frozen --system-certs --python $$(command -v $(PYTHON)) --quiet
	@touch .venv/.ready

setup: .venv/.ready  ## install the locked dependencies into .venv

demo: setup  ## run the whole loop on simulated customers: build, decide, deliver, learn
	@$(RUN)/nextmove demo

lint: setup  ## style, types and import rules
	@$(RUN)/ruff check --quiet .
	@$(RUN)/ruff format --check --quiet .
	@$(RUN)/mypy
	@$(RUN)/lint-imports

# Side by side: the tests wait for servers and for one another now and then.
test: setup  ## style, types, import rules and every test but the slow ones
	@$(MAKE) --no-print-directory -j2 lint pytest

pytest: setup
	@$(RUN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

test-all: lint  ## every test
	@$(RUN)/pytest -n 2 --dist loadfile --no-loadscope-reorder
	@$(MAKE) --no-print-directory storm storm-loop storm-hotpath storm-webhooks storm-verdicts

storm: setup  ## 10,000 crashes of deliveries, half with the vendor's answer lost; every row compared
	@$(RUN)/python -m tests.end_to_end.storm_delivery

storm-loop: setup  ## kill the whole loop at random, 200 times, and audit every row
	@$(RUN)/python -m tests.end_to_end.storm --kills 200

storm-hotpath: setup  ## kill the service under load, 200 times, and count every event
	@$(RUN)/python -m tests.end_to_end.storm_hotpath --kills 200

storm-webhooks: setup  ## 200,000 webhook events, each told 1 to 50 times in any order, through kills
	@$(RUN)/python -m tests.end_to_end.storm_webhooks

storm-rules: setup  ## 50,000 random rules, in Python and in DuckDB: the same answers
	@$(RUN)/pytest -q -s -m slow tests/decision_engine/test_rules.py

storm-verdicts: setup  ## 10,000 random refusals a stream over a bad line: every verdict the vendor's
	@$(RUN)/python -m tests.connectors.storm_verdicts

storm-windows: setup  ## a million moments around DST changes: send hours, laws, days of rest
	@$(RUN)/pytest -q -s -m slow tests/decision_engine/test_send_windows.py

bench-deliver: setup  ## are the vendors' limits kept, and used? simulated hours, and rows a second
	@$(RUN)/python -m tests.connectors.bench_deliver

bench-diff: setup  ## ten million rows of an outbox, one in a hundred changed
	@$(RUN)/python -m tests.end_to_end.bench_diff

bench-ingress: setup  ## what a tracked event costs on its way into the warehouse
	@$(RUN)/python -m tests.end_to_end.bench_ingress

bench-build: setup  ## dbt on ten and forty thousand customers, with time by model and memory
	@$(RUN)/python -m tests.dbt_project.bench $(ARGS)

bench-decide: setup  ## a million customers through decide, with time and memory
	@$(RUN)/python -m tests.end_to_end.bench_decide $(ARGS)

bench-replay: setup  ## a hundred thousand logged decisions, made again by another process
	@$(RUN)/python -m tests.end_to_end.bench_replay

bench-decide-one: setup  ## what one decision for one person costs, step by step
	@$(RUN)/python -m tests.decision_engine.bench_decide_one $(ARGS)

bench-hotpath: setup  ## decisions per second of the service, beside the bare HTTP floor
	@$(RUN)/python -m tests.end_to_end.bench_hotpath

.tools/peers/.ready: tests/decision_engine/peers.txt
	@rm -rf .tools/peers && uv=$$($(PYTHON) .ci/get_uv.py) && "$$uv" venv --quiet --python $(RUN)/python .tools/peers \
	&& VIRTUAL_ENV=.tools/peers "$$uv" pip install --quiet --system-certs -r $<
	@touch $@

bench-engine: setup .tools/peers/.ready  ## how fast and how exactly linear Thompson sampling decides, beside peer libraries
	@OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 .tools/peers/bin/python -m tests.decision_engine.bench_engine $(ARGS)

bench-learning: setup .tools/peers/.ready  ## our policies against peer libraries, 20 minutes: ARGS="--hillstrom hillstrom.csv.gz"
	@OPENBLAS_NUM_THREADS=1 .tools/peers/bin/python -m tests.decision_engine.bench_learning $(ARGS)

bench-evaluate: setup  ## do intervals, lift and alarms keep their promises?
	@OPENBLAS_NUM_THREADS=1 $(RUN)/python -m tests.decision_engine.bench_evaluate

clean:  ## remove what setup and the demo made
	rm -rf .venv .tools demo
