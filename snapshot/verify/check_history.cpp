#include "snapshot/verify/check_history.h"

#include <algorithm>
#include <cstring>

#include "io/units.h"
#include "platform/error.h"
#include "platform/fault.h"

namespace nodesnap {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

std::string first_obstacle(const Repository& repository) {
    if (repository.newer_writer_needed()) {
        return "the repository is for a newer version of nodesnap to write to";
    }
    const int error = repository.target().write_error();
    return error == 0 ? "" : repository.target().describe() + " can't be written to: " + std::strerror(error);
}

}  // namespace

CheckHistory::CheckHistory(const Repository& repository, std::int64_t now_ns, std::uint64_t remember_bytes, Findings& findings)
    : repository_(repository),
      target_(repository.target()),
      now_seconds_(now_ns / kSecond),
      remember_bytes_(remember_bytes),
      findings_(findings),
      written_(std::chrono::steady_clock::now()),
      obstacle_(first_obstacle(repository)) {
    writable_ = obstacle_.empty();
}

CheckHistory::Known CheckHistory::find(const PackId& pack, std::uint32_t generation) {
    if (found_byte_ != pack.bytes[0]) {
        found_byte_ = pack.bytes[0];
        try {
            found_ = load(pack.bytes[0]).record;
        } catch (const Error& error) {
            found_ = {};
            found_.flaw = error.message();
        }
        if (!found_.flaw.empty() && ++flawed_ <= kFlawedNamed) {
            findings_.inform(layout::checks(pack.bytes[0]) + " can't be used (" + found_.flaw + "): its packs count as never checked");
        }
    }
    const PackCheckup* checkup = found_.find(pack);
    if (checkup == nullptr || checkup->utc_seconds > now_seconds_) {
        return {};
    }
    if (checkup->generation != generation) {
        return {State::kRewritten, 0};
    }
    return {checkup->damaged ? State::kDamaged : State::kGood, checkup->utc_seconds};
}

void CheckHistory::tell_flawed() {
    if (flawed_ > kFlawedNamed) {
        findings_.inform(std::to_string(flawed_ - kFlawedNamed) + " more records of checks can't be used");
    }
}

CheckHistory::Stored CheckHistory::load(std::uint8_t first_byte) const {
    const auto object = target_.load_salvaging(layout::checks(first_byte), kCheckRecordLimit);
    if (!object) {
        return {};
    }
    return {parse_check_record(object->content, repository_.info().uuid, first_byte), object->version};
}

void CheckHistory::note(const PackReader& pack, bool whole) noexcept {
    note({pack.index().id(), pack.index().generation(), !whole, now_seconds_}, pack.stored_bytes());
}

void CheckHistory::note_unreadable(const PackId& pack, std::uint32_t generation, std::uint64_t bytes) noexcept {
    note({pack, generation, true, now_seconds_}, bytes);
}

void CheckHistory::note(const PackCheckup& checkup, std::uint64_t bytes) noexcept {
    const std::lock_guard lock(mutex_);
    if (!writable_) {
        return;
    }
    try {
        pending_[checkup.pack] = checkup;
    } catch (const std::bad_alloc&) {
        return;
    }
    pending_bytes_ += bytes;
    if (due()) {
        flush_pending();
    }
}

bool CheckHistory::due() const {
    return pending_bytes_ >= remember_bytes_ || pending_.size() >= kPendingLimit ||
           std::chrono::steady_clock::now() - written_ >= kInterval;
}

void CheckHistory::flush() noexcept {
    const std::lock_guard lock(mutex_);
    flush_pending();
}

std::string CheckHistory::obstacle() const {
    const std::lock_guard lock(mutex_);
    return obstacle_;
}

void CheckHistory::flush_pending() noexcept {
    try {
        for (auto next = pending_.begin(); next != pending_.end();) {
            const std::uint8_t first_byte = next->first.bytes[0];
            std::vector<PackCheckup> fresh;
            for (; next != pending_.end() && next->first.bytes[0] == first_byte; ++next) {
                fresh.push_back(next->second);
            }
            try_write(first_byte, fresh);
        }
    } catch (const std::exception& error) {
        obstacle_ = error.what();
    }
    pending_.clear();
    pending_bytes_ = 0;
    written_ = std::chrono::steady_clock::now();
}

// One record that can't be written keeps none of the others from it.
void CheckHistory::try_write(std::uint8_t first_byte, const std::vector<PackCheckup>& fresh) {
    try {
        write(first_byte, fresh);
        fault::step("verify.remembered");
    } catch (const Error& error) {
        obstacle_ = obstacle_.empty() ? error.message() : obstacle_;
    }
}

void CheckHistory::write(std::uint8_t first_byte, const std::vector<PackCheckup>& fresh) {
    const std::vector<PackId> packs = existing(first_byte);
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
        const Stored stored = load(first_byte);
        if (!stored.record.replaceable) {
            throw Error::refused(layout::checks(first_byte) + " was written by a newer version of nodesnap");
        }
        // Another run may have begun after this one: what it remembers is no wrong clock's.
        const auto merged = merge_checkups(stored.record.checkups, fresh, packs, std::max(now_seconds_, utc_now() / kSecond));
        if (merged == stored.record.checkups && stored.record.flaw.empty()) {
            return;
        }
        fault::step("verify.remembering");
        if (target_.swap(layout::checks(first_byte), stored.version, encode_check_record(repository_.info().uuid, first_byte, merged))) {
            return;
        }
    }
    // Others keep writing: they remember, and what isn't of this run is read again sooner.
}

std::vector<PackId> CheckHistory::existing(std::uint8_t first_byte) const {
    PackId folder;
    folder.bytes[0] = first_byte;
    std::vector<PackId> packs;
    target_.list(std::string(layout::kDataPacks) + folder.hex().substr(0, 2) + "/", [&](const ObjectEntry& entry) {
        if (const auto name = layout::parse_pack(entry.name)) {
            packs.push_back(name->id);
        }
    });
    std::sort(packs.begin(), packs.end());
    return packs;
}

}  // namespace nodesnap
