#include "tests/support/strict_target.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "io/target/object_name.h"
#include "platform/error.h"
#include "tests/support/strict_target_state.h"

namespace nodesnap::test {

using Op = StrictTarget::Op;

namespace {

[[noreturn]] void complain(const std::string& what) {
    throw std::logic_error("a target can't do this: " + what);
}

constexpr std::uint64_t kBlock = 4096;

std::string place_of(std::string_view name) {
    return "strict:" + std::string(name);
}

// Runs `effect` between the faults before and after it.
template <typename Effect>
auto guarded(StrictTarget::State& state, Op op, std::string_view name, Effect effect) {
    const auto fault = state.enter(op);
    const auto fail = [&] { throw Error::system("reach", place_of(name), fault.error_number); };
    if (fault.error_number != 0 && fault.kind == StrictTarget::FaultKind::kBefore) {
        fail();
    }
    auto result = effect();
    if (fault.error_number != 0) {
        fail();
    }
    return result;
}

class StrictWriter : public ObjectWriter {
public:
    StrictWriter(std::shared_ptr<StrictTarget::State> state, std::string name, std::string staging)
        : state_(std::move(state)), name_(std::move(name)), staging_(std::move(staging)) {}

    ~StrictWriter() override {
        const std::lock_guard lock(state_->mutex);
        state_->unfinished.erase(staging_);
    }

    Task<void> write(Ring& ring, std::span<const std::byte> data, std::uint64_t offset) override {
        if (finished_) {
            complain("a write to " + name_ + " after it was finished");
        }
        if (offset != next_) {
            complain("a write to " + name_ + " at " + std::to_string(offset) + " instead of " + std::to_string(next_));
        }
        next_ += data.size();
        ++in_flight_;
        // The bytes are taken late, so that a caller who reuses its buffer too early is found out.
        co_await ring.sleep(std::chrono::nanoseconds(1));
        --in_flight_;
        take(data, offset);
    }

    Task<void> finish(Ring& ring) override {
        if (finished_ || in_flight_ != 0) {
            complain(name_ + " finished twice or with writes in flight");
        }
        finished_ = true;
        co_await ring.sleep(std::chrono::nanoseconds(1));
        publish();
    }

private:
    void take(std::span<const std::byte> data, std::uint64_t offset) {
        guarded(*state_, Op::kWrite, name_, [&] {
            if (content_.size() < offset + data.size()) {
                content_.resize(offset + data.size());
            }
            if (!data.empty()) {
                std::memcpy(content_.data() + offset, data.data(), data.size());
            }
            return true;
        });
    }

    void publish() {
        const bool created = guarded(*state_, Op::kFinish, name_, [&] {
            {
                const std::lock_guard lock(state_->mutex);
                if (state_->unfinished.erase(staging_) == 0) {
                    throw Error::system("finish", place_of(name_), ENOENT, "it was abandoned");
                }
            }
            if (const std::uint64_t at = std::exchange(state_->corrupt_at, 0)) {
                content_.at(at) ^= std::byte{1};
            }
            return state_->put_new(name_, std::move(content_));
        });
        if (!created) {
            throw Error::failed("cannot create " + place_of(name_) + ": it exists already");
        }
    }

    std::shared_ptr<StrictTarget::State> state_;
    std::string name_;
    std::string staging_;
    Bytes content_;
    std::uint64_t next_ = 0;
    unsigned in_flight_ = 0;
    bool finished_ = false;
};

class StrictReader : public ObjectReader {
public:
    StrictReader(std::shared_ptr<StrictTarget::State> state, std::string name, Bytes content, std::set<std::uint64_t> bad_blocks)
        : state_(std::move(state)), name_(std::move(name)), content_(std::move(content)), bad_blocks_(std::move(bad_blocks)) {}

    std::uint64_t size() const override { return content_.size(); }

    Task<void> read(Ring& ring, std::span<std::byte> into, std::uint64_t offset) override {
        co_await ring.sleep(std::chrono::nanoseconds(1));
        read(into, offset);
    }

