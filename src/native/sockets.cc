// Socket system calls over file descriptors and Buffers; sockaddr and option contents are encoded in TypeScript.
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/tcp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "napi.h"

namespace arctic {
namespace {

template <typename Call>
int64_t Retry(Call call) {
  for (;;) {
    const int64_t result = call();
    if (result >= 0) return result;
    if (errno != EINTR) return -errno;
  }
}

napi_value Socket(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int domain = args.Int(0), type = args.Int(1), protocol = args.Int(2);
  if (!args.ok()) return nullptr;
  return Number(env, Retry([&] { return socket(domain, type | SOCK_CLOEXEC, protocol); }));
}

napi_value Bind(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int fd = args.Int(0);
  const Bytes address = args.Buffer(1);
  if (!args.ok()) return nullptr;
  return Number(env, Retry([&] {
                  return bind(fd, reinterpret_cast<const sockaddr*>(address.data), static_cast<socklen_t>(address.length));
                }));
}

napi_value Connect(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int fd = args.Int(0);
  const Bytes address = args.Buffer(1);
  if (!args.ok()) return nullptr;
  // Not retried: connect interrupted by a signal goes on by itself, a second call would answer EALREADY.
  const int result = connect(fd, reinterpret_cast<const sockaddr*>(address.data), static_cast<socklen_t>(address.length));
  return Number(env, result < 0 ? -errno : 0);
}

napi_value Listen(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int fd = args.Int(0), backlog = args.Int(1);
  if (!args.ok()) return nullptr;
  return Number(env, Retry([&] { return listen(fd, backlog); }));
}

template <int (*Query)(int, sockaddr*, socklen_t*)>
napi_value SocketName(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int fd = args.Int(0);
  const Bytes address = args.Buffer(1);
  if (!args.ok()) return nullptr;
  socklen_t length = static_cast<socklen_t>(address.length);
  const int result = Query(fd, reinterpret_cast<sockaddr*>(address.data), &length);
  return Number(env, result < 0 ? -errno : static_cast<int64_t>(length));
}

int QuerySockName(int fd, sockaddr* address, socklen_t* length) { return getsockname(fd, address, length); }
int QueryPeerName(int fd, sockaddr* address, socklen_t* length) { return getpeername(fd, address, length); }

napi_value SetOption(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int fd = args.Int(0), level = args.Int(1), option = args.Int(2);
  const Bytes value = args.Buffer(3);
  if (!args.ok()) return nullptr;
  const int result = setsockopt(fd, level, option, value.data, static_cast<socklen_t>(value.length));
  return Number(env, result < 0 ? -errno : 0);
}

napi_value GetOption(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int fd = args.Int(0), level = args.Int(1), option = args.Int(2);
  const Bytes value = args.Buffer(3);
  if (!args.ok()) return nullptr;
  socklen_t length = static_cast<socklen_t>(value.length);
  const int result = getsockopt(fd, level, option, value.data, &length);
  return Number(env, result < 0 ? -errno : static_cast<int64_t>(length));
}

napi_value AttachFilter(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int fd = args.Int(0);
  const Bytes code = args.Buffer(1);
  if (!args.ok()) return nullptr;
  sock_fprog program{};
  program.len = static_cast<unsigned short>(code.length / sizeof(sock_filter));
  program.filter = reinterpret_cast<sock_filter*>(code.data);
  const int result = setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
  return Number(env, result < 0 ? -errno : 0);
}

napi_value Send(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int fd = args.Int(0);
  const Bytes bytes = args.Buffer(1);
  const int flags = args.Int(2);
  if (!args.ok()) return nullptr;
  return Number(env, Retry([&] { return send(fd, bytes.data, bytes.length, flags | MSG_NOSIGNAL); }));
}

napi_value Recv(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int fd = args.Int(0);
  const Bytes bytes = args.Buffer(1);
  const int flags = args.Int(2);
  const bool wants_address = args.Has(3);
  const Bytes address = wants_address ? args.Buffer(3) : Bytes{};
  if (!args.ok()) return nullptr;
  if (wants_address) memset(address.data, 0, address.length);
  return Number(env, Retry([&] {
                  socklen_t length = static_cast<socklen_t>(address.length);
                  return recvfrom(fd, bytes.data, bytes.length, flags, reinterpret_cast<sockaddr*>(address.data),
                                  wants_address ? &length : nullptr);
                }));
}

// One send on the thread pool: a large nf_tables commit blocks in sendmsg for hundreds of milliseconds.
struct PendingSend {
  int fd = -1;
  int flags = 0;
  Bytes bytes;
  int64_t result = 0;
  napi_ref buffer = nullptr;
  napi_deferred deferred = nullptr;
  napi_async_work work = nullptr;
};

void ExecuteSend(napi_env, void* data) {
  auto* pending = static_cast<PendingSend*>(data);
  pending->result =
      Retry([&] { return send(pending->fd, pending->bytes.data, pending->bytes.length, pending->flags | MSG_NOSIGNAL); });
}

void CompleteSend(napi_env env, napi_status status, void* data) {
  auto* pending = static_cast<PendingSend*>(data);
  napi_value result = Number(env, status == napi_ok ? pending->result : -ECANCELED);
  // Fails harmlessly when the environment (a worker) is already going away.
  if (result != nullptr) napi_resolve_deferred(env, pending->deferred, result);
  napi_delete_reference(env, pending->buffer);
  napi_delete_async_work(env, pending->work);
  delete pending;
}

napi_value SendAsync(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int fd = args.Int(0);
  const Bytes bytes = args.Buffer(1);
  const int flags = args.Int(2);
  if (!args.ok()) return nullptr;
  auto* pending = new PendingSend{};
  pending->fd = fd;
  pending->flags = flags;
  pending->bytes = bytes;
  napi_value promise = nullptr, name = nullptr;
  napi_create_promise(env, &pending->deferred, &promise);
  napi_create_reference(env, args.raw(1), 1, &pending->buffer);
  napi_create_string_utf8(env, "arctic:sendAsync", NAPI_AUTO_LENGTH, &name);
  napi_create_async_work(env, nullptr, name, ExecuteSend, CompleteSend, pending, &pending->work);
  napi_queue_async_work(env, pending->work);
  return promise;
}

napi_value Close(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int fd = args.Int(0);
  if (!args.ok()) return nullptr;
  // Never retried: Linux has released the descriptor even when it answers EINTR.
  return Number(env, close(fd) < 0 && errno != EINTR ? -errno : 0);
}

void SetNumber(napi_env env, napi_value object, const char* name, double value) {
  napi_value number = nullptr;
  napi_create_double(env, value, &number);
  napi_set_named_property(env, object, name, number);
}

// TCP_INFO; fields a kernel does not know stay 0 (it fills as many bytes as it has).
napi_value TcpInfo(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int fd = args.Int(0);
  if (!args.ok()) return nullptr;
  tcp_info tcp{};
  socklen_t length = sizeof tcp;
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &tcp, &length) < 0) return Number(env, -errno);
  napi_value object = nullptr;
  napi_create_object(env, &object);
  const auto set = [&](const char* name, double value) { SetNumber(env, object, name, value); };
  set("state", tcp.tcpi_state);
  set("rttMicroseconds", tcp.tcpi_rtt);
  set("rttVarianceMicroseconds", tcp.tcpi_rttvar);
  set("minRttMicroseconds", tcp.tcpi_min_rtt);
  set("sendMss", tcp.tcpi_snd_mss);
  set("sendCongestionWindow", tcp.tcpi_snd_cwnd);
  set("unackedSegments", tcp.tcpi_unacked);
  set("lostSegments", tcp.tcpi_lost);
  set("totalRetransmits", tcp.tcpi_total_retrans);
  set("bytesAcked", static_cast<double>(tcp.tcpi_bytes_acked));
  set("bytesReceived", static_cast<double>(tcp.tcpi_bytes_received));
  set("bytesSent", static_cast<double>(tcp.tcpi_bytes_sent));
  set("bytesRetransmitted", static_cast<double>(tcp.tcpi_bytes_retrans));
  set("notSentBytes", tcp.tcpi_notsent_bytes);
  set("deliveryRateBytesPerSecond", static_cast<double>(tcp.tcpi_delivery_rate));
  set("pacingRateBytesPerSecond", static_cast<double>(tcp.tcpi_pacing_rate));
  return object;
}

