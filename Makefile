# Every target does its own set-up: system packages by apt, everything else in .venv.

PYTHON ?= python3
BIN := .venv/bin
# Nothing where there is no sudo: what needs root says so.
SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
ON_A_PI := $(wildcard /proc/device-tree/model)

# PyAudio and, on 32 bit, some others are compiled here; a Pi's pins come from the system's lgpio.
PACKAGES := libportaudio2 portaudio19-dev libasound2-dev gcc python3-dev python3-venv $(if $(ON_A_PI),python3-lgpio)
# Releases of LiteLLM, as in tests/support/proxy.py: 760 and 520 MB, in environments of their own.
PROXIES := 1.108.7 1.81.9
# Folders of tests that need neither thread nor socket, and no more than seconds.
QUICK := core dsp services config
CARDS := pulseaudio pulseaudio-utils libasound2-plugins alsa-utils jackd2
HOMES := mosquitto mosquitto-clients prometheus
# A server of OpenAI Realtime that others wrote, from npm, as in tests/system/test_aimock.py. It wants node 20.15 or newer.
AIMOCK := 1.43.0
# What we are measured beside, as in tests/bench/beside/peers: pinned, in environments of their own.
PEERS := $(patsubst tests/bench/beside/peers/%.txt,%,$(wildcard tests/bench/beside/peers/*.txt))
BESIDE := $(if $(SHORT),bare,$(PEERS))
# What makes single changes, in an environment of its own above .venv. Pinned: tests/bench/changes.py asks for parts of it.
MUTMUT := 3.8.1
# Clients that others wrote, as in tests/system/clients: pinned, in environments of their own.
CLIENTS := $(patsubst tests/system/clients/%.txt,%,$(wildcard tests/system/clients/*.txt)) $(patsubst tests/system/clients/%.json,%,$(wildcard tests/system/clients/*.json))

.PHONY: help demo install uninstall deb test clean-room test-install test-slow test-proxy test-aimock test-clients test-fleet test-beside test-unit promises bench faults recovery edits soak aborts mutants frames arm release format docs quick clean

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.ready ## a spoken question gets a spoken answer; MIC=1: talk through the sound card
	@$(BIN)/device-agent demo $(if $(MIC),--mic)

install: ## install or upgrade the speaker as a service; KEY_FILE=FILE holds your key; EXTRAS=mqtt adds an extra, -mqtt removes it
	@$(SUDO) env KEY_FILE='$(KEY_FILE)' EXTRAS='$(EXTRAS)' systemd/install.sh

uninstall: ## remove the speaker, but keep settings, keys and memory; PURGE=1: remove them too
	@$(SUDO) env PURGE='$(PURGE)' systemd/uninstall.sh

deb: ## build a Debian package for this release and processor, in build/
	@EXTRAS='$(EXTRAS)' systemd/deb.sh

quick: .venv/.ready-to-test ## lint, types and the tests without thread and socket, in seconds: while you work
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q -x $(QUICK:%=tests/%)

test: .venv/.ready-to-test ## lint, types and all tests that take seconds
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -m 'not slow and not proxy and not aimock and not clients and not fleet and not beside'

clean-room: ## the two commands of README in a Debian 12 and a Debian 13 that have nothing yet; twenty minutes; SUITE=trixie
	$(call apt,mmdebstrap git)
	@for suite in $(or $(SUITE),bookworm trixie); do \
	  $(SUDO) tests/system/install/clean-room.sh $$suite 'make demo' 'make test' || exit; done

test-slow: .venv/.ready-to-test .venv/.cards ## the tests in real time, on virtual sound cards and a real broker
	$(BIN)/pytest -m slow

test-proxy: .venv/.ready-to-test $(PROXIES:%=.litellm-%/.ready) ## the tests against the real LiteLLM proxy
	$(BIN)/pytest -m proxy

test-aimock: .venv/.ready-to-test .aimock-$(AIMOCK)/.ready ## the command against a server that other people wrote; a minute
	$(BIN)/pytest -m aimock

test-fleet: .venv/.ready-to-test ## the playbook of docs/fleet, in a clean Debian; three minutes
	$(call apt,mmdebstrap)
	$(SUDO) $(BIN)/pytest -m fleet

test-beside: .venv/.ready-to-test .venv/.cards $(PEERS:%=.peers/%/.ready) ## a turn with each of the clients that `make bench` compares
	$(BIN)/pytest -m beside

test-clients: .venv/.ready-to-test $(CLIENTS:%=.clients/%/.tried) ## the simulator against clients that other people wrote; two minutes
	$(BIN)/pytest -m clients

promises: .venv/.ready-to-test .venv/.cards ## measure the promises: first word, silence, echo; SHORT=1: in minutes
	$(BIN)/python -m tests.bench.first_word $(if $(SHORT),--count 10)
	$(BIN)/python -m tests.bench.interruptions $(if $(SHORT),--count 10)
	$(BIN)/python -m tests.bench.echo $(if $(SHORT),--seeds 1)

bench: .venv/.ready-to-test .venv/.cards $(BESIDE:%=.peers/%/.ready) ## compare with other clients: a table and build/bench.json; SHORT=1: in minutes; KEEP=1: for docs/
	$(call apt,iproute2)
	@rm -rf build/bench && mkdir -p build/bench
	$(BIN)/python -m tests.bench.compare $(if $(SHORT),--short) --json build/bench/beside.json
	$(BIN)/python -m tests.bench.cold $(if $(SHORT),--short) --json build/bench/cold.json
	$(if $(SHORT),,$(BIN)/python -m tests.bench.jitter --json build/bench/jitter.json)
	$(BIN)/python -m tests.bench.beside.figures build/bench/*.json --into $(if $(KEEP),docs,build)/bench.json

faults: .venv/.ready-to-test ## the cost of each fault of service and network, as a table; twenty minutes
	$(BIN)/python -m tests.bench.faults --namespace

recovery: .venv/.ready-to-test .venv/.cards ## kill or freeze each part in turn, until a turn works again; ten minutes
	$(BIN)/python -m tests.bench.recovery

edits: .venv/.ready-to-test ## edit config.yaml at random while turns run: is anything lost? SHORT=1: in a minute
	$(BIN)/python -m tests.bench.edits $(if $(SHORT),--count 30)

soak: .venv/.ready-to-test ## a long and hard life in an hour: is anything lost, does anything grow? SHORT=1: in two minutes
	$(BIN)/python -m tests.bench.soak $(if $(SHORT),--minutes 2,--minutes 60)

aborts: .venv/.ready-to-test ## abort TLS connections at random times: does anything leak? twelve minutes; SHORT=1: one
	$(BIN)/python -m tests.bench.aborts $(if $(SHORT),--dials 1000 --presses 100)

mutants: .mutmut-$(MUTMUT)/.ready ## change single things in deciding code, and list the changes that no test notices; an hour; SHORT=1: a sample; MODULES=audio/gate
	.mutmut-$(MUTMUT)/bin/python -m tests.bench.mutants $(if $(SHORT),--short) $(MODULES)

frames: .venv/.ready-to-test ## instructions for 20 ms of each state, compared with the stored ones; SHORT=1: in a minute; KEEP=1: store them
	$(call apt,qemu-user valgrind)
	$(BIN)/python -m tests.bench.frames $(if $(SHORT),--short) $(if $(KEEP),--keep) $(if $(JSON),--json $(JSON))

arm: .venv/.ready-to-test ## the same on arm64, in an emulator, and an estimate for a Zero 2 W; three minutes; SUITE=trixie
	$(call apt,qemu-user mmdebstrap)
	$(SUDO) $(BIN)/python -m tests.bench.arm.bench --suite $(or $(SUITE),bookworm) $(if $(SHORT),--short) $(if $(KEEP),--keep) \
	  $(if $(JSON),--json $(JSON))

test-unit: .venv/.machine ## the service under a real systemd, in a virtual machine; five minutes
	$(SUDO) $(PYTHON) tests/system/unit/machine.py

test-install: ## install, upgrade, uninstall and the package, in clean Debians; ten minutes; SUITE=trixie ARCH=arm64
	$(call apt,mmdebstrap $(if $(filter-out amd64,$(ARCH)),qemu-user-static binfmt-support arch-test))
	$(SUDO) /usr/bin/python3 tests/system/install/proof.py --suite $(or $(SUITE),bookworm) --arch $(or $(ARCH),amd64)

release: ## sdist, wheel and packages of this version, each installed in a clean Debian; in build/release
	$(call apt,mmdebstrap git)
	$(SUDO) /usr/bin/python3 tests/system/install/release.py

format: .venv/.ready-to-test ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/.ready-to-test ## update the generated parts of the documents: states, services, keys, the map, pictures
	$(BIN)/python -m tests.docs.make_docs

clean: ## remove what the other targets made
	rm -rf .venv .litellm-* .aimock-* .mutmut-* .clients .peers build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-reply.wav

define apt
	@systemd/apt.sh $(1)
endef

.venv/.packages:
	$(call apt,$(PACKAGES))
	@echo "Making a Python environment in .venv ..."
	@$(PYTHON) -m venv $(if $(ON_A_PI),--system-site-packages) .venv
	@touch $@

.venv/.ready: .venv/.packages setup.cfg pyproject.toml
	@echo "Installing the program and its libraries into .venv; this takes half a minute, on a small board longer ..."
	@$(BIN)/pip install --quiet --editable '.[simulator]'
	@touch $@

.venv/.ready-to-test: .venv/.packages setup.cfg pyproject.toml
	@echo "Installing the program, its libraries and the tools of its tests into .venv; this takes a minute ..."
	@$(BIN)/pip install --quiet --editable '.[test]'
	@touch $@ .venv/.ready

.venv/.cards: .venv/.packages
	$(call apt,$(CARDS) $(HOMES))
	@touch $@

.venv/.machine: .venv/.packages
	$(call apt,mmdebstrap qemu-system-x86 e2fsprogs)
	@touch $@

.litellm-%/.ready: | .venv/.packages
	@echo "Installing LiteLLM $* into .litellm-$*; this takes minutes ..."
	@$(PYTHON) -m venv --clear .litellm-$*
	@.litellm-$*/bin/pip install --quiet 'litellm[proxy]==$*'
	@touch $@

.aimock-%/.ready: | .venv/.packages
	$(if $(shell command -v npm),,$(call apt,npm))
	@echo "Installing aimock $* ..."
	@npm install --silent --no-audit --no-fund --no-package-lock --prefix .aimock-$* @copilotkit/aimock@$*
	@touch $@

.mutmut-%/.ready: .venv/.ready-to-test
	@$(PYTHON) -m venv --clear .mutmut-$*
	@site='import sysconfig; print(sysconfig.get_path("purelib"))' && \
	  $(BIN)/python -c "$$site" >"$$(.mutmut-$*/bin/python -c "$$site")/project.pth"
	@.mutmut-$*/bin/pip install --quiet mutmut==$*
	@touch $@

.peers/%/.ready: tests/bench/beside/peers/%.txt | .venv/.packages
	@echo "Installing the client $* into .peers/$* ..."
	@$(PYTHON) -m venv --clear .peers/$*
	@.peers/$*/bin/pip install --quiet --requirement $<
	@touch $@

# What cannot be installed here is left out by the tests, and tried again the next time.
.clients/%/.tried: tests/system/clients/%.txt | .venv/.packages
	@echo "Installing the client $* into .clients/$* ..."
	@rm -rf .clients/$* && $(PYTHON) -m venv .clients/$*
	@.clients/$*/bin/pip install --quiet --requirement $< && touch $@ || touch .clients/$*/.missing

.clients/%/.tried: tests/system/clients/%.json | .venv/.packages
	$(if $(shell command -v npm),,$(call apt,nodejs npm))
	@echo "Installing the client $* into .clients/$* ..."
	@rm -rf .clients/$* && mkdir -p .clients/$* && cp $< .clients/$*/package.json
	@(cd .clients/$* && npm install --silent --no-fund --no-audit) && touch $@ || touch .clients/$*/.missing
