// Both threads of two tunnels under traffic while their tables change, for ThreadSanitizer. Sockets stand in for the TUN devices.
//   threads <seconds>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "../../../src/native/tunnel/loop.h"

using namespace arctic::tunnel;

namespace {

void Require(bool holds, const char* what) {
  if (holds) return;
  fprintf(stderr, "violated: %s\n", what);
  abort();
}

void Put(std::vector<uint8_t>* to, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) to->push_back(static_cast<uint8_t>(value >> (8 * i)));
}

// Everything may pass: one service takes what no route names.
std::vector<uint8_t> OpenPolicy() {
  std::vector<uint8_t> bytes;
  for (int side = 0; side < 2; ++side) {
    Put(&bytes, 1, 4);
    Put(&bytes, 0, 4);
  }
  return bytes;
}

// Sends under key `send`, opens the three around it.
std::vector<uint8_t> Snapshot(int tun, uint16_t port, uint32_t direction, uint32_t epoch, bool limited) {
  std::vector<uint8_t> b;
  Put(&b, 1, 4);
  Put(&b, 1, 4);
  Put(&b, static_cast<uint32_t>(tun), 4);
  Put(&b, 1, 4);
  Put(&b, 1, 4);
  Put(&b, 1472, 2);
  Put(&b, 0, 2);
  Put(&b, 1, 2);
  Put(&b, port, 2);
  const uint8_t loopback[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1};
  b.insert(b.end(), loopback, loopback + 16);
  Put(&b, 0, 4);
  Put(&b, 1, 4);
  Put(&b, 1, 1);
  Put(&b, 1000 + epoch, 4);
  Put(&b, direction * 100000 + epoch, 4);
  Put(&b, 1, 1);
  b.insert(b.end(), 64, static_cast<uint8_t>(direction + epoch));
  const uint32_t first = epoch == 0 ? 0 : epoch - 1;
  Put(&b, epoch + 2 - first, 4);
  for (uint32_t e = first; e <= epoch + 1; ++e) {
    Put(&b, 5000 + e, 4);
    Put(&b, (3 - direction) * 100000 + e, 4);
    b.insert(b.end(), 96, static_cast<uint8_t>(3 - direction + e));
  }
  Put(&b, limited ? 1 : 0, 4);
  if (limited) {
    Put(&b, 1, 4);
    Put(&b, 50000000, 8);
  }
  return b;
}

int Bind(uint16_t* port) {
  const int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  const int off = 0;
  setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  Require(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0, "bind");
  socklen_t length = sizeof address;
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  *port = ntohs(address.sin6_port);
  return fd;
}

std::vector<uint8_t> Frame(uint32_t sequence) {
  std::vector<uint8_t> frame(10 + 28 + 100);
  uint8_t* p = frame.data() + 10;
  const size_t length = frame.size() - 10;
  p[0] = 0x45;
  Write16(p + 2, length);
  p[8] = 64, p[9] = kUdp, p[12] = 10, p[15] = 1, p[16] = 10, p[19] = 2;
  WriteIpv4Checksum(p, 20);
  Write16(p + 20, 1), Write16(p + 22, 2), Write16(p + 24, length - 20);
  Write32(p + 28, sequence);
  frame[0] = kVnetNeedsCsum;
  frame[6] = 20, frame[8] = 6;
  return frame;
}

}  // namespace

int main(int argc, char** argv) {
  const int seconds = argc > 1 ? atoi(argv[1]) : 3;
  uint16_t ports[2];
  const int sockets[2] = {Bind(&ports[0]), Bind(&ports[1])};
  int tuns[2][2];
  Loop loops[2];
  const std::vector<uint8_t> policy = OpenPolicy();
  for (int i = 0; i < 2; ++i) {
    Require(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, tuns[i]) == 0, "socketpair");
    Require(loops[i].Start(sockets[i], true) == 0, "start");
    Require(loops[i].SetPolicy(1, policy.data(), policy.size()), "policy");
  }
  std::atomic<bool> done{false};
  std::atomic<uint64_t> sent{0}, received{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&, i] {
      uint32_t sequence = 0;
      while (!done) {
        const std::vector<uint8_t> frame = Frame(sequence++);
        if (write(tuns[i][1], frame.data(), frame.size()) > 0) sent += 1;
        if (sequence % 32 == 0) usleep(1000);
        uint8_t got[70000];
        while (read(tuns[i][1], got, sizeof got) > 0) received += 1;
      }
    });
  }
  const time_t end = time(nullptr) + seconds;
  std::vector<uint8_t> totals(1 << 16);
  for (uint32_t epoch = 0; time(nullptr) < end; ++epoch) {
    for (int i = 0; i < 2; ++i) {
      const auto snapshot =
          Snapshot(epoch % 7 == 6 ? -1 : tuns[i][0], ports[1 - i], static_cast<uint32_t>(i + 1), epoch, epoch % 5 == 4);
      Require(loops[i].Apply(snapshot.data(), snapshot.size()) == 0, "apply");
      loops[i].Keepalive(1);
      Require(loops[i].Read(totals.data(), totals.size()) <= totals.size(), "totals");
    }
    usleep(20000);
  }
  done = true;
  for (auto& thread : threads) thread.join();
  for (auto& loop : loops) loop.Stop();
  printf("sent %llu received %llu\n", static_cast<unsigned long long>(sent), static_cast<unsigned long long>(received));
  Require(received > 0, "something came through");
  return 0;
}
