# make help lists the targets. Every target does its own set-up: a virtual environment in .venv, Debian packages as root.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PREFIX ?= /usr/local
DESTDIR ?=
LIB := $(PREFIX)/lib/keepalived-py
AGENTS := build/agents
UNITS := $(PREFIX)/lib/systemd/system
COMPLETIONS := $(PREFIX)/share/bash-completion/completions
DOC := $(PREFIX)/share/doc/keepalived-py
MAN := keepalived-py.8 keepalived-py.conf.5 keepalivedctl.1
APT := python3-venv keepalived ipvsadm dnsmasq-base user-mode-linux kmod nginx tshark tcpdump nftables iptables ipset iproute2 iputils-ping procps curl openssl libpcre2-8-0 shellcheck go-md2man logrotate frr systemd sudo
PYTEST := $(BIN)/python -m pytest
# Several routers at a time on two processors are late now and then: who fails is tried once more, alone, and both is shown.
AGAIN := $(PYTEST) -q --last-failed --last-failed-no-failures none
IN_GUEST := -o cache_dir=/tmp/pytest-cache
export PYTHONPATH := $(CURDIR)

.DEFAULT_GOAL := help

.PHONY: help venv apt run test test-pure test-netns test-ipvs fuzz docs man lint types bench torture agents install uninstall deb clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

venv: $(STAMP) ## virtual environment with everything for use, tests and development

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check --config-settings editable_mode=compat -e '.[test,dev]'
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
	$(PYTEST) -q -n 2 --dist worksteal tests/fuzz tests/corpus tests/property tests/scenarios tests/unit

test-netns: venv ## real daemons in network namespaces (root)
	$(PYTEST) -q -n 4 --dist worksteal tests/netns tests/torture || $(AGAIN) tests/netns tests/torture

test-ipvs: venv ## IPVS in this kernel, or in three User-Mode Linux guests at a time (root)
	@$(MAKE) --no-print-directory -j 3 --output-sync=target ipvs-1of3 ipvs-2of3 ipvs-3of3

ipvs-%:
	$(BIN)/python -m tests.ipvs.uml sh -c '$(PYTEST) -q $(IN_GUEST) tests/ipvs --part $(subst of,/,$*) || $(AGAIN) $(IN_GUEST) tests/ipvs'

fuzz: venv ## fuzz the configuration reader (RUNS=n, SEED=x, CORPUS=dir)
	$(BIN)/python -m tests.fuzz.fuzz_language --runs $(or $(RUNS),20000) --seed $(or $(SEED),0) $(if $(CORPUS),--corpus "$(CORPUS)")

docs: venv ## the manual pages and the completion, from the tables of keywords and options and docs/*.prose.md
	$(BIN)/python -m keepalived_py.config.manual docs/keepalived-py.conf.5.prose.md > docs/keepalived-py.conf.5.md.new
	mv docs/keepalived-py.conf.5.md.new docs/keepalived-py.conf.5.md
	$(BIN)/python -m keepalived_py.manual page docs/keepalived-py.8.prose.md > docs/keepalived-py.8.md.new
	mv docs/keepalived-py.8.md.new docs/keepalived-py.8.md
	$(BIN)/python -m keepalived_py.manual completion conf.d/bash-completion/keepalived-py > docs/completion.new
	mv docs/completion.new conf.d/bash-completion/keepalived-py

man: $(addprefix build/man/,$(MAN)) ## manual pages in troff below build/man (needs go-md2man)

build/man/%: docs/%.md
	install -d build/man
	go-md2man -in $< -out $@

lint: venv ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv ## mypy --strict
	$(BIN)/mypy

bench: apt venv ## ours and Debian's keepalived side by side (ONLY=name, QUICK=1)
	@$(BIN)/python -m compileall -q keepalived_py ipc workers
	ONLY="$(ONLY)" QUICK="$(QUICK)" $(BIN)/python -m tests.bench

torture: apt venv ## what must hold whatever happens, ours and Debian's keepalived (ONLY="words of a name", PROGRAMS)
	ONLY="$(ONLY)" $(BIN)/python -m tests.torture
	ONLY="$(ONLY)" $(BIN)/python -m tests.ipvs.uml $(BIN)/python -m tests.torture

