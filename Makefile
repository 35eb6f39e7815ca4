# make help lists the targets. Every target does its own set-up: a virtual environment in .venv, Debian packages as root.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PREFIX ?= /usr/local
DESTDIR ?=
LIB := $(PREFIX)/lib/keepalived-py
APT := python3-venv keepalived ipvsadm user-mode-linux kmod nginx tshark tcpdump nftables iproute2 iputils-ping procps curl openssl shellcheck go-md2man
PYTEST := $(BIN)/python -m pytest
export PYTHONPATH := $(CURDIR)

.DEFAULT_GOAL := help

.PHONY: help venv apt run test test-pure test-netns test-ipvs fuzz docs man lint types bench install uninstall clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

venv: $(STAMP) ## virtual environment with everything for use, tests and development

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -e '.[test,dev]'
	@$(BIN)/python -m compileall -q keepalived_py ipc workers $(VENV)/lib || true
	@touch $@

apt: ## Debian packages for the lab, the tests and the benchmarks (as root; otherwise nothing)
	@.ci/apt-install $(APT)

run: apt venv ## the lab; with CONF=file the daemon in the foreground on that file (KEEP=1 leaves the lab up)
ifdef CONF
	$(BIN)/keepalived-py -n -l -D -f "$(CONF)"
else
	@KEEP="$(KEEP)" $(BIN)/python -m tests.lab
endif

test: apt venv test-pure test-netns test-ipvs ## all tests

test-pure: venv ## tests that need no privilege
	$(PYTEST) -q -n 2 tests/unit tests/property tests/scenarios tests/corpus tests/fuzz

test-netns: venv ## real daemons in network namespaces (root)
	$(PYTEST) -q tests/netns

test-ipvs: venv ## IPVS in this kernel, or in a User-Mode Linux guest (root)
	$(BIN)/python -m tests.ipvs.uml $(BIN)/python -m pytest -q -p no:cacheprovider tests/ipvs

fuzz: venv ## fuzz the configuration reader (RUNS=n, SEED=x, CORPUS=dir)
	$(BIN)/python -m tests.fuzz.fuzz_language --runs $(or $(RUNS),20000) --seed $(or $(SEED),0) $(if $(CORPUS),--corpus "$(CORPUS)")

docs: venv ## the manual page of the configuration, from its tables and docs/keepalived-py.conf.5.prose.md
	$(BIN)/python -m keepalived_py.config.manual docs/keepalived-py.conf.5.prose.md > docs/keepalived-py.conf.5.md.new
	mv docs/keepalived-py.conf.5.md.new docs/keepalived-py.conf.5.md

man: build/man/keepalived-py.conf.5 ## manual pages in troff below build/man (needs go-md2man)

build/man/%: docs/%.md
	install -d build/man
	go-md2man -in $< -out $@

lint: venv ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv ## mypy --strict
	$(BIN)/mypy

bench: apt venv ## ours and Debian's keepalived side by side (ONLY=name, QUICK=1)
	ONLY="$(ONLY)" QUICK="$(QUICK)" $(BIN)/python -m tests.bench

install: ## into PREFIX (default /usr/local) and DESTDIR, in a virtual environment of its own
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib $(DESTDIR)/etc/keepalived/conf.d $(DESTDIR)/etc/init.d
	$(PYTHON) -m venv $(DESTDIR)$(LIB)
	$(DESTDIR)$(LIB)/bin/pip install -q --disable-pip-version-check .
	sed -i '1s|^#!$(DESTDIR)$(LIB)|#!$(LIB)|' $(DESTDIR)$(LIB)/bin/keepalived-py $(DESTDIR)$(LIB)/bin/keepalivedctl
	ln -sf $(LIB)/bin/keepalived-py $(DESTDIR)$(PREFIX)/sbin/keepalived-py
	ln -sf $(LIB)/bin/keepalivedctl $(DESTDIR)$(PREFIX)/bin/keepalivedctl
	test -e $(DESTDIR)/etc/keepalived/keepalived.conf || install -m 644 conf.d/keepalived.conf $(DESTDIR)/etc/keepalived/keepalived.conf
	if command -v go-md2man >/dev/null; then $(MAKE) man && install -d $(DESTDIR)$(PREFIX)/share/man/man5 && \
	install -m 644 build/man/keepalived-py.conf.5 $(DESTDIR)$(PREFIX)/share/man/man5/; fi
	sed 's|@SBIN@|$(PREFIX)/sbin|' conf.d/init.d/keepalived-py > $(DESTDIR)/etc/init.d/keepalived-py
	chmod 755 $(DESTDIR)/etc/init.d/keepalived-py

uninstall: ## what install put there; the configuration stays
	rm -rf $(DESTDIR)$(LIB)
	rm -f $(DESTDIR)$(PREFIX)/sbin/keepalived-py $(DESTDIR)$(PREFIX)/bin/keepalivedctl $(DESTDIR)/etc/init.d/keepalived-py
	rm -f $(DESTDIR)$(PREFIX)/share/man/man5/keepalived-py.conf.5

clean: ## everything that was made here
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis bench-results
