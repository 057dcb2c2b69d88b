# SPDX-License-Identifier: Apache-2.0
# Cloister. `make help` lists what can be made.

VERSION := 0.1.0
PREFIX  ?= /usr/local
DESTDIR ?=
B       ?= build
CC      ?= gcc
# make V=1 shows the whole command lines.
V ?= 0
Q := $(if $(filter 1,$(V)),,@)

# A sanitized build goes to a folder of its own: make SAN=1
SAN ?= 0
ifeq ($(SAN),1)
B := build/san
# Lines are all that a report takes.
DEBUG := -g1
SANFLAGS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
FILTERFLAGS := -DFILTER_SANITIZED
endif

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion
HARDENING := -fPIE -fstack-protector-strong -fstack-clash-protection
ifneq ($(SAN),1)
HARDENING += -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3
endif
# CET is there on x86 only.
ifneq ($(findstring x86_64,$(shell $(CC) -dumpmachine)),)
HARDENING += -fcf-protection=full
endif
OPT     ?= -O2
CPPFLAGS += -D_GNU_SOURCE -DCLOISTER_VERSION='"$(VERSION)"' -Icommon -Isupervisor -Ishim
DEBUG   ?= -g
CFLAGS  += -std=gnu17 $(OPT) $(DEBUG) $(WARNINGS) $(HARDENING) $(SANFLAGS)
# The linker would leave the mark of CET off, as Debian 12's C start files do not carry it.
ifneq ($(findstring x86_64,$(shell $(CC) -dumpmachine)),)
LDFLAGS += -Wl,-z,ibt,-z,shstk
endif
LDFLAGS += -pie -Wl,-z,relro,-z,now -Wl,-z,noexecstack -Wl,--as-needed $(SANFLAGS)

PROGRAMS :=
TEST_PROGRAMS :=
UNIT_TESTS :=

.PHONY: all
all: programs

include common/rules.mk
include $(wildcard supervisor/rules.mk supervisor/cli/rules.mk shim/rules.mk)
include $(wildcard tests/*/rules.mk)

.PHONY: programs test-programs
programs: $(PROGRAMS)
test-programs: $(TEST_PROGRAMS)

$(B)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC   $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

-include $(shell find $(B) -name '*.d' 2>/dev/null)

# ------------------------------------------------------------------ for people

.PHONY: help
help:
	@echo "all        cloisterd, cloister-shim, cloister (in $(B)/)"
	@echo "check      every test once, in under 10 minutes; installs what is missing (as root)"
	@echo "demo       a sandbox from start to end, narrated; installs what is missing (as root)"
	@echo "soak       the long things: second compiler, random operations, many restarts"
	@echo "bench      times and memory beside a floor, from one run"
	@echo "bench-sets what snapshots and restores cost, by size and data (real CH only)"
	@echo "bench-disks  what a disk of a 4 GiB image costs in each way, beside cp"
	@echo "bench-restart  how soon a cloisterd with 500 live sandboxes serves again"
	@echo "bench-slots  what a sandbox's network costs, beside ip and nft"
	@echo "fuzz       libFuzzer on what reads untrusted bytes, FUZZ_SECONDS (60) a target"
	@echo "unit       the unit tests (SAN=1: under ASan+UBSan)"
	@echo "trap       the three in $(B)/trap: a system call that a filter denies is named in the log"
	@echo "install    to DESTDIR and PREFIX ($(PREFIX))"
	@echo "lint       formatting, man pages, shell scripts"
	@echo "format     clang-format over all sources"
	@echo "clean, distclean"

.PHONY: setup
setup:
	@tests/setup.sh

.PHONY: check
check: setup
	@tests/check.sh

.PHONY: demo
demo: setup
	@$(MAKE) -s -j2 all test-programs
	@/usr/bin/python3 tests/demo/demo.py

.PHONY: bench
bench: setup
	@$(MAKE) -s -j2 all test-programs
	@/usr/bin/python3 tests/bench/run.py $(BENCH_ARGS)

.PHONY: bench-sets
bench-sets: setup
	@$(MAKE) -s -j2 all test-programs
	@/usr/bin/python3 tests/bench/sets.py

.PHONY: bench-disks
bench-disks: setup
	@$(MAKE) -s -j2 all test-programs
	@/usr/bin/python3 tests/bench/disks.py

.PHONY: bench-restart
bench-restart: setup
	@$(MAKE) -s -j2 all test-programs
	@/usr/bin/python3 tests/bench/restart.py $(BENCH_ARGS)

.PHONY: bench-slots
bench-slots: setup
	@$(MAKE) -s -j2 all test-programs
	@/usr/bin/python3 tests/bench/slots.py

.PHONY: soak
soak:
	@tests/setup.sh clang
	@tests/soak.sh

SOURCES := $(shell find common supervisor shim tests -name '*.c' -o -name '*.h')

.PHONY: format lint
format:
	clang-format -i $(SOURCES)
lint:
	@tests/setup.sh clang
	clang-format --dry-run -Werror $(SOURCES)
	for page in contrib/man/*; do mandoc -Tlint -Wwarning $$page || exit 1; done
	for script in tests/*.sh .ci/run; do sh -n $$script || exit 1; done
	/usr/bin/python3 -m compileall -q tests

# ------------------------------------------------------------------ install

INSTALL ?= install
SBINDIR := $(PREFIX)/sbin
BINDIR  := $(PREFIX)/bin
SHARE   := $(PREFIX)/share

# cloisterd looks for its shim in ../libexec/cloister beside itself.
.PHONY: install
install: all
	$(INSTALL) -D -m 755 $(B)/cloisterd $(DESTDIR)$(SBINDIR)/cloisterd
	$(INSTALL) -D -m 755 $(B)/cloister-shim $(DESTDIR)$(PREFIX)/libexec/cloister/cloister-shim
	$(INSTALL) -D -m 755 $(B)/cloister $(DESTDIR)$(BINDIR)/cloister
	for page in contrib/man/*; do \
		$(INSTALL) -D -m 644 $$page \
			$(DESTDIR)$(SHARE)/man/man$${page##*.}/$${page##*/} || exit 1; done
	$(INSTALL) -D -m 644 contrib/completions/cloister.bash \
		$(DESTDIR)$(SHARE)/bash-completion/completions/cloister
	$(INSTALL) -D -m 644 contrib/sysusers.d/cloister.conf \
		$(DESTDIR)$(PREFIX)/lib/sysusers.d/cloister.conf
	$(INSTALL) -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|@SBINDIR@|$(SBINDIR)|' contrib/cloisterd.service \
		>$(DESTDIR)$(PREFIX)/lib/systemd/system/cloisterd.service
	chmod 644 $(DESTDIR)$(PREFIX)/lib/systemd/system/cloisterd.service
	$(INSTALL) -D -m 644 contrib/openapi.yaml $(DESTDIR)$(SHARE)/cloister/openapi.yaml
	$(INSTALL) -D -m 644 contrib/examples/cloisterd.conf \
		$(DESTDIR)$(SHARE)/cloister/cloisterd.conf.example
	$(INSTALL) -d $(DESTDIR)$(SHARE)/cloister/apparmor
	for profile in contrib/apparmor/*; do \
		sed 's|@PREFIX@|$(PREFIX)|' $$profile \
			>$(DESTDIR)$(SHARE)/cloister/apparmor/$${profile##*/} || exit 1; done
	chmod 644 $(DESTDIR)$(SHARE)/cloister/apparmor/*

.PHONY: clean distclean
clean:
	rm -rf build
distclean: clean
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -rf .pytest_cache
