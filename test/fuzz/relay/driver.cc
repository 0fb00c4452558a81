// Stands in for libFuzzer where there is no clang: mutates valid inputs and random bytes, from a seed, for a time.
// `PROGRAM SECONDS [SEED [FILE...]]` mutates the files too; `PROGRAM FILE...` plays them once, as they are.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <random>
#include <vector>

#include "../../../src/native/relay/frames.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

// False when there is no such file.
bool ReadFile(const char* path, std::vector<uint8_t>* bytes) {
  FILE* file = fopen(path, "rb");
  if (file == nullptr) return false;
  bytes->resize(65536);
  bytes->resize(fread(bytes->data(), 1, bytes->size(), file));
  fclose(file);
  return true;
}

}  // namespace

int main(int count, char** arguments) {
  int played = 0;
  std::vector<uint8_t> kept;
  while (played + 1 < count && ReadFile(arguments[played + 1], &kept)) {
    LLVMFuzzerTestOneInput(kept.data(), kept.size());
    played += 1;
  }
  if (played > 0) {
    printf("%d inputs\n", played);
    return played + 1 == count ? 0 : 1;
  }
  const int seconds = count > 1 ? atoi(arguments[1]) : 5;
  std::mt19937 random(count > 2 ? static_cast<unsigned>(atoi(arguments[2])) : 1);
  std::vector<std::vector<uint8_t>> seeds;
  arctic::relay::Open open;
  open.service = "svc_01J00000000000000000000001";
  open.flow = 1;
  open.destination_port = 443;
  for (const uint8_t width : {4, 16}) {
    open.destination.width = open.source.width = width;
    uint8_t payload[arctic::relay::kMaxOpen];
    seeds.emplace_back(payload, payload + arctic::relay::EncodeOpen(open, payload));
  }
  // Command 2: one entry, one exit with a rule, one peer.
  seeds.push_back({2, 0, 0, 0, 1, 1, 's', 1, 'p', 0x41, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                   0, 0, 0, 1, 1, 's', 1, 'p', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 4, 10, 0, 0, 0, 8,
                   0, 0, 0, 1, 1, 'p', 4, 10, 0, 0, 1, 0xee, 0x48});
  for (const uint8_t first : {1, 3, 4, 5, 6, 7, 8}) seeds.push_back(std::vector<uint8_t>(1 + random() % 120, first));
  for (int index = 3; index < count; index += 1) {
    if (!ReadFile(arguments[index], &kept)) {
      fprintf(stderr, "%s: cannot be read\n", arguments[index]);
      return 1;
    }
    seeds.push_back(kept);
  }
  uint64_t runs = 0;
  for (const time_t end = time(nullptr) + seconds; time(nullptr) < end;) {
    for (int batch = 0; batch < 1000; batch += 1, runs += 1) {
      std::vector<uint8_t> input = seeds[random() % seeds.size()];
      if (random() % 4 == 0) {
        input.resize(random() % 300);
        for (uint8_t& byte : input) byte = static_cast<uint8_t>(random());
      }
      for (unsigned changes = random() % 6; changes > 0 && !input.empty(); changes -= 1) {
        const size_t at = random() % input.size();
        switch (random() % 4) {
          case 0:
            input[at] = static_cast<uint8_t>(random());
            break;
          case 1:
            input[at] ^= static_cast<uint8_t>(1u << (random() % 8));
            break;
          case 2:
            input.erase(input.begin() + static_cast<long>(at));
            break;
          default:
            input.insert(input.begin() + static_cast<long>(at), static_cast<uint8_t>(random()));
        }
      }
      LLVMFuzzerTestOneInput(input.data(), input.size());
    }
  }
  printf("%llu inputs\n", static_cast<unsigned long long>(runs));
}
