#include "snapshot/repository/external_sorter.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <optional>

#include "platform/error.h"
#include "snapshot/repository/external_sorter_file.h"

namespace nodesnap {
namespace {

constexpr std::size_t kSmallestBudget = 64U << 10;
constexpr std::size_t kFanInLimit = 256;
constexpr std::size_t kLengths = 8;

// Where an entry lies, with the first bytes of its key as a number: most comparisons need no more.
struct Place {
    std::uint64_t prefix;
    std::uint32_t offset;  // of its lengths; also the order in which entries were added
};

std::uint64_t prefix_of(std::string_view key) {
    std::uint64_t prefix = 0;
    std::memcpy(&prefix, key.data(), std::min(key.size(), sizeof(prefix)));
    return __builtin_bswap64(prefix);
}

// Entries from the front of one block of memory, their places from its back: the budget is exact. Untouched pages cost nothing.
class Arena {
public:
    explicit Arena(std::size_t bytes)
        : bytes_(bytes), memory_(static_cast<char*>(::operator new (bytes, std::align_val_t{alignof(Place)}))) {}
    ~Arena() { ::operator delete (memory_, std::align_val_t{alignof(Place)}); }
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;

    bool add(std::string_view key, std::string_view value) {
        const std::size_t needed = kLengths + key.size() + value.size();
        if (bytes_ - used_ - (count_ + 1) * sizeof(Place) < needed || bytes_ - used_ < (count_ + 1) * sizeof(Place)) {
            return false;
        }
        const std::uint32_t lengths[] = {static_cast<std::uint32_t>(key.size()), static_cast<std::uint32_t>(value.size())};
        std::memcpy(memory_ + used_, lengths, kLengths);
        std::copy(key.begin(), key.end(), memory_ + used_ + kLengths);
        std::copy(value.begin(), value.end(), memory_ + used_ + kLengths + key.size());
        ++count_;
        new (places()) Place{prefix_of(key), static_cast<std::uint32_t>(used_)};
        used_ += needed;
        return true;
    }

    void sort() {
        std::sort(places(), places() + count_, [this](const Place& a, const Place& b) {
            if (a.prefix != b.prefix) {
                return a.prefix < b.prefix;
            }
            const int order = key_at(a).compare(key_at(b));
            return order != 0 ? order < 0 : a.offset < b.offset;
        });
    }

    std::size_t count() const { return count_; }
    std::string_view key(std::size_t i) const { return key_at(places()[i]); }
    std::string_view value(std::size_t i) const {
        const std::string_view key = key_at(places()[i]);
        return {key.data() + key.size(), length(places()[i], 1)};
    }
    void clear() { used_ = count_ = 0; }

private:
    Place* places() const { return reinterpret_cast<Place*>(memory_ + bytes_) - count_; }
    std::uint32_t length(const Place& place, int which) const {
        std::uint32_t result = 0;
        std::memcpy(&result, memory_ + place.offset + which * 4, sizeof(result));
        return result;
    }
    std::string_view key_at(const Place& place) const { return {memory_ + place.offset + kLengths, length(place, 0)}; }

    const std::size_t bytes_;
    char* memory_;
    std::size_t used_ = 0;
    std::size_t count_ = 0;
};

}  // namespace

struct ExternalSorter::Impl {
    Impl(std::string directory, std::size_t memory)
        : scratch_directory(std::move(directory)),
          // Places must end where the block does, and offsets are of 32 bits.
          memory_bytes(std::clamp<std::size_t>(memory, kSmallestBudget, std::numeric_limits<std::uint32_t>::max()) / sizeof(Place) *
                       sizeof(Place)) {}

    void spill() {
        if (!file) {
            file.emplace(scratch_directory);
        }
        arena->sort();
        for (std::size_t i = 0; i < arena->count(); ++i) {
            file->append(arena->key(i), arena->value(i));
        }
        const SpilledRun run = file->end_run();
        spilled += run.end - run.begin;
        arena->clear();
    }

    void begin_merge() {
        if (!file) {
            if (arena) {
                arena->sort();
            }
            return;
        }
        if (arena->count() != 0) {
            spill();
        }
        arena.reset();
        const std::size_t fan_in = std::clamp<std::size_t>(memory_bytes / kSorterBufferBytes, 2, kFanInLimit);
        while (file->runs().size() > fan_in) {
            merge_pass(fan_in);
        }
        file->finish_writing();
        merge.emplace(*file, 0, file->runs().size());
    }

    // Neighbouring runs become one, so that entries of equal keys stay in order.
    void merge_pass(std::size_t fan_in) {
        SpillFile merged(scratch_directory);
        file->finish_writing();
        for (std::size_t first = 0; first < file->runs().size(); first += fan_in) {
            RunMerge group(*file, first, std::min(fan_in, file->runs().size() - first));
            while (group.next()) {
                merged.append(group.key(), group.value());
            }
            const SpilledRun run = merged.end_run();
            spilled += run.end - run.begin;
        }
        file = std::move(merged);
    }

    const std::string scratch_directory;
    const std::size_t memory_bytes;
    std::mutex mutex;
    std::unique_ptr<Arena> arena;
    std::optional<SpillFile> file;
    std::optional<RunMerge> merge;
    bool merging = false;
    std::size_t position = 0;
    std::uint64_t count = 0;
    std::uint64_t spilled = 0;
};

ExternalSorter::ExternalSorter(std::string scratch_directory, std::size_t memory_bytes)
    : impl_(std::make_unique<Impl>(std::move(scratch_directory), memory_bytes)) {}

ExternalSorter::~ExternalSorter() = default;

void ExternalSorter::add(std::string_view key, std::string_view value) {
    Impl& impl = *impl_;
    const std::lock_guard lock(impl.mutex);
    if (impl.merging || key.size() > impl.memory_bytes || value.size() > impl.memory_bytes) {
        throw Error::failed("internal error: an entry is added to a sorter too late, or is too large", "please report this");
    }
    if (!impl.arena) {
        impl.arena = std::make_unique<Arena>(impl.memory_bytes);
    }
    if (!impl.arena->add(key, value)) {
        if (impl.arena->count() != 0) {
            impl.spill();
        }
        if (!impl.arena->add(key, value)) {
            throw Error::failed("internal error: an entry is too large for a sorter", "please report this");
        }
    }
    ++impl.count;
}

bool ExternalSorter::next(std::string_view& key, std::string_view& value) {
    Impl& impl = *impl_;
    if (!impl.merging) {
        impl.merging = true;
        impl.begin_merge();
    }
    if (impl.merge) {
        if (!impl.merge->next()) {
            return false;
        }
        key = impl.merge->key();
        value = impl.merge->value();
        return true;
    }
    if (!impl.arena || impl.position == impl.arena->count()) {
        return false;
    }
    key = impl.arena->key(impl.position);
    value = impl.arena->value(impl.position);
    ++impl.position;
    return true;
}

std::uint64_t ExternalSorter::size() const {
    const std::lock_guard lock(impl_->mutex);
    return impl_->count;
}

std::uint64_t ExternalSorter::spilled_bytes() const {
    const std::lock_guard lock(impl_->mutex);
    return impl_->spilled;
}

}  // namespace nodesnap
