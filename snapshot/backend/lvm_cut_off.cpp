#include "snapshot/backend/lvm_cut_off.h"

#include <chrono>
#include <csignal>
#include <optional>
#include <thread>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/lvm.h"
#include "platform/pidfd.h"
#include "platform/processes.h"
#include "snapshot/backend/lvm_exchange.h"
#include "snapshot/backend/lvm_merge.h"
#include "snapshot/backend/lvm_rollback_record.h"

namespace nodesnap {
namespace {

void end_process(std::int64_t pid, std::uint64_t start) {
    const auto process = Pidfd::open(static_cast<pid_t>(pid));
    if (process && process_start(static_cast<pid_t>(pid)) == start) {
        process->signal(SIGKILL);
    }
}

bool is_in_place(const LvmRollbackNote& note) {
    const LvmMerge merge(note);
    return merge.shown() == LvmShown::kReplaced && merge.stage() != LvmMerge::Stage::kNotBegun;
}

}  // namespace

std::string finish_lvm_rollback(const std::string& directory) {
    auto record = LvmRollbackRecord::find(directory);
    if (!record) {
        return "";
    }
    const lvm::KeptOpen kept(record->lock_descriptor());
    return record->note().is_merge() ? finish_merge(*record) : finish_exchange(*record);
}

void mount_back(const MountBack& request) {
    constexpr std::chrono::milliseconds kBetween(20);
    constexpr std::int64_t kLongestNs = 60'000'000'000;
    const std::int64_t deadline = monotonic_ns() + kLongestNs;
    for (bool ended = false;; std::this_thread::sleep_for(kBetween)) {
        const auto note = LvmRollbackRecord::look(request.directory);
        if (!note || !note->is_merge() || is_in_place(*note)) {
            return;
        }
        if (const auto record = LvmRollbackRecord::find(request.directory)) {
            const lvm::KeptOpen kept(record->lock_descriptor());
            LvmMerge(record->note()).mount_back();
            return;
        }
        if (request.pid != 0 && !ended) {
            end_process(request.pid, request.process_start);
            ended = true;
        }
        if (monotonic_ns() >= deadline) {
            throw Error::failed("another nodesnap is at work on a rollback of " + request.directory, "see what it waits for");
        }
    }
}

}  // namespace nodesnap
