// Sends TCP SYNs on a device as fast as they are taken and says how long each took:
//   syntool DEVICE DESTINATION-MAC COUNT < addresses (one IPv4 address in network order, 4 bytes each)
// The kernel handles a packet on a veth inside the call that sends it, so the difference between two rulesets is what the
// rules cost. Prints nanoseconds a packet.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64
#define FRAME (14 + 20 + 20)

static uint16_t checksum(const uint8_t *bytes, size_t length) {
  uint32_t sum = 0;
  for (size_t i = 0; i < length; i += 2) sum += (uint32_t)(bytes[i] << 8 | bytes[i + 1]);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return htons((uint16_t)~sum);
}

static void fill(uint8_t *frame, const uint8_t *mac, uint32_t destination, uint16_t port) {
  memset(frame, 0, FRAME);
  memcpy(frame, mac, 6);
  frame[12] = 0x08;
  struct iphdr *ip = (struct iphdr *)(frame + 14);
  ip->version = 4;
  ip->ihl = 5;
  ip->tot_len = htons(40);
  ip->ttl = 64;
  ip->protocol = IPPROTO_TCP;
  ip->saddr = htonl(0xc6336401);  // 198.51.100.1
  ip->daddr = destination;
  ip->check = checksum(frame + 14, 20);
  struct tcphdr *tcp = (struct tcphdr *)(frame + 34);
  tcp->source = htons(port);
  tcp->dest = htons(443);
  tcp->doff = 5;
  tcp->syn = 1;
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  uint8_t mac[6];
  if (sscanf(argv[2], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5]) != 6) return 2;
  const long count = atol(argv[3]);
  static uint32_t addresses[1 << 16];
  size_t known = fread(addresses, 4, sizeof addresses / 4, stdin);
  if (known == 0) return 2;
  const int fd = socket(AF_PACKET, SOCK_RAW, 0);
  struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(argv[1]), .sll_halen = 6};
  memcpy(to.sll_addr, mac, 6);
  if (fd < 0 || to.sll_ifindex == 0) {
    perror("syntool");
    return 1;
  }
  static uint8_t frames[BATCH][FRAME];
  struct iovec parts[BATCH];
  struct mmsghdr messages[BATCH];
  memset(messages, 0, sizeof messages);
  for (int i = 0; i < BATCH; ++i) {
    parts[i] = (struct iovec){.iov_base = frames[i], .iov_len = FRAME};
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1, .msg_name = &to, .msg_namelen = sizeof to};
  }
  double busy = 0;
  long sent = 0;
  while (sent < count) {
    for (int i = 0; i < BATCH; ++i)
      fill(frames[i], mac, addresses[(size_t)(sent + i) % known], (uint16_t)(1024 + (sent + i) % 60000));
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    const int done = sendmmsg(fd, messages, BATCH, 0);
    clock_gettime(CLOCK_MONOTONIC, &after);
    if (done <= 0) {
      perror("syntool");
      return 1;
    }
    busy += (double)(after.tv_sec - before.tv_sec) * 1e9 + (double)(after.tv_nsec - before.tv_nsec);
    sent += done;
  }
  printf("%.1f\n", busy / (double)sent);
  return 0;
}
