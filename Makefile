# install   .venv with everything, and the Debian packages of the peers that the tests talk to
# demo      the whole way once: console, node, TPS and PACS, on made-up patients
# test      all tests
# check     format, lint, types, import contracts
# bench     benchmarks, smallest size first; numbers on this machine
# Each is complete by itself on a fresh machine with Python 3.11, pip and apt (as root).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Each with one thread for arithmetic; a file stays in one process, since its tests share a node or a training.
TEST_PROCESSES ?= 2
PEERS := dcmtk orthanc postgresql systemd chromium
TOOLS := storescu storescp dcmqrscp Orthanc pg_ctlcluster systemd-analyze chromium

.PHONY: install demo test check bench peers

install: $(VENV)/dev peers

$(VENV)/core: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/dev: $(VENV)/core
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

# The packages' own services are not wanted: the tests start the programs themselves, on free ports.
peers:
	@for tool in $(TOOLS); do command -v $$tool >/dev/null || missing=1; done; \
	if [ -n "$$missing" ]; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(PEERS); \
	fi

demo: $(VENV)/core
	$(BIN)/rtnode demo

test: install
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

check: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install
	@for script in tests/benchmarks/*.py; do \
	    case $$script in */__init__.py) ;; *) echo "== $$script"; $(BIN)/python -m $$(echo $${script%.py} | tr / .) || exit 1;; esac; \
	done
