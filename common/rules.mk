# SPDX-License-Identifier: Apache-2.0
COMMON_OBJECTS := $(patsubst %.c,$(B)/%.o,$(wildcard common/*.c))

$(B)/libcommon.a: $(COMMON_OBJECTS)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^
