// SPDX-License-Identifier: Apache-2.0
#include "control.h"

#include "log.h"
#include "peers.h"
#include "util.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG		 512
#define HEADERS_MAX	 (16 * 1024)
#define BODY_MAX	 (64 * 1024)
#define LIBEVENT_BODY	 (128 * 1024) /* beyond this the answer is libevent's own */
#define INPUT_MAX	 (128 * 1024) /* unread bytes that a connection may hold here */
#define IDLE_S		 30
#define ACCEPT_PAUSE_US	 100000
#define COMPLAINT_GAP_US 1000000

struct fresh {
	struct fresh *next;
	struct bufferevent *bev;
};

struct control {
	struct daemon *d;
	struct evhttp *http;
	struct evconnlistener *listener;
	struct event *admit;  /* looks at fresh connections */
	struct event *resume; /* accepts again after a pause */
	struct fresh *fresh;
	struct peers peers;
	int fd_max; /* connections with a higher descriptor are refused: the rest is for shims */
	int64_t complained_us;
};

/* For the listener's error callback alone: its argument is evhttp's own. */
static struct control *the_control;

/* ------------------------------------------------------------------ routes */

static const struct route {
	enum evhttp_cmd_type method;
	const char *path;  /* '*' stands for an id */
	const char *query; /* parameters that are known, with commas around */
	control_fn *fn;
} routes[] = {
	{EVHTTP_REQ_GET, "/v1/info", ",", control_sandbox_info},
	{EVHTTP_REQ_GET, "/v1/check", ",", control_check_look},
	{EVHTTP_REQ_POST, "/v1/check", ",", control_check_repair},
	{EVHTTP_REQ_GET, "/v1/drain", ",", control_drain_get},
	{EVHTTP_REQ_POST, "/v1/drain", ",", control_drain_start},
	{EVHTTP_REQ_DELETE, "/v1/drain", ",", control_drain_undo},
	{EVHTTP_REQ_GET, "/v1/events", ",since,tenant,", control_stream_events},
	{EVHTTP_REQ_GET, "/v1/sandboxes", ",state,label,tenant,", control_sandbox_list},
	{EVHTTP_REQ_POST, "/v1/sandboxes", ",wait,tenant,", control_sandbox_create},
	{EVHTTP_REQ_GET, "/v1/sandboxes/*", ",tenant,", control_sandbox_get},
	{EVHTTP_REQ_DELETE, "/v1/sandboxes/*", ",grace_s,tenant,", control_sandbox_destroy},
	{EVHTTP_REQ_POST, "/v1/sandboxes/*/pause", ",tenant,", control_sandbox_pause},
	{EVHTTP_REQ_POST, "/v1/sandboxes/*/resume", ",tenant,", control_sandbox_resume},
	{EVHTTP_REQ_POST, "/v1/sandboxes/*/power-button", ",tenant,", control_sandbox_power_button},
	{EVHTTP_REQ_POST, "/v1/sandboxes/*/balloon", ",tenant,", control_devices_balloon},
	{EVHTTP_REQ_POST, "/v1/sandboxes/*/resize", ",tenant,", control_devices_resize},
	{EVHTTP_REQ_GET, "/v1/sandboxes/*/counters", ",tenant,", control_devices_counters},
	{EVHTTP_REQ_POST, "/v1/sandboxes/*/snapshot", ",tenant,", control_template_snapshot},
	{EVHTTP_REQ_POST, "/v1/sandboxes/*/hibernate", ",tenant,", control_template_hibernate},
	{EVHTTP_REQ_POST, "/v1/sandboxes/*/wake", ",tenant,", control_template_wake},
	{EVHTTP_REQ_GET, "/v1/templates", ",tenant,", control_template_list},
	{EVHTTP_REQ_GET, "/v1/templates/*", ",tenant,", control_template_get},
	{EVHTTP_REQ_POST, "/v1/templates/rescan", ",", control_template_rescan},
	{EVHTTP_REQ_DELETE, "/v1/templates/*", ",tenant,", control_template_remove},
	{EVHTTP_REQ_GET, "/v1/sandboxes/*/console", ",tail,follow,since,tenant,",
	 control_sandbox_console},
	{EVHTTP_REQ_POST, "/v1/sandboxes/*/console", ",tenant,", control_sandbox_input},
	{EVHTTP_REQ_GET, "/v1/sandboxes/*/debug", ",tenant,", control_debug},
	{EVHTTP_REQ_GET, "/v1/sandboxes/*/connect", ",port,timeout_ms,tenant,", control_connect},
};

