// SPDX-License-Identifier: Apache-2.0
/*
 * Writes the seccomp filters of our own processes to stdout, as arrays of sock_filter for
 * common/filter.c. Run while building, so that no program of ours needs libseccomp. With the
 * argument "rows" it lists the rows of each filter instead, for the tests.
 *
 * A filter holds the rows of its own table and, where processes of other roles run under it, of
 * theirs. How it is built: -DFILTER_TRAP makes a denied call SIGSYS, -DFILTER_TRACE makes every
 * call a tracer's event that says which row allowed it, -DFILTER_SANITIZED adds what ASan and UBSan
 * need.
 */
#include "filter.h"
#include "filters/filter_rows.h"

#include <linux/filter.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROGRAM_MAX 4096 /* instructions: BPF_MAXINSNS */
#define ROWS_MAX    1024
#define COUNT(a)    (sizeof(a) / sizeof((a)[0]))

#if defined(FILTER_TRAP)
#define DENIED SCMP_ACT_TRAP
#else
#define DENIED SCMP_ACT_KILL_PROCESS
#endif

/* A tracer's event is 16 bits: 3 for the role, 13 for the row; all ones: no row. */
#define TRACE_ROLE_SHIFT 13
#define TRACE_NO_ROW	 0x1fffu

struct table {
	const struct filter_row *rows;
	size_t count;
};

#define TABLE(name)                                                                                \
	{                                                                                          \
		filter_rows_##name, COUNT(filter_rows_##name)                                      \
	}

static const struct {
	const char *name;
	struct table tables[5]; /* its own first */
} roles[FILTER_ROLE_COUNT] = {
	[FILTER_SPAWNER] = {"spawner", {TABLE(spawner), TABLE(setup), TABLE(serving), TABLE(vmm)}},
	[FILTER_SETUP] = {"setup", {TABLE(setup), TABLE(serving), TABLE(vmm)}},
	[FILTER_SERVING] = {"serving", {TABLE(serving)}},
	[FILTER_SUPERVISOR] = {"supervisor", {TABLE(supervisor)}},
	[FILTER_CLIENT] = {"client", {TABLE(client)}},
	[FILTER_IMPORT] = {"import", {TABLE(import), TABLE(client)}},
};

/* The rows of one filter, none of them void. */
struct merged {
	const struct filter_row *row[ROWS_MAX];
	bool own[ROWS_MAX];
	size_t count;
};

static int fail(const char *role, const char *what, int rc)
{
	fprintf(stderr, "filter_gen: %s: %s: %s\n", role, what, strerror(-rc));
	return -1;
}

static bool same(const struct filter_row *a, const struct filter_row *b)
{
	return a->arg == b->arg && a->mask == b->mask && a->value == b->value &&
	       a->answer == b->answer;
}

/*
 * Whether a row is one more; -1 where one of the filter's own would be void by it. Whatever the
 * other tables say more narrowly than one of them, is what that one says.
 */
static int is_new(struct merged *m, const struct filter_row *row)
{
	size_t kept = 0;
	for (size_t i = 0; i < m->count; i++) {
		const struct filter_row *old = m->row[i];
		bool meets = old->nr == row->nr;
		if (meets && (same(old, row) || (old->arg < 0 && old->answer == 0)))
			return 0;
		if (meets && m->own[i] && (old->arg < 0 || row->arg < 0)) {
			fprintf(stderr, "filter_gen: %s makes %s of its own void\n", row->name,
				old->name);
			return -1;
		}
		if (meets && row->arg < 0)
			continue;
		m->own[kept] = m->own[i];
		m->row[kept++] = old;
	}
	m->count = kept;
	return 1;
}

static int merge_table(struct merged *m, const struct table *t, bool own)
{
	for (size_t i = 0; i < t->count; i++) {
		int more = is_new(m, &t->rows[i]);
		if (more == 0 && own) {
			fprintf(stderr, "filter_gen: %s stands there twice\n", t->rows[i].name);
			return -1;
		}
		if (more < 0 || m->count == ROWS_MAX)
			return -1;
		if (!more)
			continue;
		m->own[m->count] = own;
		m->row[m->count++] = &t->rows[i];
	}
	return 0;
}

#ifdef FILTER_SANITIZED
/* A sanitizer's call takes whatever arguments it likes: it replaces what is there for that call. */
static void merge_sanitizer(struct merged *m)
{
	static const struct table t = TABLE(sanitizer);
	for (size_t i = 0; i < t.count; i++) {
		size_t kept = 0;
		for (size_t j = 0; j < m->count; j++)
			if (m->row[j]->nr != t.rows[i].nr)
				m->row[kept++] = m->row[j];
		m->count = kept;
		m->row[m->count++] = &t.rows[i];
	}
}
#endif

static int merge(enum filter_role role, struct merged *m)
{
	*m = (struct merged){0};
	for (size_t i = 0; i < COUNT(roles[role].tables); i++)
		if (merge_table(m, &roles[role].tables[i], i == 0) < 0)
			return fail(roles[role].name, "merge its tables", -EINVAL);
#ifdef FILTER_SANITIZED
	merge_sanitizer(m);
#endif
	return 0;
}

static uint32_t action(enum filter_role role, size_t i, const struct filter_row *row)
{
#ifdef FILTER_TRACE
	(void)row;
	return SCMP_ACT_TRACE(((unsigned)role << TRACE_ROLE_SHIFT) | (unsigned)i);
#else
	(void)role;
	(void)i;
	return row->answer ? SCMP_ACT_ERRNO((unsigned)row->answer) : SCMP_ACT_ALLOW;
#endif
}

