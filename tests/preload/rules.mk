# SPDX-License-Identifier: Apache-2.0
# A preload for real VMMs in the tests. Never built with sanitizers: it runs inside Cloud Hypervisor.
PRELOAD_CFLAGS ?= -std=gnu17 -O2 -g -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes \
	-Wmissing-prototypes -Wconversion -fPIC -fstack-protector-strong
TEST_PROGRAMS += $(B)/tests/preload/nested_state.so

$(B)/tests/preload/nested_state.so: tests/preload/nested_state.c
	@mkdir -p $(@D)
	$(CC) $(PRELOAD_CFLAGS) -D_GNU_SOURCE -shared -Wl,-z,relro,-z,now -Wl,-z,noexecstack -o $@ $<
