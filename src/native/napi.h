// Argument and result conversion shared by the add-on's parts. System calls answer n >= 0 or -errno; only a
// wrong argument type throws, because that is a bug in our own TypeScript.
#pragma once

#include <node_api.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace arctic {

struct Bytes {
  uint8_t* data = nullptr;
  size_t length = 0;
};

// The arguments of one call. After a failed conversion `ok` is false and a TypeError is pending.
class Arguments {
 public:
  static constexpr size_t kMax = 8;

  Arguments(napi_env env, napi_callback_info info) : env_(env) {
    count_ = kMax;
    if (napi_get_cb_info(env, info, &count_, values_, nullptr, nullptr) != napi_ok) Fail("arguments are not readable");
  }

  bool ok() const { return ok_; }
  napi_value raw(size_t index) const { return values_[index]; }

  bool Has(size_t index) const {
    if (index >= count_) return false;
    napi_valuetype type = napi_undefined;
    napi_typeof(env_, values_[index], &type);
    return type != napi_undefined && type != napi_null;
  }

  int32_t Int(size_t index) {
    int32_t value = 0;
    if (index >= count_ || napi_get_value_int32(env_, values_[index], &value) != napi_ok) Fail("a number is expected");
    return value;
  }

  int64_t Long(size_t index) {
    int64_t value = 0;
    if (index >= count_ || napi_get_value_int64(env_, values_[index], &value) != napi_ok) Fail("a number is expected");
    return value;
  }

  Bytes Buffer(size_t index) {
    Bytes bytes;
    bool is_buffer = false;
    if (index < count_) napi_is_buffer(env_, values_[index], &is_buffer);
    void* data = nullptr;
    if (!is_buffer || napi_get_buffer_info(env_, values_[index], &data, &bytes.length) != napi_ok) {
      Fail("a Buffer is expected");
      return Bytes{};
    }
    bytes.data = static_cast<uint8_t*>(data);
    return bytes;
  }

  std::string Text(size_t index) {
    size_t length = 0;
    if (index >= count_ || napi_get_value_string_utf8(env_, values_[index], nullptr, 0, &length) != napi_ok) {
      Fail("a string is expected");
      return {};
    }
    std::string text(length, '\0');
    napi_get_value_string_utf8(env_, values_[index], text.data(), length + 1, &length);
    return text;
  }

 private:
  void Fail(const char* message) {
    if (ok_) napi_throw_type_error(env_, nullptr, message);
    ok_ = false;
  }

  napi_env env_;
  napi_value values_[kMax] = {};
  size_t count_ = 0;
  bool ok_ = true;
};

inline napi_value Number(napi_env env, int64_t value) {
  napi_value result = nullptr;
  napi_create_int64(env, value, &result);
  return result;
}

inline void Export(napi_env env, napi_value exports, const char* name, napi_callback call) {
  napi_value function = nullptr;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, call, nullptr, &function);
  napi_set_named_property(env, exports, name, function);
}

// Each part adds its functions to the exports of the add-on.
void RegisterSockets(napi_env env, napi_value exports);
void RegisterNamespaces(napi_env env, napi_value exports);
void RegisterTunnel(napi_env env, napi_value exports);
bool RegisterPoller(napi_env env, napi_value exports);

}  // namespace arctic
