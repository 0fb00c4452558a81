// How one flow fares on a virtual link: `simulate MBIT RTT_MS LOSS_PERCENT QUEUE_MS SECONDS [FLOWS]`, a line for each half second.
#include <stdio.h>
#include <stdlib.h>

#include "virtual_link.h"

using namespace arctic::kcp;
using namespace arctic::kcp::test;

int main(int argc, char** argv) {
  if (argc < 6) return 2;
  LinkSettings link;
  link.bytes_per_us = atof(argv[1]) / 8;
  link.delay_us = static_cast<int64_t>(atof(argv[2]) * 500);
  link.loss = atof(argv[3]) / 100;
  link.queue_us = static_cast<int64_t>(atof(argv[4]) * 1000);
  const int64_t end = static_cast<int64_t>(atof(argv[5]) * 1e6);
  const int flows = argc > 6 ? atoi(argv[6]) : 1;
  VirtualPair pair(link, 1);
  std::vector<Stream*> sending;
  for (int i = 0; i < flows; i += 1) {
    sending.push_back(pair.end(0).Open());
    sending.back()->owner = &pair;
  }
  static uint8_t bytes[65536];
  uint64_t received = 0, before = 0;
  int64_t shown = 0;
  uint64_t sent_before = 0;
  do {
    for (Stream* stream : sending) {
      while (pair.end(0).Writable(stream)) pair.end(0).Write(stream, bytes, 16384);
      stream->told_writable = false;
    }
    Association& reader = pair.end(1);
    for (Stream* stream : reader.opened) stream->owner = &pair;
    reader.opened.clear();
    while (!reader.readable.empty()) {
      Stream* stream = reader.readable.back();
      reader.readable.pop_back();
      stream->told_readable = false;
      while (const size_t got = reader.Peek(stream, bytes, sizeof bytes)) {
        reader.Consume(stream, got, pair.now());
        received += got;
      }
    }
    pair.end(0).writable.clear();
    if (pair.now() - shown >= 500'000) {
      const Association& from = pair.end(0);
      const double took = static_cast<double>(pair.now() - shown);
      printf("%5.1f s  %6.1f Mbit/s  sent %6.1f  bw %6.1f  pace %6.1f  rtt %4.0f (least %4.0f)  loss %.3f parity %zu  lost %lu repeated %lu recovered %lu queue drops %lu\n",
             static_cast<double>(pair.now()) / 1e6, static_cast<double>(received - before) * 8 / took,
             static_cast<double>(from.totals().sent_bytes - sent_before) * 8 / took,
             static_cast<double>(from.rate().bandwidth()) * 8 / 1e6, static_cast<double>(from.rate().pacing_rate()) * 8 / 1e6,
             static_cast<double>(from.rate().smoothed_rtt()) / 1e3, static_cast<double>(from.rate().least_rtt()) / 1e3, from.rate().loss(), from.parity(), from.totals().lost,
             from.totals().repeated, reader.totals().recovered, pair.dropped());
      before = received;
      sent_before = from.totals().sent_bytes;
      shown = pair.now();
    }
  } while (pair.Step(end));
  printf("%.1f Mbit/s in all; %s\n", static_cast<double>(received) * 8 / static_cast<double>(end), pair.end(0).dead() ? pair.end(0).reason() : "alive");
}
