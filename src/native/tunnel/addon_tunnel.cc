// The tunnel's loop for TypeScript. JavaScript holds integer slots, never pointers.
#include <errno.h>

#include <memory>
#include <mutex>
#include <unordered_map>

#include "../napi.h"
#include "aegis128l.h"
#include "loop.h"

namespace arctic {
namespace {

using tunnel::Loop;

std::mutex registry_mutex;
std::unordered_map<int32_t, std::shared_ptr<Loop>> registry;
int32_t next_slot = 1;

std::shared_ptr<Loop> Find(int32_t slot) {
  std::lock_guard<std::mutex> guard(registry_mutex);
  const auto found = registry.find(slot);
  return found == registry.end() ? nullptr : found->second;
}

void Remove(int32_t slot) {
  std::shared_ptr<Loop> loop;
  {
    std::lock_guard<std::mutex> guard(registry_mutex);
    const auto found = registry.find(slot);
    if (found == registry.end()) return;
    loop = std::move(found->second);
    registry.erase(found);
  }
  loop->Stop();
}

// The environment ends without having closed its loop.
void OnEnvironmentEnd(void* data) { Remove(static_cast<int32_t>(reinterpret_cast<intptr_t>(data))); }

// tunnelOpen(udpFd, aegis): a slot or -errno. Both threads run from here on.
napi_value Open(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int fd = args.Int(0);
  const bool aegis = args.Int(1) != 0;
  if (!args.ok()) return nullptr;
  auto loop = std::make_shared<Loop>();
  const int failed = loop->Start(fd, aegis);
  if (failed < 0) return Number(env, failed);
  int32_t slot;
  {
    std::lock_guard<std::mutex> guard(registry_mutex);
    slot = next_slot++;
    registry.emplace(slot, std::move(loop));
  }
  napi_add_env_cleanup_hook(env, OnEnvironmentEnd, reinterpret_cast<void*>(static_cast<intptr_t>(slot)));
  return Number(env, slot);
}

napi_value Close(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int32_t slot = args.Int(0);
  if (!args.ok()) return nullptr;
  napi_remove_env_cleanup_hook(env, OnEnvironmentEnd, reinterpret_cast<void*>(static_cast<intptr_t>(slot)));
  Remove(slot);
  return Number(env, 0);
}

// tunnelApply(slot, snapshot): 0 or -errno.
napi_value Apply(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int32_t slot = args.Int(0);
  const Bytes bytes = args.Buffer(1);
  if (!args.ok()) return nullptr;
  const auto loop = Find(slot);
  return Number(env, loop ? loop->Apply(bytes.data, bytes.length) : -ENOENT);
}

// tunnelPolicy(slot, id, policy): 0 or -errno; without a policy the one of that id is forgotten. For the next snapshot.
napi_value Policy(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int32_t slot = args.Int(0);
  const uint32_t id = static_cast<uint32_t>(args.Long(1));
  const bool drops = !args.Has(2);
  const Bytes bytes = drops ? Bytes{} : args.Buffer(2);
  if (!args.ok()) return nullptr;
  const auto loop = Find(slot);
  if (!loop) return Number(env, -ENOENT);
  if (drops) {
    loop->DropPolicy(id);
    return Number(env, 0);
  }
  return Number(env, loop->SetPolicy(id, bytes.data, bytes.length) ? 0 : -EINVAL);
}

napi_value Keepalive(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int32_t slot = args.Int(0);
  const uint32_t peer = static_cast<uint32_t>(args.Long(1));
  if (!args.ok()) return nullptr;
  const auto loop = Find(slot);
  return Number(env, loop && loop->Keepalive(peer) ? 0 : -ENOENT);
}

// tunnelRead(slot, bytes): the length of the totals, which `bytes` holds only when it is that long.
napi_value Read(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int32_t slot = args.Int(0);
  const Bytes bytes = args.Buffer(1);
  if (!args.ok()) return nullptr;
  const auto loop = Find(slot);
  return Number(env, loop ? static_cast<int64_t>(loop->Read(bytes.data, bytes.length)) : -ENOENT);
}

napi_value PrepareTun(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const int fd = args.Int(0);
  if (!args.ok()) return nullptr;
  return Number(env, tunnel::PrepareTun(fd));
}

napi_value HasAes(napi_env env, napi_callback_info) { return Number(env, tunnel::HasAesInstructions() ? 1 : 0); }

napi_value HasAegis(napi_env env, napi_callback_info) { return Number(env, tunnel::HasAegis() ? 1 : 0); }

}  // namespace

void RegisterTunnel(napi_env env, napi_value exports) {
  Export(env, exports, "tunnelOpen", Open);
  Export(env, exports, "tunnelClose", Close);
  Export(env, exports, "tunnelApply", Apply);
  Export(env, exports, "tunnelPolicy", Policy);
  Export(env, exports, "tunnelKeepalive", Keepalive);
  Export(env, exports, "tunnelRead", Read);
  Export(env, exports, "tunnelPrepareTun", PrepareTun);
  Export(env, exports, "tunnelHasAes", HasAes);
  Export(env, exports, "tunnelHasAegis", HasAegis);
}

}  // namespace arctic
