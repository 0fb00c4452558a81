#include "groups.h"

namespace arctic::kcp {

Groups::Group* Groups::Of(uint64_t base) {
  const auto found = groups_.find(base);
  if (found != groups_.end()) return found->second.get();
  if (base < dropped_below_) return nullptr;
  while (groups_.size() >= kMostGroups) {
    const auto oldest = groups_.begin();
    if (oldest->first > base) return nullptr;
    dropped_below_ = oldest->first + 1;
    free_.push_back(std::move(oldest->second));
    groups_.erase(oldest);
  }
  std::unique_ptr<Group> group;
  if (free_.empty()) {
    group = std::make_unique<Group>();
  } else {
    group = std::move(free_.back());
    free_.pop_back();
    std::vector<uint8_t> arena = std::move(group->arena);
    arena.clear();
    *group = Group{};
    group->arena = std::move(arena);
  }
  return groups_.emplace(base, std::move(group)).first->second.get();
}

void Groups::Put(Group* group, Place* place, const uint8_t* text, size_t length) {
  place->at = static_cast<uint32_t>(group->arena.size());
  place->length = static_cast<uint16_t>(length);
  place->here = true;
  group->arena.insert(group->arena.end(), text, text + length);
}

void Groups::OnData(uint64_t base, size_t index, const uint8_t* text, size_t length, std::vector<Recovered>* out) {
  Group* group = Of(base);
  if (group == nullptr || group->whole || index >= kMostData || group->shards[index].here) return;
  if (group->data != 0 && index >= group->data) return;
  Put(group, &group->shards[index], text, length);
  group->data_here += 1;
  Solve(base, group, out);
}

void Groups::OnParity(uint64_t base, size_t data, size_t index, const uint8_t* text, size_t length,
                      std::vector<Recovered>* out) {
  Group* group = Of(base);
  if (group == nullptr || group->whole || data > kMostData || index >= kMostParity || group->parities[index].here) return;
  if (group->data == 0) {
    for (size_t beyond = data; beyond < kMostData; beyond += 1) {
      if (group->shards[beyond].here) return;
    }
    group->data = data;
  }
  if (group->data != data) return;
  Put(group, &group->parities[index], text, length);
  group->parity_here += 1;
  Solve(base, group, out);
}

void Groups::Solve(uint64_t base, Group* group, std::vector<Recovered>* out) {
  if (group->data == 0 || group->data_here + group->parity_here < group->data) return;
  group->whole = true;
  if (group->data_here == group->data) return;
  Shard data[kMostData], parity[kMostParity];
  uint8_t* targets[kMostData];
  size_t length = 0, missing = 0;
  const size_t first = out->size();
  for (size_t index = 0; index < kMostParity; index += 1) {
    const Place& place = group->parities[index];
    if (!place.here) continue;
    parity[index] = {group->arena.data() + place.at, place.length};
    if (place.length > length) length = place.length;
  }
  for (size_t index = 0; index < group->data; index += 1) {
    const Place& place = group->shards[index];
    if (place.here) {
      data[index] = {group->arena.data() + place.at, place.length};
      continue;
    }
    out->push_back({base + index, std::vector<uint8_t>(length)});
    missing += 1;
  }
  for (size_t one = 0; one < missing; one += 1) targets[one] = (*out)[first + one].text.data();
  if (!RecoverShards(data, group->data, parity, kMostParity, length, targets)) out->resize(first);
}

}  // namespace arctic::kcp
