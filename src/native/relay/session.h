// What two peers have agreed on before any carrier: a public name and a secret.
#pragma once

#include <string>

#include "link_keys.h"

namespace arctic::relay {

struct Session {
  SessionId id;
  Key key;
  std::string peer;
  bool initiator = false;
  bool retired = false;
  ~Session();
};

}  // namespace arctic::relay
