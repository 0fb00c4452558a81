// UDP load for the tunnel's benchmarks. One datagram at a time reaches the kernel (no segmentation offload), many to a system
// call, so that what lies between is the bottleneck and not the tool. Counted at the receiver.
//
//   udptool serve PORT
//   udptool flood ADDRESS PORT BYTES SECONDS [PER_SECOND]    as fast as it can, or paced; prints what arrived of it
//   udptool echo  ADDRESS PORT BYTES SECONDS [GAP_US]        one datagram at a time, there and back
//
// ADDRESS is numeric, IPv4 or IPv6; BYTES is the payload, 32 to 9000. A client prints one line of JSON; times in microseconds.
// Both ends are this program on one machine, so one-way times are of one clock.
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64
#define LEAST_BYTES 32
#define MOST_BYTES 9000
#define RUNS 16
#define BUFFER (4 << 20)
#define PACE_NANOSECONDS 200000
// One-way times in buckets an eighth of a power of two wide.
#define BUCKETS 320
#define MAX_SAMPLES 4000000

enum kind { FLOOD = 'F', ECHO = 'E', ASK = 'A' };

struct head {
  uint32_t kind, run;
  uint64_t sequence, sent_at;
};

struct run {
  uint32_t id;
  uint64_t packets, first, last, late;
  uint64_t highest;
  uint32_t delays[BUCKETS];
};

struct answer {
  uint32_t kind, run;
  uint64_t packets, first, last, late;
  double p50, p99;
};

static uint8_t bytes[BATCH][MOST_BYTES];

static void fail(const char* what) {
  fprintf(stderr, "udptool: %s: %s\n", what, strerror(errno));
  exit(1);
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void buffer(int fd, int force, int ordinary) {
  int size = BUFFER;
  if (setsockopt(fd, SOL_SOCKET, force, &size, sizeof size)) setsockopt(fd, SOL_SOCKET, ordinary, &size, sizeof size);
}

static unsigned bucket(uint64_t nanoseconds) {
  if (nanoseconds < 8) return (unsigned)nanoseconds;
  unsigned power = 63u - (unsigned)__builtin_clzll(nanoseconds);
  unsigned index = (power - 2) * 8 + (unsigned)(nanoseconds >> (power - 3) & 7);
  return index < BUCKETS ? index : BUCKETS - 1;
}

static double delay(const struct run* run, double share) {
  uint64_t wanted = (uint64_t)((double)run->packets * share), seen = 0;
  for (unsigned i = 0; i < BUCKETS; i++) {
    seen += run->delays[i];
    if (seen > wanted) return (double)((8ull + i % 8) << (i / 8 + 2 - 3)) / 1e3;
  }
  return 0;
}

// ---- server

static struct run runs[RUNS];
static unsigned next_run;

static struct run* run_of(uint32_t id) {
  for (unsigned i = 0; i < RUNS; i++)
    if (runs[i].id == id) return &runs[i];
  struct run* made = &runs[next_run++ % RUNS];
  *made = (struct run){.id = id};
  return made;
}

static void count(const struct head* head, uint64_t at) {
  static struct run* run;
  if (!run || run->id != head->run) run = run_of(head->run);
  if (run->packets++ == 0) run->first = at;
  run->last = at;
  if (head->sequence < run->highest) run->late++;
  else run->highest = head->sequence;
  run->delays[bucket(at > head->sent_at ? at - head->sent_at : 0)]++;
}

static void serve(int port) {
  int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), off = 0;
  setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF);
  struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
  if (fd < 0 || bind(fd, (struct sockaddr*)&any, sizeof any)) fail("bind");
  fprintf(stderr, "ready\n");
  static struct mmsghdr messages[BATCH];
  static struct iovec parts[BATCH];
  static struct sockaddr_in6 names[BATCH];
  for (;;) {
    for (int i = 0; i < BATCH; i++) {
      parts[i] = (struct iovec){bytes[i], MOST_BYTES};
      messages[i].msg_hdr = (struct msghdr){
          .msg_name = &names[i], .msg_namelen = sizeof names[i], .msg_iov = &parts[i], .msg_iovlen = 1};
    }
    int got = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
    uint64_t at = now();
    for (int i = 0; i < got; i++) {
      struct head head;
      if (messages[i].msg_len < sizeof head) continue;
      memcpy(&head, bytes[i], sizeof head);
      struct sockaddr* from = (struct sockaddr*)&names[i];
      socklen_t length = messages[i].msg_hdr.msg_namelen;
      if (head.kind == FLOOD) count(&head, at);
      else if (head.kind == ECHO) sendto(fd, bytes[i], messages[i].msg_len, 0, from, length);
      else if (head.kind == ASK) {
        const struct run* run = run_of(head.run);
        struct answer answer = {ASK,       head.run,  run->packets,     run->first,
                                run->last, run->late, delay(run, 0.50), delay(run, 0.99)};
        sendto(fd, &answer, sizeof answer, 0, from, length);
      }
    }
  }
}

