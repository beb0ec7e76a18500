// How many workers a restore has, and what each of them may use, so that all together stay within the limits of memory and descriptors.
#pragma once

#include <cstddef>
#include <cstdint>

#include "io/target/target.h"
#include "snapshot/restore.h"
#include "snapshot/restore/worker.h"

namespace nodesnap {

unsigned restore_workers(const RestoreOptions& options, const Target& from);
std::size_t restore_window_bytes(unsigned workers);
// `descriptors`: how many this process may open.
RestoreWorker::Options restore_worker_options(const RestoreOptions& options, unsigned workers, std::uint64_t descriptors);

}  // namespace nodesnap
