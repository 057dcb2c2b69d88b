# SPDX-License-Identifier: Apache-2.0
# The product as it is on a kernel without Landlock: what holds an attack must not be Landlock alone.
BARE_LDFLAGS := -Wl,--wrap=landlock_abi,--wrap=landlock_open
TEST_PROGRAMS += $(B)/tests/bare/cloister-shim $(B)/tests/bare/cloisterd

$(B)/tests/bare/cloister-shim: $(B)/shim/main.o $(B)/tests/bare/bare.o $(B)/libshim.a $(B)/libcommon.a
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $(BARE_LDFLAGS) $^ $(SHIM_LIBS) -o $@

$(B)/tests/bare/cloisterd: $(B)/supervisor/main.o $(B)/tests/bare/bare.o $(B)/libsupervisor.a $(B)/libcommon.a
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $(BARE_LDFLAGS) $^ $(SUPERVISOR_LIBS) -o $@