// ---- client

static int dial(const char* address, const char* port) {
  struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_DGRAM}, *target;
  if (getaddrinfo(address, port, &hints, &target)) fail("address");
  int fd = socket(target->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, target->ai_addr, target->ai_addrlen)) fail("connect");
  prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
  return fd;
}

static void pause_until(uint64_t at) {
  struct timespec until = {(time_t)(at / 1000000000u), (long)(at % 1000000000u)};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

// Waits for what is still under way: asks until two answers agree.
static struct answer ask(int fd, uint32_t id) {
  struct answer last = {.packets = UINT64_MAX};
  for (int tries = 0; tries < 40; tries++) {
    pause_until(now() + 100000000u);
    struct head question = {.kind = ASK, .run = id};
    uint8_t message[LEAST_BYTES] = {0};
    memcpy(message, &question, sizeof question);
    send(fd, message, sizeof message, 0);
    struct pollfd readable = {fd, POLLIN, 0};
    struct answer answer;
    if (poll(&readable, 1, 300) <= 0 || recv(fd, &answer, sizeof answer, 0) != sizeof answer || answer.run != id) continue;
    if (answer.packets == last.packets) return answer;
    last = answer;
  }
  if (last.packets == UINT64_MAX) last.packets = 0;
  return last;
}

static void flood(int fd, size_t length, double seconds, double rate) {
  static struct mmsghdr messages[BATCH];
  static struct iovec parts[BATCH];
  uint32_t id = (uint32_t)now() ^ (uint32_t)getpid() << 16;
  for (int i = 0; i < BATCH; i++) {
    parts[i] = (struct iovec){bytes[i], length};
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
  }
  uint64_t begun = now(), end = begun + (uint64_t)(seconds * 1e9), sent = 0, refused = 0, at = begun;
  while (at < end) {
    uint64_t due = rate > 0 ? (uint64_t)((double)(at - begun) / 1e9 * rate) : sent + BATCH;
    if (due <= sent) {
      pause_until(at + PACE_NANOSECONDS);
      at = now();
      continue;
    }
    unsigned batch = due - sent < BATCH ? (unsigned)(due - sent) : BATCH;
    for (unsigned i = 0; i < batch; i++) {
      struct head head = {FLOOD, id, sent + i + 1, at};
      memcpy(bytes[i], &head, sizeof head);
    }
    int done = sendmmsg(fd, messages, batch, 0);
    if (done < 0) {
      refused++;
      done = 0;
      if (errno != ENOBUFS && errno != EAGAIN && errno != ECONNREFUSED && errno != EINTR) fail("send");
    }
    sent += (uint64_t)done;
    at = now();
  }
  double took = (double)(at - begun) / 1e9;
  struct answer answer = ask(fd, id);
  // Between the first and the last to arrive: a queue that empties after the end does not count twice.
  double span = (double)(answer.last - answer.first) / 1e9;
  double steady = answer.packets < 2 || span <= 0 ? 0 : (double)(answer.packets - 1) / span;
  printf("{\"offered\":%.0f,\"delivered\":%.0f,\"steady\":%.1f,\"sent\":%" PRIu64 ",\"received\":%" PRIu64 ",\"loss\":%.6f,\"late\":%" PRIu64
         ",\"refused\":%" PRIu64 ",\"p50_us\":%.1f,\"p99_us\":%.1f}\n",
         (double)sent / took, (double)answer.packets / took, steady, sent, answer.packets,
         sent == 0 ? 0 : 1 - (double)answer.packets / (double)sent, answer.late, refused, answer.p50, answer.p99);
}

static int by_size(const void* a, const void* b) {
  uint64_t x = *(const uint64_t*)a, y = *(const uint64_t*)b;
  return (x > y) - (x < y);
}

static void echo(int fd, size_t length, double seconds, uint64_t gap) {
  uint64_t* samples = malloc(MAX_SAMPLES * sizeof *samples);
  if (!samples) fail("memory");
  uint64_t begun = now(), end = begun + (uint64_t)(seconds * 1e9), made = 0, sent = 0;
  while (now() < end && made < MAX_SAMPLES) {
    uint64_t at = now();
    struct head head = {ECHO, 0, ++sent, at};
    memcpy(bytes[0], &head, sizeof head);
    if (send(fd, bytes[0], length, 0) < 0 && errno != ENOBUFS && errno != ECONNREFUSED) fail("send");
    struct pollfd readable = {fd, POLLIN, 0};
    while (poll(&readable, 1, 500) > 0) {
      ssize_t got = recv(fd, bytes[1], MOST_BYTES, 0);
      struct head back;
      if (got < (ssize_t)sizeof back) continue;
      memcpy(&back, bytes[1], sizeof back);
      if (back.kind != ECHO || back.sequence != sent) continue;
      samples[made++] = now() - at;
      break;
    }
    if (gap > 0) pause_until(now() + gap * 1000);
  }
  qsort(samples, made, sizeof *samples, by_size);
  const double shares[] = {0, 0.5, 0.9, 0.99};
  double at[4] = {0};
  for (int i = 0; i < 4 && made > 0; i++) at[i] = (double)samples[(uint64_t)((double)(made - 1) * shares[i])] / 1e3;
  printf("{\"sent\":%" PRIu64 ",\"received\":%" PRIu64 ",\"min_us\":%.1f,\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f}\n", sent,
         made, at[0], at[1], at[2], at[3]);
}

static int usage(void) {
  fprintf(stderr, "usage: udptool serve PORT\n"
                  "       udptool flood ADDRESS PORT BYTES SECONDS [PER_SECOND]\n"
                  "       udptool echo ADDRESS PORT BYTES SECONDS [GAP_US]\n");
  return 2;
}

int main(int argc, char** argv) {
  if (argc == 3 && !strcmp(argv[1], "serve")) serve(atoi(argv[2]));
  if (argc < 6) return usage();
  size_t length = strtoull(argv[4], NULL, 10);
  double seconds = atof(argv[5]), further = argc > 6 ? atof(argv[6]) : 0;
  if (length < LEAST_BYTES || length > MOST_BYTES || seconds <= 0 || further < 0) return usage();
  for (int i = 0; i < BATCH; i++)
    for (size_t at = 0; at < MOST_BYTES; at++) bytes[i][at] = (uint8_t)(at * 7);
  int fd = dial(argv[2], argv[3]);
  if (!strcmp(argv[1], "flood")) flood(fd, length, seconds, further);
  else if (!strcmp(argv[1], "echo")) echo(fd, length, seconds, (uint64_t)further);
  else return usage();
  return 0;
}
