# SPDX-License-Identifier: Apache-2.0
CLI_OBJECTS := $(patsubst %.c,$(B)/%.o,$(wildcard supervisor/cli/*.c))
PROGRAMS += $(B)/cloister

# Of the other two programs it takes what `templates import` needs: the configuration, sets on disk.
$(B)/cloister: $(CLI_OBJECTS) $(B)/libsupervisor.a $(B)/libshim.a $(B)/libcommon.a
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -lcjson -lcap-ng -linih -lmd
