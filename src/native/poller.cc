// Readiness callbacks for descriptors Node does not know. JavaScript holds integer slots, never pointers.
#include <errno.h>
#include <sys/socket.h>
#include <uv.h>

#include <unordered_map>

#include "napi.h"

namespace arctic {
namespace {

struct Instance;

struct Poller {
  uv_poll_t handle{};
  Instance* instance = nullptr;
  int32_t slot = 0;
  int fd = -1;
  int events = 0;
  int fruitless_errors = 0;
  napi_ref callback = nullptr;
  napi_async_context context = nullptr;
};

// What one environment (main thread or worker) owns.
struct Instance {
  napi_env env = nullptr;
  napi_async_cleanup_hook_handle hook = nullptr;
  std::unordered_map<int32_t, Poller*> pollers;
  int32_t next_slot = 1;
  // Handles whose close callback has not run yet; the environment must outlive them.
  int32_t open_handles = 0;
  bool leaving = false;
};

// An error that comes again this often without one being readable by SO_ERROR is for good.
constexpr int kFruitlessErrors = 8;

void Finish(Instance* instance) {
  if (!instance->leaving || instance->open_handles > 0) return;
  napi_remove_async_cleanup_hook(instance->hook);
  delete instance;
}

void OnClosed(uv_handle_t* handle) {
  auto* poller = static_cast<Poller*>(handle->data);
  Instance* instance = poller->instance;
  delete poller;
  instance->open_handles -= 1;
  Finish(instance);
}

void ClosePoller(Poller* poller) {
  napi_env env = poller->instance->env;
  poller->instance->pollers.erase(poller->slot);
  if (poller->callback != nullptr) napi_delete_reference(env, poller->callback);
  if (poller->context != nullptr) napi_async_destroy(env, poller->context);
  poller->callback = nullptr;
  poller->context = nullptr;
  uv_close(reinterpret_cast<uv_handle_t*>(&poller->handle), OnClosed);
}

void Deliver(Poller* poller, int32_t status, int32_t events) {
  napi_env env = poller->instance->env;
  napi_handle_scope scope = nullptr;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_value function = nullptr, receiver = nullptr;
  napi_value arguments[2] = {nullptr, nullptr};
  if (napi_get_reference_value(env, poller->callback, &function) == napi_ok && function != nullptr &&
      napi_get_global(env, &receiver) == napi_ok && napi_create_int32(env, status, &arguments[0]) == napi_ok &&
      napi_create_int32(env, events, &arguments[1]) == napi_ok) {
    // The callback may stop this poller; nothing of it is touched afterwards.
    if (napi_make_callback(env, poller->context, receiver, function, 2, arguments, nullptr) == napi_pending_exception) {
      napi_value error = nullptr;
      napi_get_and_clear_last_exception(env, &error);
      napi_fatal_exception(env, error);
    }
  }
  napi_close_handle_scope(env, scope);
}

void OnReady(uv_poll_t* handle, int status, int events) {
  auto* poller = static_cast<Poller*>(handle->data);
  if (status >= 0) {
    poller->fruitless_errors = 0;
    Deliver(poller, 0, events);
    return;
  }
  // POLLERR: libuv has stopped the handle (UV_EBADF). For a netlink socket this is an overrun (ENOBUFS), which SO_ERROR
  // takes and clears; the socket is healthy, so poll on and tell the listener what was lost.
  int error = 0;
  socklen_t length = sizeof error;
  if (getsockopt(poller->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0) {
    Deliver(poller, -errno, 0);
    return;
  }
  poller->fruitless_errors = error == 0 ? poller->fruitless_errors + 1 : 0;
  if (poller->fruitless_errors > kFruitlessErrors) {
    Deliver(poller, status, 0);
    return;
  }
  const int again = uv_poll_start(handle, poller->events, OnReady);
  Deliver(poller, again < 0 ? again : -error, again < 0 || error == 0 ? 0 : UV_READABLE);
}

Instance* InstanceOf(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return static_cast<Instance*>(data);
}

// pollStart(fd, events, callback(status, events)): a slot or -errno.
napi_value PollStart(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int fd = args.Int(0), events = args.Int(1);
  if (!args.ok()) return nullptr;
  napi_valuetype type = napi_undefined;
  if (args.Has(2)) napi_typeof(env, args.raw(2), &type);
  if (type != napi_function) {
    napi_throw_type_error(env, nullptr, "a function is expected");
    return nullptr;
  }
  Instance* instance = InstanceOf(env);
  if (instance == nullptr || instance->leaving) return Number(env, -ECANCELED);
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return Number(env, -ENOSYS);
  auto* poller = new Poller{};
  poller->instance = instance;
  poller->fd = fd;
  poller->events = events;
  const int initialised = uv_poll_init(loop, &poller->handle, fd);
  if (initialised < 0) {
    // A handle that was never initialised must not be closed.
    delete poller;
    return Number(env, initialised);
  }
  poller->handle.data = poller;
  poller->slot = instance->next_slot++;
  instance->pollers.emplace(poller->slot, poller);
  instance->open_handles += 1;
  napi_value name = nullptr;
  napi_create_string_utf8(env, "arctic:poll", NAPI_AUTO_LENGTH, &name);
  napi_create_reference(env, args.raw(2), 1, &poller->callback);
  napi_async_init(env, nullptr, name, &poller->context);
  const int started = uv_poll_start(&poller->handle, events, OnReady);
  if (started < 0) {
    ClosePoller(poller);
    return Number(env, started);
  }
  return Number(env, poller->slot);
}

Poller* Find(Instance* instance, int32_t slot) {
  if (instance == nullptr) return nullptr;
  const auto found = instance->pollers.find(slot);
  return found == instance->pollers.end() ? nullptr : found->second;
}

// An unknown or already stopped slot answers -ENOENT. The descriptor stays open; close it after this.
napi_value PollStop(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int32_t slot = args.Int(0);
  if (!args.ok()) return nullptr;
  Poller* poller = Find(InstanceOf(env), slot);
  if (poller == nullptr) return Number(env, -ENOENT);
  ClosePoller(poller);
  return Number(env, 0);
}

// pollRef(slot, keep): whether this watch keeps the process alive.
napi_value PollRef(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int32_t slot = args.Int(0), keep = args.Int(1);
  if (!args.ok()) return nullptr;
  Poller* poller = Find(InstanceOf(env), slot);
  if (poller == nullptr) return Number(env, -ENOENT);
  auto* handle = reinterpret_cast<uv_handle_t*>(&poller->handle);
  if (keep != 0) {
    uv_ref(handle);
  } else {
    uv_unref(handle);
  }
  return Number(env, 0);
}

// The environment ends. An asynchronous hook, because close callbacks run on its loop after this returns.
void OnEnvironmentEnd(napi_async_cleanup_hook_handle hook, void* data) {
  auto* instance = static_cast<Instance*>(data);
  instance->hook = hook;
  instance->leaving = true;
  while (!instance->pollers.empty()) ClosePoller(instance->pollers.begin()->second);
  Finish(instance);
}

}  // namespace

bool RegisterPoller(napi_env env, napi_value exports) {
  auto* instance = new Instance{};
  instance->env = env;
  if (napi_set_instance_data(env, instance, nullptr, nullptr) != napi_ok ||
      napi_add_async_cleanup_hook(env, OnEnvironmentEnd, instance, &instance->hook) != napi_ok) {
    delete instance;
    return false;
  }
  Export(env, exports, "pollStart", PollStart);
  Export(env, exports, "pollStop", PollStop);
  Export(env, exports, "pollRef", PollRef);
  return true;
}

}  // namespace arctic
