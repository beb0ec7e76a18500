#include "snapshot/append_only/append_only_target.h"

#include <sys/stat.h>

#include <functional>
#include <set>
#include <utility>

#include "io/target/object_name.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "snapshot/append_only/append_rules.h"
#include "snapshot/repository/cut.h"
#include "snapshot/repository/description.h"
#include "snapshot/repository/inventory.h"
#include "snapshot/repository/json_object.h"
#include "snapshot/repository/object_header.h"
#include "snapshot/repository/receipt.h"

namespace nodesnap {
namespace {

constexpr const char* kElsewhere = "do it on the repository's host, or with a key that may do more";
constexpr std::int64_t kSecondNs = 1'000'000'000;
constexpr int kAttempts = 8;

bool is_description(std::string_view name) {
    return name == layout::kRepository || name == layout::kRepositoryCopy;
}

// The rules, with what of the repository they go by; looked up for each request, since others change it.
struct Judge {
    Judge(Target& target, const AppendOnlyOptions& options)
        : info(load_description(target, [](const Damage&) {}).info),
          lease(target, info.uuid, options.now_ns, options.stored_ns),
          rules(target, info, lease) {}
    Judge(const Judge&) = delete;
    Judge& operator=(const Judge&) = delete;

    const RepositoryInfo info;
    ClientLease lease;
    const AppendRules rules;
};

// Looks once more when it is to be finished: by then the lock may be another's, and the name taken.
class JudgedWriter : public ObjectWriter {
public:
    JudgedWriter(std::unique_ptr<ObjectWriter> writer, std::function<void()> judge)
        : writer_(std::move(writer)), judge_(std::move(judge)) {}
    Task<void> write(Ring& ring, std::span<const std::byte> data, std::uint64_t offset) override {
        return writer_->write(ring, data, offset);
    }
    Task<void> finish(Ring& ring) override {
        judge_();
        return writer_->finish(ring);
    }

private:
    const std::unique_ptr<ObjectWriter> writer_;
    const std::function<void()> judge_;
};

class AppendOnlyTarget : public Target {
public:
    AppendOnlyTarget(std::shared_ptr<Target> target, AppendOnlyOptions options) : target_(std::move(target)), options_(std::move(options)) {
        if (!options_.now_ns) {
            options_.now_ns = utc_now_ns;
        }
        if (!options_.stored_ns) {
            options_.stored_ns = [this](std::string_view name) { return modified(name); };
        }
    }

    std::string describe() const override { return target_->describe(); }
    std::string describe(std::string_view name) const override { return target_->describe(name); }
    std::optional<std::string> local_directory() const override { return target_->local_directory(); }
    int write_error() const override { return target_->write_error(); }
    std::optional<std::uint64_t> free_bytes() const override { return target_->free_bytes(); }
    std::unique_ptr<ObjectReader> open(std::string_view name) override { return target_->open(name); }
    std::optional<VersionedObject> load(std::string_view name, std::uint64_t limit) override { return target_->load(name, limit); }
    std::optional<VersionedObject> load_salvaging(std::string_view name, std::uint64_t limit) override {
        return target_->load_salvaging(name, limit);
    }
    void list(std::string_view prefix, const std::function<void(const ObjectEntry&)>& each) override { target_->list(prefix, each); }
    void persist_removals(std::string_view folder) override { target_->persist_removals(folder); }

