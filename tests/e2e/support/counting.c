/*
 * Preloaded (LD_PRELOAD), counts the allocations and deallocations of a daemon's threads. The file that
 * the environment variable COUNTS names holds three 64-bit numbers: allocations by packet workers
 * (threads called egress-*, ingress-* and worker-*), deallocations by packet workers, allocations by all
 * other threads.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { BY_WORKERS, FREED_BY_WORKERS, BY_OTHERS, COUNTS };

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

/* Until the file is mapped, and if it cannot be, the counts go to `unmapped`. */
static uint64_t unmapped[COUNTS], *counts = unmapped;

__attribute__((constructor)) static void map_counts(void)
{
	const char *path = getenv("COUNTS");
	int fd = path ? open(path, O_RDWR | O_CREAT | O_TRUNC, 0600) : -1;
	void *page;

	unsetenv("LD_PRELOAD");
	if (fd < 0 || ftruncate(fd, sizeof unmapped))
		return;
	page = mmap(NULL, sizeof unmapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page != MAP_FAILED)
		counts = page;
	close(fd);
}

/* A thread gets its name after its first allocations, so the name is read at each call. */
static int is_worker(void)
{
	char name[16] = "";
	int saved = errno;

	prctl(PR_GET_NAME, name);
	errno = saved;
	return !strncmp(name, "egress-", 7) || !strncmp(name, "ingress-", 8)
		|| !strncmp(name, "worker-", 7);
}

static void count(void)
{
	__atomic_fetch_add(&counts[is_worker() ? BY_WORKERS : BY_OTHERS], 1, __ATOMIC_RELAXED);
}

void *malloc(size_t size)
{
	count();
	return __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
	count();
	return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size)
{
	count();
	return __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
	count();
	return __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
	count();
	*out = __libc_memalign(alignment, size);
	return *out ? 0 : ENOMEM;
}

void free(void *old)
{
	if (old && is_worker())
		__atomic_fetch_add(&counts[FREED_BY_WORKERS], 1, __ATOMIC_RELAXED);
	__libc_free(old);
}
