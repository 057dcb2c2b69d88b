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
SANFLAGS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
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
CFLAGS  += -std=gnu17 $(OPT) -g $(WARNINGS) $(HARDENING) $(SANFLAGS)
LDFLAGS += -pie -Wl,-z,relro,-z,now -Wl,-z,noexecstack -Wl,--as-needed $(SANFLAGS)

PROGRAMS :=
TEST_PROGRAMS :=
UNIT_TESTS :=

.PHONY: all
all: programs

include common/rules.mk
include $(wildcard supervisor/rules.mk supervisor/cli/rules.mk shim/rules.mk)
include $(wildcard tests/rules.mk tests/standin/rules.mk tests/guest/rules.mk)

.PHONY: programs test-programs
programs: $(PROGRAMS)
test-programs: $(TEST_PROGRAMS)

$(B)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC   $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

-include $(shell find $(B) -name '*.d' 2>/dev/null)

.PHONY: clean distclean
clean:
	rm -rf build
distclean: clean
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -rf .pytest_cache
