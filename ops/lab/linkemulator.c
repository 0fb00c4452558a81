// Emulates a long, lossy, rate-limited link between two network namespaces, TUN to TUN, where the kernel has no netem.
//
//   linkemulator NETNS_A IF_A NETNS_B IF_B RATE_MBIT DELAY_MS JITTER_MS LOSS_PERCENT QUEUE_MS SEED BURST
//
// NETNS is a path. Each direction is a FIFO of its own: rate limiter with tail drop beyond QUEUE_MS, then loss, then
// DELAY_MS one way plus up to JITTER_MS, never reordering. BURST is the mean length of a run of losses (Gilbert model);
// 1 makes losses independent. Prints "ready" when both interfaces exist, and counters when it ends. It takes about
// 0.4 of a core at 190 Mbit/s; more than 400 Mbit/s is more than it can keep up with.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
  PACKET_SIZE = 1600,
  READ_BUDGET = 64,
  TX_QUEUE_LENGTH = 20000,
  MAX_RING = 262144,
};

#define NANOSECONDS_PER_MS 1e6
// A packet due this soon goes out now: waking for it would cost more than it would gain.
#define EARLY_NS 20000
// One wake-up moves several packets.
#define COALESCE_NS 60000
#define IDLE_NS 50000000

struct packet {
  uint64_t due;
  uint16_t length;
  uint8_t data[PACKET_SIZE];
};

struct direction {
  int in, out;
  struct packet* ring;
  uint32_t head, tail, mask;
  uint64_t departed, last_due;
  int losing;
  uint64_t received, sent, lost, dropped, failed, bytes;
};

struct link {
  double bytes_per_ns;
  uint64_t delay, jitter, queue;
  double loss, enter_burst, leave_burst;
};

static volatile sig_atomic_t stopping;

static void on_signal(int signal) {
  (void)signal;
  stopping = 1;
}

static void fail(const char* what) {
  fprintf(stderr, "linkemulator: %s: %s\n", what, strerror(errno));
  exit(1);
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// xorshift128+: a run with the same seed loses the same packets.
static uint64_t random_state[2];

static double random_unit(void) {
  uint64_t a = random_state[0], b = random_state[1];
  random_state[0] = b;
  a ^= a << 23;
  random_state[1] = a ^ b ^ (a >> 17) ^ (b >> 26);
  return (double)((random_state[1] + b) >> 11) * (1.0 / 9007199254740992.0);
}

static int open_tun(const char* netns, const char* interface) {
  int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  int there = open(netns, O_RDONLY | O_CLOEXEC);
  if (home < 0 || there < 0 || setns(there, CLONE_NEWNET)) fail(netns);

  struct ifreq request;
  memset(&request, 0, sizeof request);
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  snprintf(request.ifr_name, sizeof request.ifr_name, "%s", interface);
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0 || ioctl(fd, TUNSETIFF, &request)) fail("/dev/net/tun");

  int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  request.ifr_qlen = TX_QUEUE_LENGTH;
  if (control < 0 || ioctl(control, SIOCSIFTXQLEN, &request)) fail("transmit queue length");
  close(control);

  if (setns(home, CLONE_NEWNET)) fail("return to own namespace");
  close(home);
  close(there);
  return fd;
}

static int loses(const struct link* link, struct direction* d) {
  if (link->loss <= 0) return 0;
  double draw = random_unit();
  d->losing = d->losing ? draw >= link->leave_burst : draw < link->enter_burst;
  return d->losing;
}

static void take_in(const struct link* link, struct direction* d) {
  for (int budget = 0; budget < READ_BUDGET; budget++) {
    uint8_t overflow[PACKET_SIZE];
    struct packet* slot = &d->ring[d->head & d->mask];
    int full = d->head - d->tail > d->mask;
    ssize_t length = read(d->in, full ? overflow : slot->data, PACKET_SIZE);
    if (length <= 0) return;
    d->received++;
    uint64_t t = now();
    uint64_t begin = d->departed > t ? d->departed : t;
    if (full || begin - t > link->queue) {
      d->dropped++;
      continue;
    }
    d->departed = begin + (uint64_t)((double)length / link->bytes_per_ns);
    if (loses(link, d)) {
      d->lost++;
      continue;
    }
    uint64_t due = d->departed + link->delay + (uint64_t)(random_unit() * (double)link->jitter);
    if (due < d->last_due) due = d->last_due;
    d->last_due = due;
    slot->due = due;
    slot->length = (uint16_t)length;
    d->head++;
  }
}

