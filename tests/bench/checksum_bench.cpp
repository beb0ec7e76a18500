// How fast checksums are made: the cost of one block of 64 KiB, of a small file, and of the library's function for the oldest processor.
#include <benchmark/benchmark.h>
#include <xxhash.h>

#include <vector>

#include "io/checksum.h"

namespace nodesnap {
namespace {

void checksum(benchmark::State& state) {
    const std::vector<std::byte> data(static_cast<std::size_t>(state.range(0)), std::byte{7});
    const Hasher hasher(12345);
    for (auto unused : state) {
        benchmark::DoNotOptimize(hasher(data));
    }
    state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(checksum)->Arg(64)->Arg(4096)->Arg(65536)->Arg(1 << 20);

void checksum_not_dispatched(benchmark::State& state) {
    const std::vector<std::byte> data(static_cast<std::size_t>(state.range(0)), std::byte{7});
    for (auto unused : state) {
        benchmark::DoNotOptimize(XXH3_128bits_withSeed(data.data(), data.size(), 12345));
    }
    state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(checksum_not_dispatched)->Arg(4096)->Arg(65536)->Arg(1 << 20);

}  // namespace
}  // namespace nodesnap
