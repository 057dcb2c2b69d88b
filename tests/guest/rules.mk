# SPDX-License-Identifier: Apache-2.0
# The PVH guest of the system tests: assembler only, no libc, no multilib (32-bit code in an ELF64).
TEST_PROGRAMS += $(B)/tests/guest/guest.elf

$(B)/tests/guest/guest.o: tests/guest/guest.S tests/guest/text.S
	@mkdir -p $(@D)
	$(CC) -Wall -Wa,--fatal-warnings -c -o $@ $<

$(B)/tests/guest/guest.elf: $(B)/tests/guest/guest.o tests/guest/guest.ld
	$(LD) -m elf_x86_64 -static -nostdlib --build-id=none --no-warn-rwx-segments -z max-page-size=4096 \
		-T tests/guest/guest.ld -o $@ $<
