#include "snapshot/repository/repository.h"

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/random.h"
#include "snapshot/repository/description.h"
#include "snapshot/repository/made_objects.h"

namespace nodesnap {
namespace {

constexpr std::size_t kNodeNameLimit = 255;

void require_empty(Target& target) {
    struct Found {
        std::string name;
    };
    try {
        // What else a repository holds is listed before these.
        for (const std::string_view prefix : {layout::kRepository, std::string_view()}) {
            target.list(prefix, [](const ObjectEntry& entry) { throw Found{entry.name}; });
        }
    } catch (const Found& found) {
        if (found.name == layout::kRepository || found.name == layout::kRepositoryCopy) {
            throw Error::refused(target.describe() + " is a repository already", "name another directory");
        }
        throw Error::refused(target.describe() + " isn't empty: it holds " + found.name, "name an empty or a new directory");
    }
}

void replace_copy(Target& target, const StoredDescription& copy, const Description& description) {
    if (!target.swap(copy.object, copy.version, encode_description(description))) {
        throw Error::locked(target.describe(copy.object) + " was changed by another", "run it again");
    }
}

}  // namespace

void Repository::create(Target& target, const std::string& node_name) {
    if (node_name.empty() || node_name.size() > kNodeNameLimit) {
        throw Error::usage("a node's name has 1 to 255 bytes", "give it with --node");
    }
    target.check_writable();
    require_empty(target);
    Description description;
    description.info.uuid = Uuid::random();
    description.info.hash_seed = random_u64();
    description.info.created_ns = utc_now_ns();
    description.info.node.name = node_name;
    description.revision = 1;
    const Bytes text = encode_description(description);
    if (!target.create(layout::kRepository, text)) {
        throw Error::refused(target.describe() + " is a repository already", "name another directory");
    }
    try {
        target.create(layout::kRepositoryCopy, text);
    } catch (...) {
        try {
            target.remove(layout::kRepository);
        } catch (const Error&) {
            // A repository without its copy works, and says what it lacks.
        }
        throw;
    }
}

Repository Repository::open(std::shared_ptr<Target> target, DamageSink sink) {
    Repository repository;
    repository.target_ = std::move(target);
    repository.sink_ = sink ? std::move(sink) : [](const Damage&) {};
    const Description description = load_description(*repository.target_, repository.sink_);
    repository.take(description);
    repository.hasher_ = std::make_shared<const Hasher>(repository.info_.hash_seed);
    repository.packs_ = std::make_shared<PackCache>(*repository.target_, repository.info_.uuid, repository.sink_);
    repository.nodes_ = std::make_shared<NodeReader>(*repository.packs_, *repository.hasher_, repository.sink_);
    return repository;
}

void Repository::refresh(const Lease& lease) {
    lease.check();
    const Description description = load_description(*target_, sink_);
    if (!(description.info.uuid == info_.uuid)) {
        throw Error::refused(target_->describe() + " has become another repository meanwhile", "run it again");
    }
    take(description);
    require_writable();
    complete_description();
    if (made_ != nullptr) {
        made_->reload();  // another run on this host may have stored something while the lease was waited for
    }
}

void Repository::take(const Description& description) {
    info_ = description.info;
    newer_writer_needed_ = (description.ro_compat & ~kKnownReadOnlyCompatFeatures) != 0;
    keeps_receipts_ = (description.ro_compat & kReceiptsFeature) != 0;
}

// A change that was cut off between the two copies. What is damaged is left to `repair`.
void Repository::complete_description() {
    const StoredDescription main = load_description_copy(*target_, layout::kRepository);
    const StoredDescription copy = load_description_copy(*target_, layout::kRepositoryCopy);
    if (main.description && copy.description && main.description->revision != copy.description->revision) {
        const bool main_is_newer = main.description->revision > copy.description->revision;
        replace_copy(*target_, main_is_newer ? copy : main, main_is_newer ? *main.description : *copy.description);
    }
}

void Repository::require_writable() const {
    if (newer_writer_needed_) {
        throw Error::refused("the repository " + target_->describe() + " has features that this version of nodesnap can read but not write",
                             "upgrade nodesnap");
    }
}

void Repository::set_node(const Lease& lease, const NodeIdentity& node) {
    require_writable();
    lease.check();
    change_description([&](Description& changed) {
        // Another node may have made its first backup since this repository was opened.
        if (!(changed.info.node == info_.node)) {
            throw Error::refused("the node of the repository " + target_->describe() + " was changed by another process", "run it again");
        }
        changed.info.node = node;
    });
}

void Repository::begin_receipts(const Lease& lease) {
    require_writable();
    lease.check();
    change_description([](Description& changed) { changed.ro_compat |= kReceiptsFeature; });
}

void Repository::change_description(const std::function<void(Description&)>& change) {
    const StoredDescription main = load_description_copy(*target_, layout::kRepository);
    const StoredDescription copy = load_description_copy(*target_, layout::kRepositoryCopy);
    Description changed;
    changed.info = info_;
    changed.ro_compat = keeps_receipts_ ? kReceiptsFeature : 0;
    for (const StoredDescription* stored : {&main, &copy}) {
        if (stored->description && stored->description->revision >= changed.revision) {
            changed = *stored->description;
        }
    }
    change(changed);
    changed.revision += 1;
    replace_copy(*target_, main, changed);
    replace_copy(*target_, copy, changed);
    take(changed);
}

std::vector<std::string> Repository::repair_description(const Lease& lease) {
    require_writable();
    lease.check();
    const Description right = load_description(*target_, [](const Damage&) {});
    std::vector<std::string> repaired;
    for (const std::string_view object : {layout::kRepository, layout::kRepositoryCopy}) {
        const StoredDescription copy = load_description_copy(*target_, object);
        if (!copy.description || !(*copy.description == right)) {
            replace_copy(*target_, copy, right);
            repaired.push_back(copy.object);
        }
    }
    return repaired;
}

}  // namespace nodesnap
