# SPDX-License-Identifier: Apache-2.0
# The hostile VMM: the stand-in's objects and what it tries. Never built with sanitizers, as that.
ATTACK_OBJECTS := $(patsubst %.c,$(B)/%.o,$(wildcard tests/attack/*.c))
TEST_PROGRAMS += $(B)/tests/attack/cloud-hypervisor

$(B)/tests/attack/%.o: tests/attack/%.c tests/attack/attack.h
	@mkdir -p $(@D)
	$(CC) $(STANDIN_CFLAGS) -D_GNU_SOURCE -Itests/standin -Ishim -MMD -MP -c -o $@ $<

$(B)/tests/attack/cloud-hypervisor: $(ATTACK_OBJECTS) $(patsubst %.c,$(B)/%.o,$(wildcard tests/standin/*.c))
	$(CC) -o $@ $^ -Wl,--wrap=main,--wrap=netguest_command,--wrap=orders_begin_snapshot,--wrap=answer_write,--wrap=snapshot_write -lcjson -lm -pthread
