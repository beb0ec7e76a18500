// What a reservation costs when nobody caps, and when all workers share one cap.
#include <benchmark/benchmark.h>

#include "io/throttle.h"

namespace nodesnap {
namespace {

void throttle_off(benchmark::State& state) {
    static Throttle throttle;
    for (auto unused : state) {
        benchmark::DoNotOptimize(throttle.reserve(65536));
    }
}
BENCHMARK(throttle_off);

void throttle_on(benchmark::State& state) {
    static Throttle throttle(std::uint64_t{1} << 40);
    for (auto unused : state) {
        benchmark::DoNotOptimize(throttle.reserve(65536));
    }
}
BENCHMARK(throttle_on)->Threads(1)->Threads(2)->UseRealTime();

}  // namespace
}  // namespace nodesnap
