/*
 * A plain tunnel loop: one packet per system call, one thread, as the C part of flannel's udp
 * backend works. It stands in for that program in `flannel-udp bench --baseline`, to show that
 * --offload=off is a fair stand-in too.
 *
 *     cc -O2 -Wall -o loop benches/baseline/loop.c
 *     flannel-udp bench --baseline ./loop
 *
 * Arguments: DEVICE OWN-ADDRESS PEER-ADDRESS PORT MTU. Address, MTU and route of the device are the
 * caller's business. Every packet goes to the one peer; a table is looked up all the same.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <netinet/ip.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct route {
	in_addr_t network, mask;
	struct sockaddr_in hop;
};

static struct route table[] = { { 0, 0, { .sin_family = AF_INET } } };

static struct sockaddr_in *find(in_addr_t address)
{
	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		if ((address & table[i].mask) == table[i].network)
			return &table[i].hop;
	return NULL;
}

static int open_tun(const char *name)
{
	struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);

	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0) {
		perror("tun");
		exit(1);
	}
	return fd;
}

static int open_udp(const char *address, int port)
{
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	inet_pton(AF_INET, address, &own.sin_addr);
	if (fd < 0 || bind(fd, (struct sockaddr *)&own, sizeof own) < 0) {
		perror("udp");
		exit(1);
	}
	return fd;
}

/* One hop less to live, and the checksum that goes with it (RFC 1624). */
static int decrement_ttl(struct iphdr *ip)
{
	if (--ip->ttl == 0)
		return 0;
	if (ip->check >= htons(0xffff - 0x100))
		ip->check += htons(0x100) + 1;
	else
		ip->check += htons(0x100);
	return 1;
}

static int tun_to_udp(int tun, int udp, char *buffer, size_t mtu)
{
	struct iphdr *ip = (struct iphdr *)buffer;
	ssize_t length = read(tun, buffer, mtu);
	struct sockaddr_in *hop;

	if (length < (ssize_t)sizeof *ip)
		return length >= 0;
	hop = find(ip->daddr);
	if (hop && decrement_ttl(ip))
		sendto(udp, buffer, length, 0, (struct sockaddr *)hop, sizeof *hop);
	return 1;
}

static int udp_to_tun(int udp, int tun, char *buffer, size_t mtu)
{
	struct iphdr *ip = (struct iphdr *)buffer;
	ssize_t length = recv(udp, buffer, mtu, 0);

	if (length < (ssize_t)sizeof *ip)
		return length >= 0;
	if (decrement_ttl(ip) && write(tun, buffer, length) < 0)
		perror("tun write");
	return 1;
}

int main(int argc, char **argv)
{
	if (argc != 6) {
		fprintf(stderr, "usage: %s DEVICE OWN-ADDRESS PEER-ADDRESS PORT MTU\n", argv[0]);
		return 64;
	}
	size_t mtu = strtoul(argv[5], NULL, 10);
	char *buffer = malloc(mtu);
	int udp = open_udp(argv[2], atoi(argv[4])), tun = open_tun(argv[1]);
	struct pollfd ready[] = { { tun, POLLIN, 0 }, { udp, POLLIN, 0 } };

	inet_pton(AF_INET, argv[3], &table[0].hop.sin_addr);
	table[0].hop.sin_port = htons(atoi(argv[4]));
	for (;;) {
		poll(ready, 2, -1);
		/* As long as either direction moves, asking both is cheaper than poll. */
		while (tun_to_udp(tun, udp, buffer, mtu) + udp_to_tun(udp, tun, buffer, mtu))
			;
	}
}
