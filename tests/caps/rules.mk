# SPDX-License-Identifier: Apache-2.0
# A cloister-shim that lacks one capability of one role, as a file in its state_dir says. In a folder
# with a cloisterd, which starts the shim that lies beside it.
TEST_PROGRAMS += $(B)/tests/caps/cloister-shim $(B)/tests/caps/cloisterd

$(B)/tests/caps/cloister-shim: $(B)/shim/main.o $(B)/tests/caps/omit.o $(B)/libshim.a $(B)/libcommon.a
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -Wl,--wrap=caps_sets_of $^ $(SHIM_LIBS) -o $@

$(B)/tests/caps/cloisterd: $(B)/cloisterd
	@mkdir -p $(@D)
	$(Q)cp $< $@
