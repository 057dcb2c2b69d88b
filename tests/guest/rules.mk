# SPDX-License-Identifier: Apache-2.0
# The PVH guest of the system tests: assembler only, no libc, no multilib (32-bit code in an ELF64).
TEST_PROGRAMS += $(B)/tests/guest/guest.elf

$(B)/tests/guest/guest.o: tests/guest/guest.S tests/guest/text.S tests/guest/disk.S
	@mkdir -p $(@D)
	$(CC) -Wall -Wa,--fatal-warnings -c -o $@ $<

$(B)/tests/guest/guest.elf: $(B)/tests/guest/guest.o tests/guest/guest.ld
	$(LD) -m elf_x86_64 -static -nostdlib --build-id=none --no-warn-rwx-segments -z max-page-size=4096 \
		-T tests/guest/guest.ld -o $@ $<

# The init of the Linux guest, for the kernel that CLOISTER_LINUX_GUEST has.
TEST_PROGRAMS += $(B)/tests/guest/linux_init

$(B)/tests/guest/linux_init: tests/guest/linux_init.c
	@mkdir -p $(@D)
	@echo "  CC   $<"
	$(Q)$(CC) -D_GNU_SOURCE -std=gnu17 -O2 $(WARNINGS) -static -o $@ $<

# That of the tests of networks, beside CLOISTER_LINUX_GUEST's own.
TEST_PROGRAMS += $(B)/tests/guest/linux_agent

$(B)/tests/guest/linux_agent: tests/guest/linux_agent.c
	@mkdir -p $(@D)
	@echo "  CC   $<"
	$(Q)$(CC) -D_GNU_SOURCE -std=gnu17 -O2 $(WARNINGS) -static -o $@ $<
