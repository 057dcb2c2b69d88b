// SPDX-License-Identifier: Apache-2.0
#include "stop.h"

#include "control.h"
#include "daemon.h"
#include "drain.h"
#include "log.h"
#include "notify.h"
#include "teardown.h"
#include "util.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>

#define LOOK_MS	     20
#define NOTIFY_MS    7000 /* beyond stop_ms: the store is written, answers are sent */
#define FLUSH_PASSES 10	  /* of the loop: an answer is written in the first, and done soon after */

static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};

struct stop {
	struct daemon *d;
	struct event *signals[ARRAY_SIZE(numbers)];
	struct event *timer;
	int64_t until_us;
};

static size_t count_running(const struct daemon *d)
{
	size_t running = 0;
	const struct sandbox *sb;
	TAILQ_FOREACH(sb, &d->registry.list, entry)
	running += state_has_vmm(sb->state);
	return running;
}

static void tell_manager(uint32_t ms)
{
	char text[96];
	/* sd_notify(3): TimeoutStopSec= may be shorter than what the configuration allows. */
	snprintf(text, sizeof(text), "STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRIu64,
		 (uint64_t)(ms + NOTIFY_MS) * 1000);
	notify_send(text);
}

static void look(evutil_socket_t fd, short what, void *arg)
{
	struct stop *s = arg;
	const struct timeval tv = {.tv_usec = LOOK_MS * 1000};
	uint32_t in_flight = drain_in_flight(s->d);
	(void)fd;
	(void)what;
	if (in_flight && clock_us() < s->until_us && evtimer_add(s->timer, &tv) == 0)
		return;
	if (in_flight)
		log_warning("%u operations are still in flight: they go on without cloisterd",
			    in_flight);
	daemon_stop(s->d, 0);
}

static void on_end_signal(evutil_socket_t number, short what, void *arg)
{
	struct stop *s = arg;
	struct daemon *d = s->d;
	(void)what;
	if (d->stopping) {
		log_notice("signal %d: cloisterd does not wait any longer", (int)number);
		daemon_stop(d, d->exit_code);
		return;
	}
	uint32_t in_flight = drain_in_flight(d);
	log_notice("signal %d: cloisterd ends, %zu VMs are left running, %u operations are in "
		   "flight",
		   (int)number, count_running(d), in_flight);
	tell_manager(d->config.stop_ms);
	d->stopping = true;
	s->until_us = clock_us() + d->config.stop_ms * 1000ll;
	/* Before the control socket is open nobody waits for anything. */
	if (!d->control)
		s->until_us = 0;
	event_active(s->timer, EV_TIMEOUT, 0);
}

static void on_hangup(evutil_socket_t number, short what, void *arg)
{
	(void)number;
	(void)what;
	(void)arg;
	log_notice("SIGHUP: nothing is read again; restart cloisterd to have it read its "
		   "configuration, the VMs run on meanwhile");
}

struct stop *stop_open(struct daemon *d, struct err *e)
{
	struct stop *s = calloc(1, sizeof(*s));
	bool good = s != NULL;
	for (size_t i = 0; good && i < ARRAY_SIZE(numbers); i++) {
		event_callback_fn fn = numbers[i] == SIGHUP ? on_hangup : on_end_signal;
		s->signals[i] = evsignal_new(d->base, numbers[i], fn, s);
		good = s->signals[i] && event_add(s->signals[i], NULL) == 0;
	}
	if (good) {
		s->d = d;
		s->timer = evtimer_new(d->base, look, s);
		good = s->timer != NULL;
	}
	if (good)
		return s;
	stop_close(s);
	err_errno(e, ENOMEM, "signals");
	return NULL;
}

void stop_close(struct stop *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (s->signals[i])
			event_free(s->signals[i]);
	if (s->timer)
		event_free(s->timer);
	free(s);
}

void stop_answer(struct daemon *d)
{
	struct sandbox *sb;
	if (!d->control)
		return;
	control_deafen(d->control);
	TAILQ_FOREACH(sb, &d->registry.list, entry)
	teardown_part(sb);
	for (int i = 0; i < FLUSH_PASSES; i++)
		event_base_loop(d->base, EVLOOP_NONBLOCK);
}
