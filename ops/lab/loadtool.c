// TCP load for the lab's benchmarks. Downloads are counted at the receiver, so that a proxy's buffers cannot lie; uploads at the sender.
//
//   loadtool serve PORT
//   loadtool down ADDRESS PORT FLOWS SECONDS [WARMUP]            bulk from the server
//   loadtool up   ADDRESS PORT FLOWS SECONDS [WARMUP]            bulk to the server, counted as the client's writes
//   loadtool rr   ADDRESS PORT FLOWS SECONDS REQUEST RESPONSE    ping-pong on open connections
//   loadtool crr  ADDRESS PORT FLOWS SECONDS REQUEST RESPONSE    connect, request, response, close
//   loadtool get  ADDRESS PORT BYTES COUNT                       fetches of BYTES, each on a new connection
//
// ADDRESS is numeric, IPv4 or IPv6. A client prints one line of JSON. Latencies are in microseconds.
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK 262144
#define MAX_REQUEST 65536
#define MAX_SAMPLES 4000000
#define MAX_EVENTS 256
#define GET_TIMEOUT_SECONDS 20

enum mode { DOWN = 'D', UP = 'U', REQUESTS = 'R', GET = 'G' };

// What a client asks of the server, first thing on a connection. Both ends are this program on one machine.
struct demand {
  uint32_t mode, request, response, unused;
  uint64_t bytes;
};

struct connection {
  int fd, dead, wants_write, started;
  uint32_t demand_read;
  struct demand demand;
  uint64_t to_write, begun;
  uint32_t pending;
  uint64_t received;
};

static char output[CHUNK], input[CHUNK];
static int poller;

static void fail(const char* what) {
  fprintf(stderr, "loadtool: %s: %s\n", what, strerror(errno));
  exit(1);
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void watch(struct connection* c, int operation, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = c};
  epoll_ctl(poller, operation, c->fd, &event);
}

static void want_write(struct connection* c, int wanted) {
  if (c->wants_write == wanted) return;
  c->wants_write = wanted;
  watch(c, EPOLL_CTL_MOD, EPOLLIN | (wanted ? EPOLLOUT : 0));
}

static void no_delay(int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void drop(struct connection* c) {
  close(c->fd);
  c->fd = -1;
  c->dead = 1;
}

// ---- server

static void serve_output(struct connection* c) {
  while (c->to_write > 0) {
    ssize_t n = write(c->fd, output, c->to_write > CHUNK ? CHUNK : c->to_write);
    if (n < 0) {
      if (errno == EAGAIN) want_write(c, 1);
      else drop(c);
      return;
    }
    c->to_write -= (uint64_t)n;
    if (c->demand.mode == DOWN) c->to_write = CHUNK;
  }
  want_write(c, 0);
  if (c->demand.mode == GET) shutdown(c->fd, SHUT_WR);
}

// False when there is nothing more to do on this connection for now.
static int serve_demand(struct connection* c) {
  ssize_t n = read(c->fd, (char*)&c->demand + c->demand_read, sizeof c->demand - c->demand_read);
  if (n == 0 || (n < 0 && errno != EAGAIN)) drop(c);
  if (n <= 0) return 0;
  c->demand_read += (uint32_t)n;
  if (c->demand_read < sizeof c->demand) return 0;
  if (c->demand.mode == REQUESTS && c->demand.request == 0) {
    drop(c);
    return 0;
  }
  c->started = 1;
  if (c->demand.mode == DOWN) c->to_write = CHUNK;
  if (c->demand.mode == GET) c->to_write = c->demand.bytes;
  if (c->to_write > 0) serve_output(c);
  return !c->dead;
}

static void serve_input(struct connection* c) {
  if (!c->started && !serve_demand(c)) return;
  for (int budget = 0; budget < 4 && !c->dead; budget++) {
    ssize_t n = read(c->fd, input, CHUNK);
    if (n == 0 || (n < 0 && errno != EAGAIN)) drop(c);
    if (n <= 0) return;
    if (c->demand.mode == REQUESTS) {
      c->pending += (uint32_t)n;
      c->to_write += (uint64_t)(c->pending / c->demand.request) * c->demand.response;
      c->pending %= c->demand.request;
      serve_output(c);
    }
    if (n < CHUNK) return;
  }
}

static void serve_accept(int listener) {
  for (int budget = 0; budget < 64; budget++) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    no_delay(fd);
    struct connection* c = calloc(1, sizeof *c);
    if (!c) fail("memory");
    c->fd = fd;
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
  }
}

