// Sockets and files opened inside another network namespace. Each function goes there and back within one call, on
// one thread, so JavaScript never runs in the other namespace.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include "napi.h"

namespace arctic {
namespace {

template <typename Call>
int64_t Inside(napi_env env, const std::string& netns_path, Call call) {
  // Taken before setns: afterwards /proc/thread-self/ns/net is already the other one.
  const int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  if (home < 0) return -errno;
  const int there = open(netns_path.c_str(), O_RDONLY | O_CLOEXEC);
  if (there < 0) {
    const int error = errno;
    close(home);
    return -error;
  }
  int64_t result;
  if (setns(there, CLONE_NEWNET) < 0) {
    result = -errno;
  } else {
    result = call();
    if (result < 0) result = -errno;
    if (setns(home, CLONE_NEWNET) < 0) {
      // Going on would run the whole process's network calls in somebody else's namespace.
      napi_fatal_error("arctic::Inside", NAPI_AUTO_LENGTH, "cannot return to the own network namespace", NAPI_AUTO_LENGTH);
    }
  }
  close(there);
  close(home);
  (void)env;
  return result;
}

napi_value SocketInNamespace(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const std::string path = args.Text(0);
  const int domain = args.Int(1), type = args.Int(2), protocol = args.Int(3);
  if (!args.ok()) return nullptr;
  return Number(env, Inside(env, path, [&] { return socket(domain, type | SOCK_CLOEXEC, protocol); }));
}

// For /proc/sys/net: the kernel shows the keys of the namespace of the thread that opens the file.
napi_value OpenInNamespace(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const std::string netns_path = args.Text(0), path = args.Text(1);
  const int flags = args.Int(2);
  if (!args.ok()) return nullptr;
  return Number(env, Inside(env, netns_path, [&] { return open(path.c_str(), flags | O_CLOEXEC); }));
}

// Moves the calling thread for good; for a test's worker thread or a child process, never for the agent.
napi_value EnterNamespace(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const std::string path = args.Text(0);
  if (!args.ok()) return nullptr;
  const int there = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (there < 0) return Number(env, -errno);
  const int result = setns(there, CLONE_NEWNET) < 0 ? -errno : 0;
  close(there);
  return Number(env, result);
}

}  // namespace

void RegisterNamespaces(napi_env env, napi_value exports) {
  Export(env, exports, "socketInNamespace", SocketInNamespace);
  Export(env, exports, "openInNamespace", OpenInNamespace);
  Export(env, exports, "enterNamespace", EnterNamespace);
}

}  // namespace arctic
