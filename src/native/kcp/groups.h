// Keeps the datagrams of the newest groups until what is missing of them has come or has been worked out from parity.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "datagram.h"
#include "reed_solomon.h"

namespace arctic::kcp {

class Groups {
 public:
  struct Recovered {
    uint64_t counter;
    std::vector<uint8_t> text;
  };

  // `base` is the counter of the group's first datagram. Appends to `out` what this one makes whole.
  void OnData(uint64_t base, size_t index, const uint8_t* text, size_t length, std::vector<Recovered>* out);
  void OnParity(uint64_t base, size_t data, size_t index, const uint8_t* text, size_t length, std::vector<Recovered>* out);
  // Gives memory back when nothing has come for a while.
  void Clear() { groups_.clear(); free_.clear(); }
  size_t size() const { return groups_.size(); }

 private:
  // What 200 Mbit/s bring in 40 ms.
  static constexpr size_t kMostGroups = 32;
  struct Place {
    uint32_t at = 0;
    uint16_t length = 0;
    bool here = false;
  };
  struct Group {
    // 0 until a parity tells.
    size_t data = 0;
    size_t data_here = 0, parity_here = 0;
    bool whole = false;
    Place shards[kMostData], parities[kMostParity];
    std::vector<uint8_t> arena;
  };

  // Null for a group that is too old.
  Group* Of(uint64_t base);
  void Put(Group* group, Place* place, const uint8_t* text, size_t length);
  void Solve(uint64_t base, Group* group, std::vector<Recovered>* out);

  std::map<uint64_t, std::unique_ptr<Group>> groups_;
  std::vector<std::unique_ptr<Group>> free_;
  uint64_t dropped_below_ = 0;
};

}  // namespace arctic::kcp