// Returns when the next packet is due, at most `limit`.
static uint64_t give_out(struct direction* d, uint64_t limit) {
  uint64_t t = now();
  while (d->tail != d->head) {
    struct packet* slot = &d->ring[d->tail & d->mask];
    if (slot->due > t + EARLY_NS) return slot->due < limit ? slot->due : limit;
    if (write(d->out, slot->data, slot->length) < 0) {
      d->failed++;
    } else {
      d->sent++;
      d->bytes += slot->length;
    }
    d->tail++;
  }
  return limit;
}

static void wait_until(uint64_t due, int a, int b) {
  uint64_t t = now();
  if (due <= t + COALESCE_NS / 2) return;
  uint64_t rest = due - t;
  struct timespec nap = {.tv_nsec = COALESCE_NS};
  struct timespec limit = {.tv_nsec = (long)(rest < IDLE_NS ? rest : IDLE_NS)};
  struct pollfd fds[2] = {{.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}};
  nanosleep(&nap, NULL);
  ppoll(fds, 2, &limit, NULL);
}

int main(int argc, char** argv) {
  if (argc != 12) {
    fprintf(stderr,
            "usage: linkemulator NETNS_A IF_A NETNS_B IF_B RATE_MBIT DELAY_MS JITTER_MS LOSS_PERCENT QUEUE_MS "
            "SEED BURST\n");
    return 2;
  }
  double burst = atof(argv[11]);
  struct link link = {
      .bytes_per_ns = atof(argv[5]) * 1e6 / 8 / 1e9,
      .delay = (uint64_t)(atof(argv[6]) * NANOSECONDS_PER_MS),
      .jitter = (uint64_t)(atof(argv[7]) * NANOSECONDS_PER_MS),
      .loss = atof(argv[8]) / 100,
      .queue = (uint64_t)(atof(argv[9]) * NANOSECONDS_PER_MS),
  };
  if (link.bytes_per_ns <= 0 || link.loss < 0 || link.loss >= 1 || burst < 1) {
    fprintf(stderr, "linkemulator: rate must be positive, loss within 0 to 100, burst at least 1\n");
    return 2;
  }
  // The chances that give the asked mean loss and mean run; independent loss enters and leaves at each packet anew.
  link.enter_burst = burst > 1 ? link.loss / (burst * (1 - link.loss)) : link.loss;
  link.leave_burst = burst > 1 ? 1 / burst : 1 - link.loss;
  random_state[0] = strtoull(argv[10], NULL, 0);
  random_state[1] = 0x9E3779B97F4A7C15ull ^ random_state[0];
  for (int i = 0; i < 20; i++) random_unit();

  int a = open_tun(argv[1], argv[2]), b = open_tun(argv[3], argv[4]);

  // Room for everything under way, reckoned in the smallest packets, up to a bound of memory.
  double wanted = link.bytes_per_ns * (double)(link.queue + link.delay + link.jitter + 30000000) / 60 + 4096;
  uint32_t size = 1;
  while (size < wanted && size < MAX_RING) size <<= 1;
  struct direction directions[2] = {{.in = a, .out = b}, {.in = b, .out = a}};
  for (int i = 0; i < 2; i++) {
    directions[i].mask = size - 1;
    directions[i].ring = malloc((size_t)size * sizeof(struct packet));
    if (!directions[i].ring) fail("memory for the ring");
  }

  signal(SIGTERM, on_signal);
  signal(SIGINT, on_signal);
  prctl(PR_SET_TIMERSLACK, 1000);
  // The link must not be the victim of contention for the processor. Without the right to it, it runs as it is.
  struct sched_param priority = {.sched_priority = 10};
  sched_setscheduler(0, SCHED_RR, &priority);
  fprintf(stderr, "ready: %s Mbit/s, %s ms, ring of %u\n", argv[5], argv[6], size);

  while (!stopping) {
    uint64_t next = now() + IDLE_NS;
    for (int i = 0; i < 2; i++) {
      take_in(&link, &directions[i]);
      next = give_out(&directions[i], next);
    }
    wait_until(next, a, b);
  }
  for (int i = 0; i < 2; i++) {
    struct direction* d = &directions[i];
    fprintf(stderr,
            "direction=%d received=%" PRIu64 " sent=%" PRIu64 " lost=%" PRIu64 " dropped=%" PRIu64 " failed=%" PRIu64
            " bytes=%" PRIu64 "\n",
            i, d->received, d->sent, d->lost, d->dropped, d->failed, d->bytes);
  }
  return 0;
}