    void read(std::span<std::byte> into, std::uint64_t offset) override {
        guarded(*state_, Op::kRead, name_, [&] {
            if (offset > content_.size() || into.size() > content_.size() - offset) {
                throw Error::damaged(place_of(name_), "too short");
            }
            const auto bad = bad_blocks_.lower_bound(offset / kBlock);
            if (bad != bad_blocks_.end() && *bad * kBlock < offset + into.size()) {
                throw Error::system("read from", place_of(name_), EIO);
            }
            if (!into.empty()) {
                std::memcpy(into.data(), content_.data() + offset, into.size());
            }
            return true;
        });
    }

private:
    std::shared_ptr<StrictTarget::State> state_;
    std::string name_;
    Bytes content_;
    std::set<std::uint64_t> bad_blocks_;
};

void check_small(std::string_view name, std::span<const std::byte> content) {
    if (!valid_object_name(name)) {
        complain("the name \"" + std::string(name) + "\"");
    }
    if (content.size() > kSmallObjectLimit) {
        complain("a small object of more than 64 MiB");
    }
}

Bytes copy_of(std::span<const std::byte> content) {
    return Bytes(content.begin(), content.end());
}

}  // namespace

StrictTarget::StrictTarget() : state_(std::make_shared<State>()) {}
StrictTarget::~StrictTarget() = default;

void StrictTarget::set_list_lag(std::uint64_t calls) {
    const std::lock_guard lock(state_->mutex);
    state_->lag = calls;
}

void StrictTarget::fail(Op op, std::uint64_t nth, int error_number, FaultKind kind, bool for_good) {
    const std::lock_guard lock(state_->mutex);
    state_->faults[static_cast<std::size_t>(op)] = {nth, error_number, kind, for_good};
}

void StrictTarget::set_delay(std::chrono::microseconds delay) {
    const std::lock_guard lock(state_->mutex);
    state_->delay = delay;
}

void StrictTarget::hold(Op op) {
    const std::lock_guard lock(state_->mutex);
    state_->held = op;
}

void StrictTarget::let_go() {
    const std::lock_guard lock(state_->mutex);
    state_->held.reset();
    state_->let_go.notify_all();
}

void StrictTarget::clear_faults() {
    const std::lock_guard lock(state_->mutex);
    state_->faults = {};
}

void StrictTarget::set_writable(bool writable) {
    const std::lock_guard lock(state_->mutex);
    state_->writable = writable;
}

std::uint64_t StrictTarget::count(Op op) const {
    const std::lock_guard lock(state_->mutex);
    return state_->counts[static_cast<std::size_t>(op)];
}

Bytes StrictTarget::peek(const std::string& name) const {
    const std::lock_guard lock(state_->mutex);
    const auto found = state_->objects.find(name);
    if (found == state_->objects.end()) {
        throw Error::failed("there is no object " + name);
    }
    return found->second.content;
}

void StrictTarget::poke(const std::string& name, const Bytes& content) {
    const std::lock_guard lock(state_->mutex);
    state_->objects[name] = {content, state_->next_version++, {}};
}

void StrictTarget::spoil(const std::string& name, std::uint64_t offset) {
    const std::lock_guard lock(state_->mutex);
    state_->objects.at(name).bad_blocks.insert(offset / kBlock);
}

bool StrictTarget::contains(const std::string& name) const {
    const std::lock_guard lock(state_->mutex);
    return state_->objects.contains(name);
}

void StrictTarget::erase(const std::string& name) {
    const std::lock_guard lock(state_->mutex);
    state_->objects.erase(name);
    state_->changes.erase(name);
}

void StrictTarget::corrupt_next_finish(std::uint64_t offset) {
    const std::lock_guard lock(state_->mutex);
    state_->corrupt_at = offset;
}

void StrictTarget::end_process() {
    const std::lock_guard lock(state_->mutex);
    for (auto& [name, removal] : state_->removals) {
        removal.by_this_process = false;
    }
}

void StrictTarget::power_cut() {
    const std::lock_guard lock(state_->mutex);
    for (auto& [name, removal] : state_->removals) {
        state_->objects.try_emplace(name, State::Object{std::move(removal.content), state_->next_version++, {}});
    }
    state_->removals.clear();
}

std::size_t StrictTarget::unfinished() const {
    const std::lock_guard lock(state_->mutex);
    return state_->unfinished.size();
}

std::string StrictTarget::describe() const {
    return "strict:";
}
std::string StrictTarget::describe(std::string_view name) const {
    return place_of(name);
}

int StrictTarget::write_error() const {
    const std::lock_guard lock(state_->mutex);
    return state_->writable ? 0 : EROFS;
}

void StrictTarget::set_free_bytes(std::uint64_t bytes) {
    const std::lock_guard lock(state_->mutex);
    state_->free_bytes = bytes;
}

std::optional<std::uint64_t> StrictTarget::free_bytes() const {
    const std::lock_guard lock(state_->mutex);
    return state_->free_bytes;
}

bool StrictTarget::create(std::string_view name, std::span<const std::byte> content) {
    check_small(name, content);
    return guarded(*state_, Op::kCreate, name, [&] { return state_->put_new(std::string(name), copy_of(content)); });
}

std::unique_ptr<ObjectWriter> StrictTarget::begin(std::string_view name, std::string_view staging_id) {
    check_small(name, {});
    check_staging_id(staging_id);
    return guarded(*state_, Op::kBegin, name, [&]() -> std::unique_ptr<ObjectWriter> {
        const std::lock_guard lock(state_->mutex);
        if (!state_->unfinished.insert(std::string(staging_id)).second) {
            throw Error::system("create", place_of(staging_id), EEXIST);
        }
        return std::make_unique<StrictWriter>(state_, std::string(name), std::string(staging_id));
    });
}

std::unique_ptr<ObjectReader> StrictTarget::open(std::string_view name) {
    check_small(name, {});
    return guarded(*state_, Op::kOpen, name, [&]() -> std::unique_ptr<ObjectReader> {
        const std::lock_guard lock(state_->mutex);
        const auto found = state_->objects.find(std::string(name));
        if (found == state_->objects.end()) {
            return nullptr;
        }
        return std::make_unique<StrictReader>(state_, std::string(name), found->second.content, found->second.bad_blocks);
    });
}

std::optional<VersionedObject> StrictTarget::load(std::string_view name, std::uint64_t limit) {
    check_small(name, {});
    return guarded(*state_, Op::kLoad, name, [&]() -> std::optional<VersionedObject> {
        const std::lock_guard lock(state_->mutex);
        const auto found = state_->objects.find(std::string(name));
        if (found == state_->objects.end()) {
            return std::nullopt;
        }
        if (found->second.content.size() > limit) {
            throw Error::damaged(place_of(name), "longer than such an object may be");
        }
        if (!found->second.bad_blocks.empty()) {
            throw Error::system("read from", place_of(name), EIO);
        }
        return VersionedObject{found->second.content, std::to_string(found->second.version)};
    });
}

std::optional<VersionedObject> StrictTarget::load_salvaging(std::string_view name, std::uint64_t limit) {
    {
        const std::lock_guard lock(state_->mutex);
        const auto found = state_->objects.find(std::string(name));
        if (found != state_->objects.end() && !found->second.bad_blocks.empty()) {
            VersionedObject object{found->second.content, std::to_string(found->second.version), EIO};
            for (const std::uint64_t block : found->second.bad_blocks) {
                for (std::uint64_t i = block * kBlock; i < (block + 1) * kBlock && i < object.content.size(); ++i) {
                    object.content[i] = std::byte{0};
                }
            }
            return object;
        }
    }
    return load(name, limit);
}

bool StrictTarget::swap(std::string_view name, const std::optional<std::string>& expected, std::span<const std::byte> content) {
    check_small(name, content);
    return guarded(*state_, Op::kSwap, name, [&] {
        const std::lock_guard lock(state_->mutex);
        const std::string key(name);
        const auto found = state_->objects.find(key);
        const bool same = found == state_->objects.end() ? !expected : expected && *expected == std::to_string(found->second.version);
        if (!same) {
            return false;
        }
        state_->note_change(key);
        state_->persist_own_removals();
        state_->objects[key] = {copy_of(content), state_->next_version++, {}};
        return true;
    });
}

void StrictTarget::list(std::string_view prefix, const std::function<void(const ObjectEntry&)>& each) {
    const auto entries = guarded(*state_, Op::kList, prefix, [&] {
        const std::lock_guard lock(state_->mutex);
        std::map<std::string, std::uint64_t> sizes;
        for (const auto& [name, object] : state_->objects) {
            sizes[name] = object.content.size();
        }
        for (auto change = state_->changes.begin(); change != state_->changes.end();) {
            if (state_->calls > change->second.visible_at || state_->lag == 0) {
                change = state_->changes.erase(change);
                continue;
            }
            if (change->second.listed_before) {
                sizes[change->first] = change->second.size_before;
            } else {
                sizes.erase(change->first);
            }
            ++change;
        }
        return sizes;
    });
    for (const auto& [name, size] : entries) {
        if (name.starts_with(prefix)) {
            each({name, size});
        }
    }
}

bool StrictTarget::remove(std::string_view name) {
    check_small(name, {});
    return guarded(*state_, Op::kRemove, name, [&] {
        const std::lock_guard lock(state_->mutex);
        const std::string key(name);
        if (!state_->objects.contains(key)) {
            return false;
        }
        state_->note_change(key);
        state_->removals[key] = {std::move(state_->objects[key].content)};
        state_->objects.erase(key);
        return true;
    });
}

void StrictTarget::persist_removals(std::string_view folder) {
    guarded(*state_, Op::kPersist, folder, [&] {
        const std::lock_guard lock(state_->mutex);
        std::erase_if(state_->removals, [&](const auto& removal) { return folder_of(removal.first) + "/" == folder; });
        return true;
    });
}

void StrictTarget::abandon(const std::function<bool(std::string_view)>& given_up) {
    guarded(*state_, Op::kAbandon, "journal/", [&] {
        const std::lock_guard lock(state_->mutex);
        std::erase_if(state_->unfinished, given_up);
        return true;
    });
}

}  // namespace nodesnap::test
