// The tunnel's AEADs on standard input, for the tests beside this file. One request a line, fields in hex, `-` for an empty one:
//   seal AEAD KEY NONCE AAD TEXT    answers the ciphertext with its tag
//   open AEAD KEY NONCE AAD TEXT    TEXT with its tag behind it; answers the text or `refused`
#include <stdio.h>
#include <string.h>

#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "../../../../src/native/tunnel/aead.h"

using namespace arctic::tunnel;

namespace {

std::vector<uint8_t> Bytes(const std::string& hex) {
  std::vector<uint8_t> bytes;
  for (size_t at = 0; at + 1 < hex.size(); at += 2) bytes.push_back(static_cast<uint8_t>(std::stoi(hex.substr(at, 2), nullptr, 16)));
  return bytes;
}

void Print(const uint8_t* bytes, size_t length) {
  if (length == 0) printf("-");
  for (size_t i = 0; i < length; ++i) printf("%02x", bytes[i]);
  printf("\n");
}

}  // namespace

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream fields(line);
    std::string verb, aead, key_hex, nonce_hex, aad_hex, text_hex;
    fields >> verb >> aead >> key_hex >> nonce_hex >> aad_hex >> text_hex;
    std::vector<uint8_t> key = Bytes(key_hex), aad = Bytes(aad_hex), text = Bytes(text_hex);
    const std::vector<uint8_t> nonce_bytes = Bytes(nonce_hex);
    key.resize(kKeyLength);
    Nonce nonce{};
    memcpy(nonce.bytes, nonce_bytes.data(), nonce_bytes.size() < 16 ? nonce_bytes.size() : 16);
    const bool seals = verb == "seal";
    Cipher cipher(static_cast<Aead>(std::stoi(aead)), key.data(), seals);
    if (!cipher.ok()) {
      printf("unable\n");
    } else if (seals) {
      const size_t length = text.size();
      text.resize(length + kTagLength);
      if (cipher.Seal(nonce, aad.data(), aad.size(), text.data(), length)) Print(text.data(), text.size());
      else printf("failed\n");
    } else if (text.size() < kTagLength ||
               !cipher.Open(nonce, aad.data(), aad.size(), text.data(), text.size() - kTagLength)) {
      printf("refused\n");
    } else {
      Print(text.data(), text.size() - kTagLength);
    }
  }
  return 0;
}
