// Arctic's native add-on: what Node cannot do by itself. Policy stays in TypeScript.
#include "napi.h"

NAPI_MODULE_INIT() {
  arctic::RegisterSockets(env, exports);
  arctic::RegisterNamespaces(env, exports);
  arctic::RegisterTunnel(env, exports);
  if (!arctic::RegisterPoller(env, exports)) {
    napi_throw_error(env, nullptr, "the native add-on cannot register its cleanup hook");
    return nullptr;
  }
  return exports;
}
