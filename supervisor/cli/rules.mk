# SPDX-License-Identifier: Apache-2.0
CLI_OBJECTS := $(patsubst %.c,$(B)/%.o,$(wildcard supervisor/cli/*.c))
PROGRAMS += $(B)/cloister

$(B)/cloister: $(CLI_OBJECTS) $(B)/libcommon.a
	$(CC) $(LDFLAGS) -o $@ $^ -lcjson
