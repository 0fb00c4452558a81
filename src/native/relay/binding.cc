// The relay's face to JavaScript: slots, commands as Buffers, events and counters as text. No callback enters V8 from
// the relay's thread; it signals `relayEventFd`, which TypeScript polls.
#include <errno.h>

#include <map>
#include <memory>
#include <mutex>

#include "../napi.h"
#include "relay.h"

namespace {

using arctic::Arguments;
using arctic::Number;
using arctic::relay::Relay;

std::mutex mutex;
std::map<int, std::unique_ptr<Relay>> relays;
int next_slot = 1;

Relay* Find(int slot) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = relays.find(slot);
  return found == relays.end() ? nullptr : found->second.get();
}

std::unique_ptr<Relay> Remove(int slot) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = relays.find(slot);
  if (found == relays.end()) return nullptr;
  std::unique_ptr<Relay> relay = std::move(found->second);
  relays.erase(found);
  return relay;
}

// The environment goes (process exit, end of a worker): the thread must not outlive it.
void OnEnvironmentEnd(void* data) { Remove(static_cast<int>(reinterpret_cast<intptr_t>(data))); }

napi_value Text(napi_env env, const std::string& text) {
  napi_value result = nullptr;
  napi_create_string_utf8(env, text.data(), text.size(), &result);
  return result;
}

// Starts a relay's thread; answers its slot or -errno.
napi_value RelayStart(napi_env env, napi_callback_info) {
  auto relay = std::make_unique<Relay>();
  const int error = relay->Start();
  if (error < 0) return Number(env, error);
  int slot = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex);
    slot = next_slot++;
    relays.emplace(slot, std::move(relay));
  }
  napi_add_env_cleanup_hook(env, OnEnvironmentEnd, reinterpret_cast<void*>(static_cast<intptr_t>(slot)));
  return Number(env, slot);
}

napi_value RelayEventFd(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Relay* relay = Find(args.Int(0));
  if (!args.ok()) return nullptr;
  return Number(env, relay == nullptr ? -EBADF : relay->shared().event_fd);
}

// One command (native-commands.ts); 0 or -errno.
napi_value RelayCommand(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Relay* relay = Find(args.Int(0));
  const arctic::Bytes bytes = args.Buffer(1);
  if (!args.ok()) return nullptr;
  if (relay == nullptr) return Number(env, -EBADF);
  auto command = arctic::relay::DecodeCommand(bytes.data, bytes.length);
  if (!command) return Number(env, -EINVAL);
  relay->Post(std::move(*command));
  return Number(env, 0);
}

napi_value RelayEvents(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Relay* relay = Find(args.Int(0));
  if (!args.ok()) return nullptr;
  return Text(env, relay == nullptr ? std::string() : relay->shared().DrainEvents());
}

napi_value RelayStats(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Relay* relay = Find(args.Int(0));
  if (!args.ok()) return nullptr;
  return Text(env, relay == nullptr ? std::string() : relay->shared().Stats());
}

// The view that an event `flows` has announced.
napi_value RelayFlows(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Relay* relay = Find(args.Int(0));
  const uint32_t token = static_cast<uint32_t>(args.Int(1));
  if (!args.ok()) return nullptr;
  return Text(env, relay == nullptr ? std::string() : relay->shared().TakeSample(token));
}

// Ends the thread and closes every descriptor.
napi_value RelayStop(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int slot = args.Int(0);
  if (!args.ok()) return nullptr;
  napi_remove_env_cleanup_hook(env, OnEnvironmentEnd, reinterpret_cast<void*>(static_cast<intptr_t>(slot)));
  const std::unique_ptr<Relay> relay = Remove(slot);
  return Number(env, relay == nullptr ? -EBADF : 0);
}

}  // namespace

NAPI_MODULE_INIT() {
  arctic::Export(env, exports, "relayStart", RelayStart);
  arctic::Export(env, exports, "relayEventFd", RelayEventFd);
  arctic::Export(env, exports, "relayCommand", RelayCommand);
  arctic::Export(env, exports, "relayEvents", RelayEvents);
  arctic::Export(env, exports, "relayStats", RelayStats);
  arctic::Export(env, exports, "relayFlows", RelayFlows);
  arctic::Export(env, exports, "relayStop", RelayStop);
  return exports;
}