agents: apt venv $(AGENTS)/.installed ## agents of OpenStack, which start and watch keepalived, with it and with ours (400 MB)
	$(BIN)/python -m tests.agents $(AGENTS)/bin/python router amphora
	$(BIN)/python -m tests.ipvs.uml sh -c 'hostname agents; exec $(BIN)/python -m tests.agents $(AGENTS)/bin/python listener'

$(AGENTS)/.installed: tests/agents/requirements.txt
	$(PYTHON) -m venv $(AGENTS)
	PYTHONPATH= $(AGENTS)/bin/pip install -q --disable-pip-version-check -r $<
	@touch $@

install: ## into PREFIX (default /usr/local) and DESTDIR, in a virtual environment of its own
	conf.d/make-venv "$(PYTHON)" "$(DESTDIR)" "$(LIB)"
	umask 022 && mkdir -p $(addprefix $(DESTDIR),/etc/keepalived/conf.d /etc/init.d /etc/default /etc/logrotate.d $(PREFIX)/sbin $(PREFIX)/bin $(UNITS) $(COMPLETIONS) $(DOC)/samples)
	ln -sf $(LIB)/bin/keepalived-py $(DESTDIR)$(PREFIX)/sbin/keepalived-py
	ln -sf $(LIB)/bin/keepalivedctl $(DESTDIR)$(PREFIX)/bin/keepalivedctl
	test -e $(DESTDIR)$(PREFIX)/bin/genhash || ln -sf $(LIB)/bin/keepalived-py $(DESTDIR)$(PREFIX)/bin/genhash
	test -e $(DESTDIR)/etc/keepalived/keepalived.conf || install -m 644 conf.d/keepalived.conf $(DESTDIR)/etc/keepalived/
	test -e $(DESTDIR)/etc/default/keepalived-py || install -m 644 conf.d/default/keepalived-py $(DESTDIR)/etc/default/
	sed 's|@SBIN@|$(PREFIX)/sbin|' conf.d/init.d/keepalived-py > $(DESTDIR)/etc/init.d/keepalived-py
	chmod 755 $(DESTDIR)/etc/init.d/keepalived-py
	sed 's|@SBIN@|$(PREFIX)/sbin|' conf.d/systemd/keepalived-py.service > $(DESTDIR)$(UNITS)/keepalived-py.service
	chmod 644 $(DESTDIR)$(UNITS)/keepalived-py.service
	install -m 644 conf.d/logrotate.d/keepalived-py $(DESTDIR)/etc/logrotate.d/
	install -m 644 conf.d/bash-completion/keepalived-py conf.d/bash-completion/keepalivedctl $(DESTDIR)$(COMPLETIONS)/
	install -m 644 README.md CHANGELOG.md LICENSE docs/differences.md $(DESTDIR)$(DOC)/
	install -m 644 conf.d/samples/*.conf $(DESTDIR)$(DOC)/samples/
	if command -v go-md2man >/dev/null; then $(MAKE) --no-print-directory man && for page in $(MAN); do \
	install -D -m 644 build/man/$$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$$page || exit 1; done; fi

uninstall: ## what install put there; the configuration and a changed /etc/default/keepalived-py stay
	rm -rf $(DESTDIR)$(LIB) $(DESTDIR)$(DOC)
	rm -f $(addprefix $(DESTDIR),$(PREFIX)/sbin/keepalived-py $(PREFIX)/bin/keepalivedctl /etc/init.d/keepalived-py /etc/logrotate.d/keepalived-py)
	rm -f $(addprefix $(DESTDIR),$(UNITS)/keepalived-py.service $(COMPLETIONS)/keepalived-py $(COMPLETIONS)/keepalivedctl)
	test "$$(readlink $(DESTDIR)$(PREFIX)/bin/genhash)" != $(LIB)/bin/keepalived-py || rm -f $(DESTDIR)$(PREFIX)/bin/genhash
	! cmp -s conf.d/default/keepalived-py $(DESTDIR)/etc/default/keepalived-py || rm -f $(DESTDIR)/etc/default/keepalived-py
	for page in $(MAN); do rm -f $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$$page; done

deb: ## a Debian package in dist/, for the Python of this Debian
	conf.d/debian/build

clean: ## everything that was made here
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis bench-results torture-results