static int add_rows(scmp_filter_ctx filter, enum filter_role role, const struct merged *m)
{
	for (size_t i = 0; i < m->count; i++) {
		const struct filter_row *row = m->row[i];
		struct scmp_arg_cmp compare = {
			.arg = row->arg < 0 ? 0 : (unsigned)row->arg,
			.op = SCMP_CMP_MASKED_EQ,
			.datum_a = row->mask,
			.datum_b = row->value,
		};
		int rc = seccomp_rule_add_array(filter, action(role, i, row), row->nr,
						row->arg < 0 ? 0 : 1, &compare);
		if (rc < 0)
			return fail(roles[role].name, row->name, rc);
	}
	return 0;
}

/* What filter_load() asks to see that a filter is on; those of others have to let it pass. */
static int add_proofs(scmp_filter_ctx filter, enum filter_role role)
{
	for (unsigned i = 0; i < FILTER_ROLE_COUNT; i++) {
		struct scmp_arg_cmp compare =
			SCMP_A0(SCMP_CMP_MASKED_EQ, FILTER_ALL, FILTER_PROOF + i);
		uint32_t how = i == role ? SCMP_ACT_ERRNO(FILTER_PROOF_ERRNO) : SCMP_ACT_ALLOW;
		int rc = seccomp_rule_add_array(filter, how, __NR_seccomp, 1, &compare);
		if (rc < 0)
			return fail(roles[role].name, "its proof", rc);
	}
	return 0;
}

static int print(enum filter_role role, FILE *from)
{
	static struct sock_filter program[PROGRAM_MAX];
	rewind(from);
	size_t n = fread(program, sizeof(program[0]), PROGRAM_MAX, from);
	if (n == 0 || n == PROGRAM_MAX)
		return fail(roles[role].name, "read the program back", -EIO);
	printf("static const struct sock_filter filter_%s[] = {\n", roles[role].name);
	for (size_t i = 0; i < n; i++)
		printf("{0x%02x, %u, %u, 0x%08x},\n", (unsigned)program[i].code,
		       (unsigned)program[i].jt, (unsigned)program[i].jf, program[i].k);
	printf("};\n");
	return 0;
}

static int make(scmp_filter_ctx filter, enum filter_role role, FILE *file)
{
	struct merged m;
	int rc;
	if (merge(role, &m) < 0)
		return -1;
	/* Calls of i386 and x32 end the process, whatever they are. */
	if ((rc = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS)) < 0)
		return fail(roles[role].name, "bad architectures", rc);
	/* A tree: each call is found in few steps. */
	if ((rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2)) < 0)
		return fail(roles[role].name, "a binary tree", rc);
	if (add_rows(filter, role, &m) < 0 || add_proofs(filter, role) < 0)
		return -1;
	if ((rc = seccomp_export_bpf(filter, fileno(file))) < 0)
		return fail(roles[role].name, "export", rc);
	return print(role, file);
}

static int make_role(enum filter_role role)
{
#ifdef FILTER_TRACE
	scmp_filter_ctx filter =
		seccomp_init(SCMP_ACT_TRACE(((unsigned)role << TRACE_ROLE_SHIFT) | TRACE_NO_ROW));
#else
	scmp_filter_ctx filter = seccomp_init(DENIED);
#endif
	FILE *file = tmpfile();
	int rc = -1;
	if (!filter || !file)
		fail(roles[role].name, "start", -ENOMEM);
	else
		rc = make(filter, role, file);
	if (file)
		fclose(file);
	seccomp_release(filter);
	return rc;
}

/* One line a row: the event's number, role, own or not, the errno or 0, name, why it is rare. */
static int list_rows(void)
{
	static struct merged m;
	for (unsigned role = 0; role < FILTER_ROLE_COUNT; role++) {
		if (merge(role, &m) < 0)
			return -1;
		for (size_t i = 0; i < m.count; i++)
			printf("%u %s %s %d %s %s\n", (role << TRACE_ROLE_SHIFT) | (unsigned)i,
			       roles[role].name, m.own[i] ? "own" : "inherited", m.row[i]->answer,
			       m.row[i]->name, m.row[i]->rare ? m.row[i]->rare : "");
	}
	return 0;
}

static int make_all(void)
{
	for (unsigned role = 0; role < FILTER_ROLE_COUNT; role++)
		if (make_role(role) < 0)
			return -1;
	printf("static const struct {\n\tconst struct sock_filter *rows;\n\tsize_t length;\n"
	       "} filter_programs[] = {\n");
	for (unsigned role = 0; role < FILTER_ROLE_COUNT; role++)
		printf("{filter_%s, sizeof(filter_%s) / sizeof(filter_%s[0])},\n", roles[role].name,
		       roles[role].name, roles[role].name);
	printf("};\n");
#ifdef FILTER_TRAP
	/* So that the handler of SIGSYS can say which call it was. */
	printf("static const char *const filter_calls[] = {\n");
	for (int nr = 0; nr < 512; nr++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, nr);
		if (name)
			printf("[%d] = \"%s\",\n", nr, name);
		free(name);
	}
	printf("};\n");
#endif
	return 0;
}

int main(int argc, char **argv)
{
	int rc = argc == 2 && strcmp(argv[1], "rows") == 0 ? list_rows() : make_all();
	if (rc == 0 && (ferror(stdout) || fflush(stdout) != 0))
		rc = fail("stdout", "write", -EIO);
	return rc < 0 ? 1 : 0;
}
