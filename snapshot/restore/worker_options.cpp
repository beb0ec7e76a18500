#include "snapshot/restore/worker_options.h"

#include <algorithm>

#include "platform/host.h"

namespace nodesnap {
namespace {

constexpr unsigned kDefaultWorkers = 4;
constexpr std::size_t kBuffers = 24;  // of 1 MiB, over all workers
constexpr std::size_t kBuffersPerWorker = 12;
constexpr std::size_t kPackBytes = 16U << 20;  // of packs' indexes that plans hold, over all workers
constexpr std::size_t kAssemblyPacks = 64;     // for one plan
constexpr std::size_t kWorks = 3;
constexpr std::size_t kWindowBytes = 32U << 20;  // of large files, over all workers
constexpr std::size_t kSmallestWindow = 1U << 20, kLargestWindow = 16U << 20;
constexpr std::uint64_t kSpareDescriptors = 256;

}  // namespace

unsigned restore_workers(const RestoreOptions& options, const Target& from) {
    const unsigned wanted = options.workers != 0 ? options.workers : std::min(std::max(cpu_count(), from.streams()), kDefaultWorkers);
    return std::clamp(wanted, 1U, RestoreOptions::kWorkersLimit);
}

std::size_t restore_window_bytes(unsigned workers) {
    return std::clamp(kWindowBytes / workers, kSmallestWindow, kLargestWindow);
}

RestoreWorker::Options restore_worker_options(const RestoreOptions& options, unsigned workers, std::uint64_t descriptors) {
    RestoreWorker::Options result;
    result.force_blocking = options.force_blocking;
    result.buffers = std::min(kBuffers / workers, kBuffersPerWorker);
    result.works = kWorks;
    result.plan.index_bytes = kPackBytes / workers / kWorks;
    result.assembly_plan = {.index_bytes = kPackBytes / workers, .packs = kAssemblyPacks};
    const auto half = descriptors / 2 > kSpareDescriptors ? descriptors / 2 - kSpareDescriptors : kSpareDescriptors;
    result.slice_files = std::clamp<std::size_t>(half / workers / kWorks, 8, 256);
    return result;
}

}  // namespace nodesnap
