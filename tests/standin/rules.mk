# SPDX-License-Identifier: Apache-2.0
# The VMM stand-in. Never built with sanitizers: it runs in a jail without /proc. Of the product it
# knows one header, shim/slot.h: what every guest's network looks like.
STANDIN_CFLAGS ?= -std=gnu17 -O1 -g -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes \
	-Wmissing-prototypes -Wconversion
STANDIN_SOURCES := $(wildcard tests/standin/*.c)
STANDIN_OBJECTS := $(STANDIN_SOURCES:%.c=$(B)/%.o)
TEST_PROGRAMS += $(B)/tests/standin/cloud-hypervisor

$(B)/tests/standin/netguest.o: STANDIN_CFLAGS += -Icommon -Ishim
$(B)/tests/standin/%.o: tests/standin/%.c tests/standin/standin.h
	@mkdir -p $(@D)
	$(CC) $(STANDIN_CFLAGS) -D_GNU_SOURCE -MMD -MP -c -o $@ $<

$(B)/tests/standin/cloud-hypervisor: $(STANDIN_OBJECTS)
	$(CC) -o $@ $^ -lcjson -lm -pthread