    bool create(std::string_view name, std::span<const std::byte> content) override {
        return judged("store", name, [&] { return create_allowed(name, content); });
    }
    bool swap(std::string_view name, const std::optional<std::string>& expected, std::span<const std::byte> content) override {
        return judged("replace", name, [&] { return swap_allowed(name, expected, content); });
    }
    std::unique_ptr<ObjectWriter> begin(std::string_view name, std::string_view staging_id) override {
        const auto judge = [this, object = std::string(name), staging = std::string(staging_id)] {
            judged("store", object, [&] {
                const auto pack = layout::parse_pack(object);
                const auto log = layout::parse_pack_log(object);
                if (!pack && !log) {
                    refuse_name();
                }
                const Judge now(*target_, options_);
                pack ? now.rules.check_pack(*pack, staging) : now.rules.check_log(*log, staging);
                return true;
            });
        };
        judge();
        // A part that is given up, and begun anew by another under its name, would be finished in its place.
        const std::string own = std::string(staging_id) + "." + Uuid::random().text();
        return std::make_unique<JudgedWriter>(target_->begin(name, own), judge);
    }
    bool remove(std::string_view name) override {
        judged("remove", name, [&] {
            const auto session = layout::parse_session(name);
            if (!session && !layout::parse_draft(name) && !layout::parse_pack_log(name)) {
                refuse_name();
            }
            const Judge judge(*target_, options_);
            session ? judge.rules.check_session_removal(*session) : judge.rules.check_lock();
            return true;
        });
        return target_->remove(name);
    }
    void abandon(const std::function<bool(std::string_view staging_id)>& given_up) override {
        // The target is asked nothing else while it goes through its parts.
        std::set<std::string, std::less<>> parts;
        target_->abandon([&](std::string_view staging_id) {
            if (given_up(staging_id)) {
                parts.emplace(staging_id);
            }
            return false;
        });
        for (const std::string& part : parts) {
            // Under the lock no other writes, so that what is there is left.
            judged("remove the part", part, [&] {
                if (!PackId::parse(part.substr(0, 2 * sizeof(PackId::bytes)))) {
                    refuse_name();
                }
                Judge(*target_, options_).rules.check_lock();
                return true;
            });
        }
        if (!parts.empty()) {
            target_->abandon([&](std::string_view staging_id) { return parts.contains(staging_id); });
        }
    }

private:
    [[noreturn]] static void refuse_name() { throw Error::refused("the key may only append", kElsewhere); }

    // Does it, unless the rules refuse it, or it isn't what it is to be: both are told as one.
    template <typename Act>
    bool judged(const char* verb, std::string_view name, Act act) {
        try {
            return act();
        } catch (const Error& error) {
            if (error.status() != ExitStatus::kRefused && error.status() != ExitStatus::kDamaged) {
                throw;
            }
            const std::string what = std::string("cannot ") + verb + " " + target_->describe(name) + ": " + error.message();
            if (options_.refused) {
                options_.refused(what);
            }
            throw Error::refused(what, error.hint());
        }
    }

    bool create_allowed(std::string_view name, std::span<const std::byte> content) {
        if (const auto manifest = layout::parse_manifest(name)) {
            return create_manifest(*manifest, content);
        }
        if (const auto log = layout::parse_pack_log(name)) {
            Judge(*target_, options_).rules.check_log_mark(*log, content);
            return target_->create(name, content);
        }
        if (is_description(name)) {
            return create_description(name, content);
        }
        // What a cut of a cluster was to be, and that nothing more comes of it. That its parts may go is for the host to say.
        if (layout::parse_cut(name) || layout::parse_cut_given_up(name)) {
            const Judge judge(*target_, options_);
            judge.rules.check_lock();
            check_cut(judge.info.uuid, layout::parse_cut(name).has_value(), std::string(name), content);
            return target_->create(name, content);
        }
        refuse_name();
    }

    // What can't be read would hide what is there, and what needs features that nobody knows stop those who list it.
    static void check_cut(const Uuid& repository, bool is_proposal, const std::string& name, std::span<const std::byte> content) {
        const JsonObject object = decode_json_object(content, is_proposal ? kCutProposalKind : kCutMarkKind, name, repository);
        if (object.ro_compat != 0 || object.compat != 0) {
            refuse_name();
        }
        if (is_proposal) {
            CutProposal::parse(object.members.dump(), name);
        }
    }

    bool swap_allowed(std::string_view name, const std::optional<std::string>& expected, std::span<const std::byte> content) {
        if (name == layout::kExclusiveLock) {
            return Judge(*target_, options_).lease.swap(expected, content);
        }
        const auto session = layout::parse_session(name);
        const auto draft = layout::parse_draft(name);
        if (!session && !draft && !is_description(name) && name != layout::kInventory) {
            refuse_name();
        }
        const auto before = target_->load_salvaging(name, kSmallObjectLimit);
        if ((before ? std::optional(before->version) : std::nullopt) != expected) {
            return false;
        }
        const Judge judge(*target_, options_);
        if (session) {
            judge.rules.check_session(*session, before, content);
        } else if (draft) {
            judge.rules.check_draft(*draft, content);
        } else if (is_description(name)) {
            check_description(content);
        } else {
            check_first_inventory(before.has_value(), content, judge.info.uuid);
        }
        return target_->swap(name, expected, content);
    }