/* Matches path; the part at '*' goes to id (empty when it is longer than any id). */
static bool path_matches(const char *pattern, const char *path, char id[NAME_SIZE])
{
	id[0] = '\0';
	for (; *pattern; pattern++) {
		if (*pattern != '*') {
			if (*pattern != *path++)
				return false;
			continue;
		}
		size_t n = strcspn(path, "/");
		if (n == 0)
			return false;
		if (n < NAME_SIZE) {
			memcpy(id, path, n);
			id[n] = '\0';
		}
		path += n;
	}
	return *path == '\0';
}

static const char *method_name(enum evhttp_cmd_type method)
{
	return method == EVHTTP_REQ_GET ? "GET" : method == EVHTTP_REQ_POST ? "POST" : "DELETE";
}

static void answer_method(struct control_request *r, const char *path)
{
	char allow[32] = "", id[NAME_SIZE];
	struct err e;
	size_t used = 0;
	for (size_t i = 0; i < ARRAY_SIZE(routes); i++)
		if (path_matches(routes[i].path, path, id))
			used += (size_t)snprintf(allow + used, sizeof(allow) - used, "%s%s",
						 used ? ", " : "", method_name(routes[i].method));
	evhttp_add_header(evhttp_request_get_output_headers(r->req), "Allow", allow);
	err_set(&e, ERR_INVALID, 0, "this path takes %s", allow);
	reply_error(r->req, 405, &e, NULL);
}

static const struct route *find_route(struct control_request *r, const char *path)
{
	bool other_method = false;
	struct err e;
	for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
		if (!path_matches(routes[i].path, path, r->id))
			continue;
		if (routes[i].method == evhttp_request_get_command(r->req))
			return &routes[i];
		other_method = true;
	}
	if (other_method) {
		answer_method(r, path);
		return NULL;
	}
	err_set(&e, ERR_NOT_FOUND, 0, "there is no such path in this API");
	reply_error(r->req, 404, &e, NULL);
	return NULL;
}

/* Every parameter must be known to the route, and be there once (label may repeat). */
static bool check_query(struct control_request *r, const struct route *route, const char *query)
{
	char name[64];
	struct err e;
	TAILQ_INIT(&r->query);
	if (query && query[0] && evhttp_parse_query_str(query, &r->query) < 0) {
		err_set(&e, ERR_INVALID, 0, "the query string is malformed");
		reply_error(r->req, 400, &e, NULL);
		return false;
	}
	for (const struct evkeyval *q = r->query.tqh_first; q; q = q->next.tqe_next) {
		snprintf(name, sizeof(name), ",%.60s,", q->key);
		bool known = strlen(q->key) <= 60 && !strchr(q->key, ',') && q->key[0] &&
			     strstr(route->query, name);
		bool again = strcmp(q->key, "label") != 0 &&
			     evhttp_find_header(&r->query, q->key) != q->value;
		if (known && !again)
			continue;
		if (known)
			err_set(&e, ERR_INVALID, 0, "query parameter \"%.60s\" is there twice",
				q->key);
		else
			err_set(&e, ERR_INVALID, 0, "unknown query parameter \"%.60s\"", q->key);
		str_clean(e.text);
		reply_error(r->req, 400, &e, NULL);
		return false;
	}
	return true;
}