static void serve(int port) {
  int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1, off = 0;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
  if (fd < 0 || bind(fd, (struct sockaddr*)&any, sizeof any) || listen(fd, 65535)) fail("listen");
  struct connection listener = {.fd = fd};
  watch(&listener, EPOLL_CTL_ADD, EPOLLIN);
  fprintf(stderr, "ready\n");
  for (;;) {
    struct epoll_event events[MAX_EVENTS];
    int count = epoll_wait(poller, events, MAX_EVENTS, -1);
    for (int i = 0; i < count; i++) {
      struct connection* c = events[i].data.ptr;
      if (c == &listener) {
        serve_accept(fd);
        continue;
      }
      if (events[i].events & EPOLLOUT) serve_output(c);
      if (!c->dead && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) serve_input(c);
      if (c->dead) free(c);
    }
  }
}

// ---- client

static struct addrinfo* target;
static struct demand demand;
static int reconnects;
static uint64_t *samples, sample_count, errors, total;

static void add_sample(uint64_t nanoseconds) {
  if (sample_count < MAX_SAMPLES) samples[sample_count++] = nanoseconds;
}

static int by_size(const void* a, const void* b) {
  uint64_t x = *(const uint64_t*)a, y = *(const uint64_t*)b;
  return (x > y) - (x < y);
}

static double sample_at(double share) {
  if (sample_count == 0) return 0;
  return (double)samples[(uint64_t)((double)(sample_count - 1) * share)] / 1e3;
}

static void print_latencies(const char* mode, double seconds) {
  qsort(samples, sample_count, sizeof *samples, by_size);
  printf("{\"mode\":\"%s\",\"ops\":%" PRIu64 ",\"ops_s\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,"
         "\"errors\":%" PRIu64 "}\n",
         mode, sample_count, (double)sample_count / seconds, sample_at(0.5), sample_at(0.99), sample_at(1), errors);
}

