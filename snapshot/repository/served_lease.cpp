#include "snapshot/repository/served_lease.h"

#include <exception>
#include <thread>
#include <utility>

#include "platform/clock.h"
#include "platform/interrupt.h"
#include "snapshot/repository/json_object.h"
#include "snapshot/repository/layout.h"
#include "snapshot/repository/lease_record.h"

namespace nodesnap {

void ServedLease::greeted(std::shared_ptr<Target> target, std::uint64_t session) {
    target_ = std::move(target);
    if (const auto directory = target_->local_directory()) {
        presence_ = Presence::declare(*directory, session);
    }
}

void ServedLease::swapped(std::string_view name, std::span<const std::byte> content) noexcept {
    if (name != layout::kExclusiveLock) {
        return;
    }
    const std::lock_guard lock(mutex_);
    holder_.reset();
    try {
        const std::string place(name);
        repository_ = decode_json_object(content, kLeaseKind, place).repository;
        const LeaseHolder holder = decode_lease(content, place, repository_);
        if (holder.held) {
            holder_ = holder;
        }
    } catch (const std::exception&) {  // no lease: not for us to release
    }
}

ServedLease::~ServedLease() {
    if (!holder_ || !presence_) {
        return;
    }
    try {
        release(repository_, *holder_);
    } catch (const std::exception&) {  // it runs out
    }
}

void ServedLease::release(const Uuid& repository, const LeaseHolder& holder) {
    constexpr std::int64_t kSecondNs = 1'000'000'000;
    constexpr std::chrono::milliseconds kPoll{50};
    const std::int64_t until_ns = boot_time_ns() + holder.lease_seconds * kSecondNs;
    while (presence_->others()) {
        if (interrupted() || boot_time_ns() >= until_ns) {
            return;
        }
        std::this_thread::sleep_for(kPoll);
    }
    end_holding(*target_, repository, holder);
}

}  // namespace nodesnap
