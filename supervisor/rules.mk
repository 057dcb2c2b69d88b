# SPDX-License-Identifier: Apache-2.0
# cloisterd: a library of everything, and a main.c that only starts it.
SUPERVISOR_SOURCES := $(filter-out supervisor/main.c,$(wildcard supervisor/*.c))
SUPERVISOR_OBJECTS := $(patsubst %.c,$(B)/%.o,$(SUPERVISOR_SOURCES))
SUPERVISOR_LIBS    := -levent_core -levent_extra -lcjson -lcap-ng -linih -lmd -pthread

PROGRAMS += $(B)/cloisterd

$(B)/libsupervisor.a: $(SUPERVISOR_OBJECTS)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

$(B)/cloisterd: $(B)/supervisor/main.o $(B)/libsupervisor.a $(B)/libcommon.a
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(SUPERVISOR_LIBS)
