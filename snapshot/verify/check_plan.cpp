#include "snapshot/verify/check_plan.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "io/units.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/interrupt.h"
#include "snapshot/repository/object_header.h"
#include "snapshot/scratch.h"

namespace nodesnap {
namespace {

constexpr std::size_t kSorterBytes = 8U << 20;
constexpr std::int64_t kSecond = 1'000'000'000;

using Known = CheckHistory::Known;
using State = CheckHistory::State;

// The order in which a sample takes packs: damaged ones, those never checked, then by the time of the last check; of equals by id, so that
// what lies in one record is checked in a row.
std::string sorting_key(const PackId& id, const Known& known) {
    std::string key;
    key += known.state == State::kDamaged ? '\0' : (known.state == State::kGood ? '\2' : '\1');
    const auto time = static_cast<std::uint64_t>(known.utc_seconds) ^ (std::uint64_t{1} << 63);
    for (int shift = 56; shift >= 0; shift -= 8) {
        key += static_cast<char>(time >> shift);
    }
    return key.append(reinterpret_cast<const char*>(id.bytes.data()), id.bytes.size());
}

constexpr std::size_t kIdInKey = 9;
constexpr std::size_t kValueBytes = 17;  // bytes of the pack, time, state

std::string sorting_value(std::uint64_t bytes, const Known& known) {
    std::array<std::byte, kValueBytes> value{};
    store_little_endian(std::span(value), 0, bytes);
    store_little_endian(std::span(value), 8, known.utc_seconds);
    value[16] = static_cast<std::byte>(known.state);
    return {reinterpret_cast<const char*>(value.data()), value.size()};
}

std::uint64_t budget_of(const Sample& sample, std::uint64_t all_bytes) {
    return sample.percent == 0 ? sample.bytes
                               : static_cast<std::uint64_t>(std::ceil(static_cast<double>(all_bytes) * sample.percent / 100));
}

}  // namespace

CheckPlan::CheckPlan(const Repository& repository, const VerifyOptions& options, Findings& findings, Progress& progress,
                     Meanwhile& meanwhile)
    : repository_(repository),
      options_(options),
      findings_(findings),
      progress_(progress),
      meanwhile_(meanwhile),
      now_ns_(options.now_ns != 0 ? options.now_ns : utc_now()),
      history_(repository, now_ns_, options.remember_bytes, findings) {
    coverage_.window = options.since.value_or(Coverage::kWindow);
    if (options.data && options.sample) {
        sorter_.emplace(scratch_directory_or_default(options.scratch_directory), kSorterBytes);
    }
}

void CheckPlan::add(std::shared_ptr<const PackReader> pack) {
    const Known known = history_.find(pack->index().id(), pack->index().generation());
    const std::uint64_t bytes = pack->stored_bytes();
    {
        const std::lock_guard lock(mutex_);
        coverage_.all.add(bytes);
    }
    if (!is_due(known)) {
        leave(bytes, known);
    } else if (sorter_) {
        due_bytes_ += bytes;
        sorter_->add(sorting_key(pack->index().id(), known), sorting_value(bytes, known));
    } else {
        read(std::move(pack));
    }
}

void CheckPlan::add_unreadable(const PackId& pack, std::uint32_t generation, std::uint64_t bytes) {
    {
        const std::lock_guard lock(mutex_);
        coverage_.all.add(bytes);
        coverage_.damaged.add(bytes);
    }
    history_.note_unreadable(pack, generation, bytes);
}

void CheckPlan::add_missing(const PackId& pack) {
    add_unreadable(pack, 0, 0);
}

bool CheckPlan::is_within(const Known& known, std::chrono::nanoseconds time) const {
    return now_ns_ / kSecond - known.utc_seconds <= std::chrono::floor<std::chrono::seconds>(time).count();
}

bool CheckPlan::is_due(const Known& known) const {
    return options_.data && (!options_.since || known.state != State::kGood || !is_within(known, *options_.since));
}

// What isn't read in this run.
void CheckPlan::leave(std::uint64_t bytes, const Known& known) {
    const std::lock_guard lock(mutex_);
    switch (known.state) {
        case State::kNever:
            break;
        case State::kRewritten:
            coverage_.rewritten.add(bytes);
            break;
        case State::kDamaged:
            coverage_.damaged.add(bytes);
            break;
        case State::kGood: {
            const std::int64_t checked_ns = known.utc_seconds * kSecond;
            coverage_.ever.add(bytes);
            if (is_within(known, coverage_.window)) {
                coverage_.recent.add(bytes);
            }
            coverage_.oldest_ns = std::min(coverage_.oldest_ns.value_or(checked_ns), checked_ns);
            break;
        }
    }
}

void CheckPlan::read(std::shared_ptr<const PackReader> pack) {
    if (!data_) {
        data_.emplace(repository_, options_, findings_, progress_, [this](const PackReader& read, bool whole) { done(read, whole); });
    }
    data_->add(std::move(pack));
}

void CheckPlan::done(const PackReader& pack, bool whole) {
    const std::uint64_t bytes = pack.stored_bytes();
    {
        const std::lock_guard lock(mutex_);
        if (whole) {
            coverage_.now.add(bytes);
            coverage_.recent.add(bytes);
            coverage_.ever.add(bytes);
            coverage_.oldest_ns = std::min(coverage_.oldest_ns.value_or(now_ns_), now_ns_);
        } else {
            coverage_.damaged.add(bytes);
        }
    }
    history_.note(pack, whole);
}

void CheckPlan::read_sample() {
    budget_ = budget_of(*options_.sample, coverage().all.bytes);
    progress_.bytes_total = progress_.bytes_done + std::min(budget_, due_bytes_);
    progress_.totals_final = true;
    fault::step("verify.sampling");
    std::string_view key, value;
    while (sorter_->next(key, value)) {
        const auto bytes = std::as_bytes(std::span(value));
        Candidate candidate;
        std::memcpy(candidate.id.bytes.data(), key.data() + kIdInKey, candidate.id.bytes.size());
        candidate.bytes = load_little_endian<std::uint64_t>(bytes, 0);
        candidate.known = {static_cast<State>(bytes[16]), load_little_endian<std::int64_t>(bytes, 8)};
        throw_if_interrupted();
        if (!choose(candidate)) {
            leave(candidate.bytes, candidate.known);
        } else if (auto pack = reopen(candidate)) {
            read(std::move(pack));
        }
    }
}

// Damage that nobody mends must not keep the rest from being checked.
bool CheckPlan::choose(const Candidate& candidate) {
    if (candidate.known.state == State::kDamaged) {
        if (damaged_bytes_ != 0 && damaged_bytes_ + candidate.bytes > budget_ / 2) {
            return false;
        }
        damaged_bytes_ += candidate.bytes;
    } else {
        if (undamaged_bytes_ != 0 && damaged_bytes_ + undamaged_bytes_ >= budget_) {
            return false;
        }
        undamaged_bytes_ += candidate.bytes;
    }
    return true;
}

std::shared_ptr<const PackReader> CheckPlan::reopen(const Candidate& candidate) {
    try {
        return PackReader::open(repository_.target(), repository_.info().uuid, layout::PackKind::kData, candidate.id, findings_.sink());
    } catch (const Error& error) {
        if (!is_damage(error)) {
            throw;
        }
        const bool forgotten = meanwhile_.pack_went(layout::PackKind::kData, candidate.id);
        const std::lock_guard lock(mutex_);
        if (forgotten) {
            --coverage_.all.packs;
            coverage_.all.bytes -= candidate.bytes;
            return nullptr;
        }
        coverage_.damaged.add(candidate.bytes);
        findings_.add({layout::pack({layout::PackKind::kData, candidate.id, 0}), error.message(), false});
        findings_.lose(candidate.id, {});
        return nullptr;
    }
}

void CheckPlan::finish() {
    history_.tell_flawed();
    if (sorter_) {
        read_sample();
    }
    if (data_) {
        data_->finish();
    }
    history_.flush();
}

void CheckPlan::stop() noexcept {
    data_.reset();
    history_.flush();
}

Coverage CheckPlan::coverage() const {
    const std::lock_guard lock(mutex_);
    Coverage coverage = coverage_;
    coverage.not_remembered = history_.obstacle();
    return coverage;
}

}  // namespace nodesnap