// Opens or attaches to the TUN device `name`; `flags` adds to IFF_TUN | IFF_NO_PI (IFF_VNET_HDR, IFF_MULTI_QUEUE).
napi_value OpenTun(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const std::string name = args.Text(0);
  const int flags = args.Int(1);
  if (!args.ok()) return nullptr;
  if (name.empty() || name.size() >= IFNAMSIZ) return Number(env, -EINVAL);
  const int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return Number(env, -errno);
  ifreq request{};
  memcpy(request.ifr_name, name.data(), name.size());
  request.ifr_flags = static_cast<short>(IFF_TUN | IFF_NO_PI | flags);
  if (ioctl(fd, TUNSETIFF, &request) < 0) {
    const int error = errno;
    close(fd);
    return Number(env, -error);
  }
  return Number(env, fd);
}

// Raises the soft limit of open files to `wanted`, at most to the hard limit; answers the limit in force.
napi_value RaiseFileLimit(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int64_t wanted = args.Long(0);
  if (!args.ok()) return nullptr;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return Number(env, -errno);
  const rlim_t target = static_cast<rlim_t>(wanted) < limit.rlim_max ? static_cast<rlim_t>(wanted) : limit.rlim_max;
  if (wanted > 0 && limit.rlim_cur < target) {
    limit.rlim_cur = target;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) return Number(env, -errno);
  }
  return Number(env, static_cast<int64_t>(limit.rlim_cur));
}

napi_value InterfaceIndex(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const std::string name = args.Text(0);
  if (!args.ok()) return nullptr;
  const unsigned index = if_nametoindex(name.c_str());
  return Number(env, index == 0 ? -errno : static_cast<int64_t>(index));
}

}  // namespace

void RegisterSockets(napi_env env, napi_value exports) {
  Export(env, exports, "socket", Socket);
  Export(env, exports, "bind", Bind);
  Export(env, exports, "connect", Connect);
  Export(env, exports, "listen", Listen);
  Export(env, exports, "getsockname", SocketName<QuerySockName>);
  Export(env, exports, "getpeername", SocketName<QueryPeerName>);
  Export(env, exports, "setsockopt", SetOption);
  Export(env, exports, "getsockopt", GetOption);
  Export(env, exports, "attachFilter", AttachFilter);
  Export(env, exports, "send", Send);
  Export(env, exports, "sendAsync", SendAsync);
  Export(env, exports, "recv", Recv);
  Export(env, exports, "close", Close);
  Export(env, exports, "tcpInfo", TcpInfo);
  Export(env, exports, "openTun", OpenTun);
  Export(env, exports, "raiseFileLimit", RaiseFileLimit);
  Export(env, exports, "interfaceIndex", InterfaceIndex);
}

}  // namespace arctic