static void open_connection(struct connection* c) {
  *c = (struct connection){.begun = now(), .wants_write = 1};
  c->fd = socket(target->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  no_delay(c->fd);
  if (connect(c->fd, target->ai_addr, target->ai_addrlen) && errno != EINPROGRESS) {
    errors++;
    drop(c);
    return;
  }
  watch(c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

static void broken(struct connection* c) {
  errors++;
  drop(c);
  if (reconnects) open_connection(c);
}

static void send_request(struct connection* c, int first) {
  static char message[sizeof(struct demand) + MAX_REQUEST];
  size_t length = 0;
  if (first) memcpy(message, &demand, length = sizeof demand);
  memset(message + length, 'q', demand.request);
  length += demand.request;
  if (!first || !reconnects) c->begun = now();
  if (write(c->fd, message, length) != (ssize_t)length) errors++;
}

static void client_input(struct connection* c) {
  ssize_t n = read(c->fd, input, CHUNK);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) {
    broken(c);
    return;
  }
  c->received += (uint64_t)n;
  if (demand.mode != UP) total += (uint64_t)n;
  if (demand.mode != REQUESTS) return;
  c->pending += (uint32_t)n;
  if (c->pending < demand.response) return;
  c->pending = 0;
  add_sample(now() - c->begun);
  if (reconnects) {
    drop(c);
    open_connection(c);
  } else {
    send_request(c, 0);
  }
}

static void client_output(struct connection* c) {
  if (!c->started) {
    c->started = 1;
    send_request(c, 1);
    if (demand.mode != UP) want_write(c, 0);
  }
  if (demand.mode != UP) return;
  ssize_t n = write(c->fd, output, CHUNK);
  if (n > 0) {
    total += (uint64_t)n;
    c->received += (uint64_t)n;
  } else if (errno != EAGAIN) {
    broken(c);
  }
}

static void print_bulk(const char* mode, const struct connection* all, int flows, uint64_t bytes, double seconds) {
  uint64_t least = UINT64_MAX, most = 0;
  for (int i = 0; i < flows; i++) {
    if (all[i].received < least) least = all[i].received;
    if (all[i].received > most) most = all[i].received;
  }
  printf("{\"mode\":\"%s\",\"bytes\":%" PRIu64 ",\"mbit\":%.2f,\"errors\":%" PRIu64
         ",\"min_mb\":%.2f,\"max_mb\":%.2f}\n",
         mode, bytes, (double)bytes * 8 / seconds / 1e6, errors, (double)least / 1e6, (double)most / 1e6);
}

static void load(const char* mode, int flows, double seconds, double warmup) {
  struct connection* all = calloc((size_t)flows, sizeof *all);
  if (!all) fail("memory");
  uint64_t begun = now(), end = begun + (uint64_t)(seconds * 1e9), warm = begun + (uint64_t)(warmup * 1e9);
  uint64_t counted_from = begun, base = 0;
  int warmed = warmup <= 0;
  for (int i = 0; i < flows; i++) open_connection(&all[i]);
  for (uint64_t t = now(); t < end; t = now()) {
    if (!warmed && t >= warm) {
      warmed = 1;
      base = total;
      counted_from = t;
    }
    struct epoll_event events[MAX_EVENTS];
    int count = epoll_wait(poller, events, MAX_EVENTS, (int)((end - t) / 1000000) + 1);
    for (int i = 0; i < count; i++) {
      struct connection* c = events[i].data.ptr;
      if (c->fd < 0) continue;
      if (events[i].events & EPOLLERR) {
        broken(c);
        continue;
      }
      if (events[i].events & EPOLLOUT) client_output(c);
      if (c->fd >= 0 && events[i].events & EPOLLIN) client_input(c);
    }
  }
  double counted = (double)(now() - counted_from) / 1e9;
  if (demand.mode == REQUESTS) print_latencies(mode, counted);
  else print_bulk(mode, all, flows, total - base, counted);
  free(all);
}

static void get(uint64_t bytes, int count) {
  struct demand request = {.mode = GET, .bytes = bytes};
  uint64_t begun = now();
  for (int i = 0; i < count; i++) {
    uint64_t t = now(), received = 0;
    int fd = socket(target->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval limit = {.tv_sec = GET_TIMEOUT_SECONDS};
    no_delay(fd);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(fd, target->ai_addr, target->ai_addrlen) == 0 && write(fd, &request, sizeof request) > 0) {
      for (ssize_t n; (n = read(fd, input, CHUNK)) > 0;) received += (uint64_t)n;
    }
    if (received == bytes) add_sample(now() - t);
    else errors++;
    close(fd);
  }
  print_latencies("get", (double)(now() - begun) / 1e9);
}

static int usage(void) {
  fprintf(stderr, "usage: loadtool serve PORT\n"
                  "       loadtool down|up ADDRESS PORT FLOWS SECONDS [WARMUP]\n"
                  "       loadtool rr|crr ADDRESS PORT FLOWS SECONDS REQUEST RESPONSE\n"
                  "       loadtool get ADDRESS PORT BYTES COUNT\n");
  return 2;
}

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  for (int i = 0; i < CHUNK; i++) output[i] = (char)(i * 7);
  poller = epoll_create1(EPOLL_CLOEXEC);
  if (argc == 3 && !strcmp(argv[1], "serve")) serve(atoi(argv[2]));
  if (argc < 6) return usage();

  const char* mode = argv[1];
  struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
  if (getaddrinfo(argv[2], argv[3], &hints, &target)) return usage();
  samples = malloc(MAX_SAMPLES * sizeof *samples);
  if (!samples) fail("memory");
  if (!strcmp(mode, "get")) {
    get(strtoull(argv[4], NULL, 10), atoi(argv[5]));
    return 0;
  }

  int flows = atoi(argv[4]);
  double seconds = atof(argv[5]), warmup = 0;
  int bulk = !strcmp(mode, "down") || !strcmp(mode, "up");
  reconnects = !strcmp(mode, "crr");
  if (flows < 1 || seconds <= 0 || (!bulk && !reconnects && strcmp(mode, "rr"))) return usage();
  if (bulk) {
    demand.mode = mode[0] == 'd' ? DOWN : UP;
    warmup = argc > 6 ? atof(argv[6]) : 0;
  } else {
    if (argc != 8) return usage();
    demand.mode = REQUESTS;
    demand.request = (uint32_t)atoi(argv[6]);
    demand.response = (uint32_t)atoi(argv[7]);
    if (demand.request < 1 || demand.request > MAX_REQUEST || demand.response < 1) return usage();
  }
  load(mode, flows, seconds, warmup);
  return 0;
}
