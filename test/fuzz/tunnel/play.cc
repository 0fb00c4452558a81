// Stands in for libFuzzer: `PROGRAM FILE...` plays each file once, as it is.
#include <stdint.h>
#include <stdio.h>

#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

int main(int count, char** arguments) {
  std::vector<uint8_t> bytes(1 << 16);
  for (int index = 1; index < count; index += 1) {
    FILE* file = fopen(arguments[index], "rb");
    if (file == nullptr) {
      fprintf(stderr, "%s: cannot be read\n", arguments[index]);
      return 1;
    }
    const size_t length = fread(bytes.data(), 1, bytes.size(), file);
    fclose(file);
    // Flushed: of the one that aborts the name is known.
    fprintf(stderr, "%s\n", arguments[index]);
    LLVMFuzzerTestOneInput(bytes.data(), length);
  }
  printf("%d inputs\n", count - 1);
}