static bool choose_tenant(struct control_request *r)
{
	struct err e;
	const char *wanted = evhttp_find_header(&r->query, "tenant");
	r->tenant = r->peer.name;
	r->all_tenants = r->peer.admin && !wanted;
	if (!wanted || strcmp(wanted, r->peer.name) == 0)
		return true;
	const struct config_tenant *t = tenant_by_name(&r->d->config, wanted);
	if (!r->peer.admin) {
		err_set(&e, ERR_INVALID, 0, "only an admin may name another tenant");
		reply_error(r->req, 403, &e, NULL);
		return false;
	}
	/* Also one that is no longer configured may still have sandboxes. */
	if (!name_is_valid(wanted)) {
		err_set(&e, ERR_INVALID, 0, "tenant: must be %s", NAME_RULE);
		reply_error(r->req, 422, &e, NULL);
		return false;
	}
	r->tenant = t ? t->name : wanted;
	return true;
}

static bool body_fits(struct control_request *r)
{
	struct err e;
	size_t length = evbuffer_get_length(evhttp_request_get_input_buffer(r->req));
	if (length <= BODY_MAX)
		return true;
	err_set(&e, ERR_INVALID, 0, "the body has %zu bytes, at most %d are allowed", length,
		BODY_MAX);
	reply_error(r->req, 413, &e, NULL);
	return false;
}

static void on_request(struct evhttp_request *req, void *arg)
{
	struct control *c = arg;
	struct control_request r = {.d = c->d, .req = req};
	struct err e;
	struct bufferevent *bev =
		evhttp_connection_get_bufferevent(evhttp_request_get_connection(req));
	TAILQ_INIT(&r.query);
	if (tenant_of_socket(&c->d->config, bufferevent_getfd(bev), &r.peer, &e) < 0) {
		reply_error(req, e.kind == ERR_NOT_FOUND ? 403 : 0, &e, NULL);
		return;
	}
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
	const char *path = evhttp_uri_get_path(uri);
	const struct route *route = find_route(&r, path ? path : "");
	if (route && check_query(&r, route, evhttp_uri_get_query(uri)) && choose_tenant(&r) &&
	    body_fits(&r))
		route->fn(&r);
	evhttp_clear_headers(&r.query);
}

bool control_query_u64(struct control_request *r, const char *name, uint64_t min, uint64_t max,
		       uint64_t *out)
{
	struct err e;
	const char *value = evhttp_find_header(&r->query, name);
	if (!value || str_to_u64(value, min, max, out))
		return true;
	err_set(&e, ERR_INVALID, 0,
		"%s: \"%.40s\" is not allowed; must be a whole number of %llu to %llu", name, value,
		(unsigned long long)min, (unsigned long long)max);
	str_clean(e.text);
	reply_error(r->req, 422, &e, r->id);
	return false;
}

/* ------------------------------------------------------------------ connections */

static void turn_away(struct control *c, int fd, uid_t uid)
{
	static const char body[] =
		"{\"type\":\"urn:cloister:error:unavailable\",\"title\":\"Not possible now\","
		"\"status\":503,\"detail\":\"too many connections are open\"}\n";
	char answer[512];
	int n = snprintf(answer, sizeof(answer),
			 "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"
			 "Content-Type: application/problem+json\r\nContent-Length: %zu\r\n\r\n%s",
			 sizeof(body) - 1, body);
	int64_t now = clock_us();
	if (now - c->complained_us >= COMPLAINT_GAP_US) {
		c->complained_us = now;
		log_warning("control connection of uid %u refused: %s", uid,
			    fd > c->fd_max ? "too many open descriptors here"
					   : "it has as many as one uid may");
	}
	/* Courtesy; one whose buffer is full goes without. */
	ssize_t ignored = send(fd, answer, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)ignored;
	shutdown(fd, SHUT_RDWR);
}

static void on_admit(evutil_socket_t unused, short what, void *arg)
{
	struct control *c = arg;
	(void)unused;
	(void)what;
	while (c->fresh) {
		struct fresh *f = c->fresh;
		struct ucred cred;
		socklen_t size = sizeof(cred);
		int fd = bufferevent_getfd(f->bev);
		c->fresh = f->next;
		if (fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) == 0 &&
		    (fd > c->fd_max || !peers_admit(&c->peers, fd, cred.uid)))
			turn_away(c, fd, cred.uid);
		bufferevent_decref(f->bev);
		free(f);
	}
}

