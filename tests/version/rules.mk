# SPDX-License-Identifier: Apache-2.0
# cloisterd and cloister-shim of another protocol version: only what reads and writes headers differs.
TEST_PROGRAMS += $(B)/tests/version/cloisterd $(B)/tests/version/cloister-shim

$(B)/tests/version/msg.o: common/msg.c
	@mkdir -p $(@D)
	@echo "  CC   $< (another version)"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -DMSG_VERSION=7 -MMD -MP -c $< -o $@

$(B)/tests/version/cloisterd: $(B)/tests/version/msg.o $(B)/supervisor/main.o $(B)/libsupervisor.a $(B)/libcommon.a
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(SUPERVISOR_LIBS)

$(B)/tests/version/cloister-shim: $(B)/tests/version/msg.o $(B)/shim/main.o $(B)/libshim.a $(B)/libcommon.a
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(SHIM_LIBS)