    // That there is nothing to be missed yet: all packs that come are then listed by manifests.
    static void check_first_inventory(bool is_there, std::span<const std::byte> content, const Uuid& repository) {
        const StoredInventory stored = parse_inventory(content, repository);
        if (is_there || !stored.inventory || stored.inventory->sequence != 0 || !stored.inventory->packs.empty()) {
            refuse_name();
        }
    }

    // A new repository.
    bool create_description(std::string_view name, std::span<const std::byte> content) {
        const Description made = decode_description(content, std::string(name));
        const auto main = target_->load_salvaging(layout::kRepository, kSmallObjectLimit);
        if (name == layout::kRepository) {
            target_->list("", [](const ObjectEntry&) { refuse_name(); });
        } else if (!main || !std::equal(content.begin(), content.end(), main->content.begin(), main->content.end())) {
            refuse_name();
        }
        if (!made.info.node.uuid.is_null() || made.revision != 1 || made.ro_compat != 0 || made.compat != 0) {
            refuse_name();
        }
        return target_->create(name, content);
    }

    // The node of one that has none yet, in one copy and then in the other; or a copy that a change was cut off before.
    void check_description(std::span<const std::byte> content) {
        const Description next = decode_description(content, "repository.json");
        const Description present = load_description(*target_, [](const Damage&) {});
        if (next == present) {
            return;
        }
        Description bound = present;
        bound.info.node = next.info.node;
        bound.info.node.name = present.info.node.name;
        bound.revision += 1;
        if (!present.info.node.uuid.is_null() || next.info.node.uuid.is_null() || !(next == bound)) {
            throw Error::refused("the repository's description is bound to a node once, and then changed on its own host only", kElsewhere);
        }
    }

    bool create_manifest(const layout::ManifestName& name, std::span<const std::byte> content) {
        const std::string object = layout::manifest(name);
        if (target_->open(object) != nullptr) {
            return false;
        }
        const auto header = parse_object_header(content);
        const bool mark = header && header.value->kind == ObjectKind::kVoid;
        const Judge judge(*target_, options_);
        if (mark) {
            judge.rules.check_void(name, content);
        } else {
            Receipt receipt;
            receipt.manifest = name;
            receipt.session = judge.rules.check_manifest(name, content);
            receipt.received_ns = options_.now_ns();
            receipt.length = content.size();
            receipt.checksum = Hasher(0)(content);
            store_receipt(name, encode_receipt(judge.info.uuid, receipt));
            fault::step("receipt.stored");
        }
        return target_->create(object, content);
    }

    // One that is there is of an attempt that was cut off before the manifest was.
    void store_receipt(const layout::ManifestName& name, const Bytes& content) {
        const std::string object = layout::receipt(name);
        for (int attempt = 0; attempt < kAttempts; ++attempt) {
            const auto present = target_->load_salvaging(object, kSmallObjectLimit);
            if (target_->swap(object, present ? std::optional(present->version) : std::nullopt, content)) {
                return;
            }
        }
        throw Error::failed(target_->describe(object) + " keeps changing", "run it again");
    }

    std::optional<std::int64_t> modified(std::string_view name) const {
        const auto directory = target_->local_directory();
        const auto status = directory ? stat_path(*directory + "/" + std::string(name)) : std::nullopt;
        return status ? std::optional(status->stx_mtime.tv_sec * kSecondNs + status->stx_mtime.tv_nsec) : std::nullopt;
    }

    const std::shared_ptr<Target> target_;
    AppendOnlyOptions options_;
};

}  // namespace

std::shared_ptr<Target> make_append_only_target(std::shared_ptr<Target> target, AppendOnlyOptions options) {
    return std::make_shared<AppendOnlyTarget>(std::move(target), std::move(options));
}

void begin_append_only(const std::shared_ptr<Target>& target) {
    bool is_there = false;
    for (const std::string_view name : {layout::kRepository, layout::kRepositoryCopy}) {
        is_there = is_there || target->open(name) != nullptr;
    }
    if (!is_there) {
        return;
    }
    try {
        Repository repository = Repository::open(target, {});
        if (!repository.keeps_receipts()) {
            const Lease lease = Lease::acquire(*target, repository.info().uuid, {"serve"});
            repository.refresh(lease);
            repository.begin_receipts(lease);
        }
    } catch (const Error& error) {
        if (error.status() != ExitStatus::kDamaged) {
            throw;
        }
        // Then nothing can be stored, but what can be read may be.
    }
}

}  // namespace nodesnap
