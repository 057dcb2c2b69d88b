// SPDX-License-Identifier: Apache-2.0
/*
 * What the fuzz targets share. Each fuzz_X.c is one target: libFuzzer's function
 * (llvm.org/docs/LibFuzzer.html), linked with libFuzzer by `make fuzz` and with run.c otherwise.
 * Beside not crashing, a target says with FUZZ_CHECK what must hold whatever the input is.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(cond)                                                                           \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #cond);  \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* The input, taken from its front; what is missing reads as zero. */
struct fuzz_input {
	const uint8_t *at;
	size_t left;
};

static inline uint8_t fuzz_byte(struct fuzz_input *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->at++;
}

static inline uint16_t fuzz_word(struct fuzz_input *in)
{
	uint16_t low = fuzz_byte(in);
	return (uint16_t)(low | fuzz_byte(in) << 8);
}

/* At most want bytes; how many there are is in *got. */
static inline const uint8_t *fuzz_bytes(struct fuzz_input *in, size_t want, size_t *got)
{
	const uint8_t *from = in->at;
	*got = want < in->left ? want : in->left;
	in->at += *got;
	in->left -= *got;
	return from;
}

/*
 * Writes pieces of the input over to[size], so that a small input reaches into a large structure:
 * place (two bytes), length (one byte), bytes; and so on until the input or the rounds end.
 */
static inline void fuzz_patch(struct fuzz_input *in, void *to, size_t size)
{
	for (int rounds = 0; in->left && rounds < 64; rounds++) {
		size_t at = fuzz_word(in), got;
		size_t want = fuzz_byte(in);
		const uint8_t *from = fuzz_bytes(in, want, &got);
		if (at < size)
			memcpy((char *)to + at, from, got < size - at ? got : size - at);
	}
}

/* The rest as a string with an end; free(3) it. */
static inline char *fuzz_text(struct fuzz_input *in)
{
	char *text = malloc(in->left + 1);
	FUZZ_CHECK(text);
	if (in->left)
		memcpy(text, in->at, in->left);
	text[in->left] = '\0';
	in->at += in->left;
	in->left = 0;
	return text;
}

/* The rest as a block of exactly its length, so that a read beyond it is seen; free(3) it. */
static inline char *fuzz_block(struct fuzz_input *in, size_t *length)
{
	char *block = malloc(in->left ? in->left : 1);
	FUZZ_CHECK(block);
	if (in->left)
		memcpy(block, in->at, in->left);
	*length = in->left;
	in->at += in->left;
	in->left = 0;
	return block;
}

static inline bool fuzz_is_printable(const char *text, size_t size)
{
	size_t n = strnlen(text, size);
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)text[i] < 0x20 || (unsigned char)text[i] > 0x7e)
			return false;
	return n < size;
}

/* The lowest descriptor that is free: the same before and after where none is left open. */
static inline int fuzz_free_fd(void)
{
	int fd = fcntl(0, F_DUPFD_CLOEXEC, 3);
	FUZZ_CHECK(fd >= 0);
	close(fd);
	return fd;
}

#endif