/* evhttp gives no word of a new connection but this; its descriptor is set just afterwards. */
static struct bufferevent *on_new_connection(struct event_base *base, void *arg)
{
	struct control *c = arg;
	struct bufferevent *bev = bufferevent_socket_new(base, -1, 0);
	struct fresh *f = bev ? malloc(sizeof(*f)) : NULL;
	if (!bev)
		return NULL;
	/* A client that sends while it is being answered fills this much and no more. */
	bufferevent_setwatermark(bev, EV_READ, 0, INPUT_MAX);
	if (f) {
		bufferevent_incref(bev);
		*f = (struct fresh){.next = c->fresh, .bev = bev};
		c->fresh = f;
		event_active(c->admit, EV_TIMEOUT, 0);
	}
	return bev;
}

static void on_accept_again(evutil_socket_t fd, short what, void *arg)
{
	struct control *c = arg;
	(void)fd;
	(void)what;
	evconnlistener_enable(c->listener);
}

/* No descriptors left: trying again at once would only burn the processor. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
	struct control *c = the_control;
	(void)arg;
	const struct timeval tv = {.tv_usec = ACCEPT_PAUSE_US};
	int error = errno;
	int64_t now = clock_us();
	if (now - c->complained_us >= COMPLAINT_GAP_US) {
		c->complained_us = now;
		log_error("accept on the control socket: %s; waiting", strerrordesc_np(error));
	}
	evconnlistener_disable(listener);
	event_add(c->resume, &tv);
}

/* ------------------------------------------------------------------ open and close */

static int open_http(struct control *c, struct err *e)
{
	struct daemon *d = c->d;
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return err_errno(e, errno, "limit of open files");
	rlim_t most = files.rlim_cur / 4 * 3;
	c->fd_max = most < INT_MAX ? (int)most : INT_MAX;
	c->http = evhttp_new(d->base);
	c->admit = event_new(d->base, -1, 0, on_admit, c);
	c->resume = evtimer_new(d->base, on_accept_again, c);
	if (!c->http || !c->admit || !c->resume)
		return err_errno(e, ENOMEM, "HTTP server");
	/* Before anything else runs that may need a descriptor. */
	event_priority_set(c->admit, 0);
	evhttp_set_max_headers_size(c->http, HEADERS_MAX);
	evhttp_set_max_body_size(c->http, LIBEVENT_BODY);
	evhttp_set_timeout(c->http, IDLE_S);
	/* All, so that those that a path does not take get our 405. */
	evhttp_set_allowed_methods(c->http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD |
						    EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE |
						    EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE |
						    EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH);
	evhttp_set_gencb(c->http, on_request, c);
	evhttp_set_bevcb(c->http, on_new_connection, c);
	c->listener = evconnlistener_new(d->base, NULL, NULL,
					 LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, BACKLOG,
					 d->host.control);
	if (!c->listener)
		return err_errno(e, errno, "listen on the control socket");
	fd_take(&d->host.control);
	the_control = c;
	evconnlistener_set_error_cb(c->listener, on_accept_error);
	if (!evhttp_bind_listener(c->http, c->listener)) {
		evconnlistener_free(c->listener);
		return err_errno(e, ENOMEM, "HTTP server");
	}
	return 0;
}

int control_open(struct daemon *d, struct err *e)
{
	struct control *c = calloc(1, sizeof(*c));
	if (!c)
		return err_errno(e, ENOMEM, "HTTP server");
	c->d = d;
	d->control = c;
	return open_http(c, e);
}

void control_deafen(struct control *c)
{
	if (c->listener)
		evconnlistener_disable(c->listener);
	event_del(c->resume);
}

void control_close(struct control *c)
{
	if (!c)
		return;
	while (c->fresh) {
		struct fresh *f = c->fresh;
		c->fresh = f->next;
		bufferevent_decref(f->bev);
		free(f);
	}
	if (c->http)
		evhttp_free(c->http);
	control_connect_close(c->d);
	if (c->admit)
		event_free(c->admit);
	if (c->resume)
		event_free(c->resume);
	peers_close(&c->peers);
	free(c);
}
