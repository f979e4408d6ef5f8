/*
 * Preloaded (LD_PRELOAD), makes system calls of a daemon fail as those of another kernel would. The
 * environment variable FAULTS is a comma-separated list of:
 *
 *   no-vnet no-offload no-uso no-segment no-gro no-mmsg    the kernel lacks this feature
 *   gso-send=ERRNO      sends with UDP_SEGMENT fail
 *   gso-write=ERRNO     writes of GSO packets to the TUN device fail
 *   to=ADDRESS:ERRNO    sends to this host fail
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define SOL_UDP_ 17
#define UDP_SEGMENT_ 103
#define UDP_GRO_ 104
#define TUN_F_USO_ (0x20 | 0x40)
#define VNET_HEADER 10

static int no_vnet, no_offload, no_uso, no_segment, no_gro, no_mmsg, gso_send, gso_write, to_errno;
static in_addr_t to;

__attribute__((constructor)) static void read_faults(void)
{
	char *list = getenv("FAULTS"), *word, *rest;

	list = strdup(list ? list : "");
	unsetenv("LD_PRELOAD");
	for (word = strtok_r(list, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
		no_vnet |= !strcmp(word, "no-vnet");
		no_offload |= !strcmp(word, "no-offload");
		no_uso |= !strcmp(word, "no-uso");
		no_segment |= !strcmp(word, "no-segment");
		no_gro |= !strcmp(word, "no-gro");
		no_mmsg |= !strcmp(word, "no-mmsg");
		if (!strncmp(word, "gso-send=", 9))
			gso_send = atoi(word + 9);
		if (!strncmp(word, "gso-write=", 10))
			gso_write = atoi(word + 10);
		if (!strncmp(word, "to=", 3)) {
			char *colon = strchr(word, ':');
			*colon = 0;
			to = inet_addr(word + 3);
			to_errno = atoi(colon + 1);
		}
	}
	free(list);
}

static int fail_with(int error)
{
	errno = error;
	return -1;
}

/* The errno with which sending this message fails; 0 if it does not fail. */
static int fault_of(const struct msghdr *message)
{
	const struct sockaddr_in *name = message->msg_name;

	if (gso_send && message->msg_controllen)
		return gso_send;
	if (to_errno && name && name->sin_family == AF_INET && name->sin_addr.s_addr == to)
		return to_errno;
	return 0;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	ssize_t (*real)(int, const struct msghdr *, int) = dlsym(RTLD_NEXT, "sendmsg");
	int fault = fault_of(message);

	return fault ? fail_with(fault) : real(fd, message, flags);
}

/*
 * The daemon makes these two calls by their numbers. As the kernel does: the messages before the failing one
 * are sent, and the next call returns the error.
 */
long syscall(long number, ...)
{
	long (*real)(long, ...) = dlsym(RTLD_NEXT, "syscall");
	unsigned int good = 0, len;
	struct mmsghdr *messages;
	long argument[6];
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		argument[i] = va_arg(list, long);
	va_end(list);
	if (no_mmsg && (number == SYS_sendmmsg || number == SYS_recvmmsg))
		return fail_with(ENOSYS);
	if (number == SYS_sendmmsg) {
		messages = (struct mmsghdr *)argument[1];
		len = argument[2];
		while (good < len && !fault_of(&messages[good].msg_hdr))
			good++;
		if (len && !good)
			return fail_with(fault_of(&messages[0].msg_hdr));
		argument[2] = good;
	}
	return real(number, argument[0], argument[1], argument[2], argument[3], argument[4], argument[5]);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	int (*real)(int, int, int, const void *, socklen_t) = dlsym(RTLD_NEXT, "setsockopt");

	if (level == SOL_UDP_
	    && ((no_segment && name == UDP_SEGMENT_) || (no_gro && name == UDP_GRO_)))
		return fail_with(ENOPROTOOPT);
	return real(fd, level, name, value, len);
}

int ioctl(int fd, unsigned long request, ...)
{
	int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
	unsigned long argument;
	va_list list;

	va_start(list, request);
	argument = va_arg(list, unsigned long);
	va_end(list);
	if (request == TUNSETOFFLOAD
	    && ((no_uso && argument & TUN_F_USO_) || (no_offload && argument)))
		return fail_with(EINVAL);
	if (no_vnet && request == TUNSETIFF
	    && ((struct ifreq *)argument)->ifr_flags & IFF_VNET_HDR)
		return fail_with(EINVAL);
	return real(fd, request, argument);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
	ssize_t (*real)(int, const struct iovec *, int) = dlsym(RTLD_NEXT, "writev");

	/* gso_type, the second byte of a virtio_net_hdr, is not 0 for a GSO packet. */
	if (gso_write && count > 1 && parts[0].iov_len == VNET_HEADER
	    && ((const unsigned char *)parts[0].iov_base)[1])
		return fail_with(gso_write);
	return real(fd, parts, count);
}
