// SPDX-License-Identifier: Apache-2.0
/* The console's command "attack NAME [ARGUMENT]"; `attack --rules` lists what the filter denies. */
#include "attack.h"

#include "standin.h"

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The linker puts these before the stand-in's own (ld, --wrap). */
int __real_main(int argc, char **argv);
int __wrap_main(int argc, char **argv);
bool __real_netguest_command(const char *line);
bool __wrap_netguest_command(const char *line);

void attack_say(const char *format, ...)
{
	char text[1024];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	guest_print("ATTACK %s\n", text);
}

const char *attack_errno(int errnum)
{
	const char *name = strerrorname_np(errnum);
	return errnum == 0 ? "OK" : name ? name : "?";
}

int attack_wait(int pid)
{
	int status;
	const struct timespec pause = {.tv_nsec = 1000000};
	for (int i = 0; i < 5000; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
		nanosleep(&pause, NULL);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return 1000;
}

bool __wrap_netguest_command(const char *line)
{
	char name[32] = "", argument[256] = "";
	if (sscanf(line, "attack %31s %255s", name, argument) < 1)
		return __real_netguest_command(line);
	if (!strcmp(name, "rules"))
		attack_rules();
	else if (!strcmp(name, "rule"))
		attack_rule_here(argument);
	else if (!strcmp(name, "landlock"))
		attack_landlock();
	else if (!attack_try(name, argument))
		attack_say("%s unknown", name);
	attack_say("%s done", name);
	return true;
}

int __wrap_main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "--rules")) {
		attack_list_rules();
		return 0;
	}
	return __real_main(argc, argv);
}
