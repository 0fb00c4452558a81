// Preload that sets the congestion control of a program's TCP sockets: LD_PRELOAD=./congestion.so TCP_CC=cubic ...
// A host whose default is BBR needs it to show how an ordinary host behaves.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int socket(int domain, int type, int protocol) {
  static int (*original)(int, int, int);
  if (!original) original = (int (*)(int, int, int))dlsym(RTLD_NEXT, "socket");
  int fd = original(domain, type, protocol);
  const char* name = getenv("TCP_CC");
  int stream = (type & 0xf) == SOCK_STREAM && (domain == AF_INET || domain == AF_INET6);
  if (fd >= 0 && name && stream) setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, strlen(name));
  return fd;
}
