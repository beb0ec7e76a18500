// The Target that notes what a backup stores, see made_objects.h.
#include <algorithm>
#include <utility>

#include "io/sha256.h"
#include "io/target/object_name.h"
#include "platform/error.h"
#include "snapshot/repository/made_objects.h"
#include "snapshot/repository/pack_log.h"

namespace nodesnap {
namespace {

// A log on its way. Its bytes come in order, so that they can be summed up as they come.
class RememberingWriter : public ObjectWriter {
public:
    RememberingWriter(std::unique_ptr<ObjectWriter> writer, std::string name, std::shared_ptr<MadeObjects> made)
        : writer_(std::move(writer)), name_(std::move(name)), made_(std::move(made)) {}

    Task<void> write(Ring& ring, std::span<const std::byte> data, std::uint64_t offset) override {
        sum_.add(data);
        return writer_->write(ring, data, offset);
    }
    Task<void> finish(Ring& ring) override {
        made_->note_sum(name_, sum_.hex());
        return writer_->finish(ring);
    }

private:
    std::unique_ptr<ObjectWriter> writer_;
    const std::string name_;
    const std::shared_ptr<MadeObjects> made_;
    Sha256 sum_;
};

// What was loaded and proved.
class ContentReader : public ObjectReader {
public:
    ContentReader(Bytes content, std::string place) : content_(std::move(content)), place_(std::move(place)) {}
    std::uint64_t size() const override { return content_.size(); }
    Task<void> read(Ring&, std::span<std::byte> into, std::uint64_t offset) override {
        read(into, offset);
        co_return;
    }
    void read(std::span<std::byte> into, std::uint64_t offset) override {
        if (offset > content_.size() || into.size() > content_.size() - offset) {
            throw Error::damaged(place_, "it ends before what is to be read");
        }
        std::copy_n(content_.begin() + static_cast<std::ptrdiff_t>(offset), into.size(), into.begin());
    }

private:
    const Bytes content_;
    const std::string place_;
};

class RememberingTarget : public Target {
public:
    RememberingTarget(std::shared_ptr<Target> target, std::shared_ptr<MadeObjects> made, bool guarded)
        : target_(std::move(target)), made_(std::move(made)), guarded_(guarded) {}

    std::string describe() const override { return target_->describe(); }
    std::string describe(std::string_view name) const override { return target_->describe(name); }
    std::optional<std::string> local_directory() const override { return target_->local_directory(); }
    int write_error() const override { return target_->write_error(); }
    std::optional<std::uint64_t> free_bytes() const override { return target_->free_bytes(); }
    void list(std::string_view prefix, const std::function<void(const ObjectEntry&)>& each) override { target_->list(prefix, each); }
    void persist_removals(std::string_view folder) override { target_->persist_removals(folder); }
    void abandon(const std::function<bool(std::string_view)>& given_up) override { target_->abandon(given_up); }

    // Noted first: what is known of an object that didn't come to be does no harm.
    bool create(std::string_view name, std::span<const std::byte> content) override {
        made_->note(name, content);
        return target_->create(name, content);
    }
    bool swap(std::string_view name, const std::optional<std::string>& expected, std::span<const std::byte> content) override {
        made_->note(name, content);
        return target_->swap(name, expected, content);
    }
    std::unique_ptr<ObjectWriter> begin(std::string_view name, std::string_view staging_id) override {
        auto writer = target_->begin(name, staging_id);
        return layout::parse_pack_log(name) ? std::make_unique<RememberingWriter>(std::move(writer), std::string(name), made_)
                                            : std::move(writer);
    }
    bool remove(std::string_view name) override {
        const bool was_there = target_->remove(name);
        if (const auto session = layout::parse_session(name)) {
            made_->end_session(*session);
        }
        return was_there;
    }

    std::unique_ptr<ObjectReader> open(std::string_view name) override {
        if (guarded_ && layout::parse_draft(name)) {
            auto stored = target_->load(name, kSmallObjectLimit);
            const bool known = stored && made_->made(name, stored->content);
            return known ? std::make_unique<ContentReader>(std::move(stored->content), target_->describe(name)) : nullptr;
        }
        return target_->open(name);
    }
    std::optional<VersionedObject> load(std::string_view name, std::uint64_t limit) override {
        auto stored = target_->load(name, limit);
        const auto log = guarded_ && stored ? layout::parse_pack_log(name) : std::nullopt;
        if (log && !made_->made(name, stored->content) && stored->content != encode_pack_log_mark(made_->repository(), *log)) {
            return std::nullopt;
        }
        return stored;
    }
    std::optional<VersionedObject> load_salvaging(std::string_view name, std::uint64_t limit) override {
        return target_->load_salvaging(name, limit);
    }

private:
    const std::shared_ptr<Target> target_;
    const std::shared_ptr<MadeObjects> made_;
    const bool guarded_;
};

}  // namespace

std::shared_ptr<Target> make_remembering_target(std::shared_ptr<Target> target, std::shared_ptr<MadeObjects> made, bool guarded) {
    return std::make_shared<RememberingTarget>(std::move(target), std::move(made), guarded);
}

}  // namespace nodesnap
