#include "snapshot/append_only/append_rules.h"

#include <algorithm>
#include <array>

#include "platform/error.h"
#include "snapshot/repository/json_object.h"
#include "snapshot/repository/object_header.h"
#include "snapshot/repository/pack_log.h"
#include "snapshot/repository/session_record.h"

namespace nodesnap {
namespace {

// Numbers of sessions that nothing is left of may have been passed over.
constexpr std::uint64_t kSequenceStep = 16;

[[noreturn]] void refuse(const std::string& what) {
    throw Error::refused(what, "a key that may only append does what a backup does, and nothing else");
}

// The highest number that a backup, or the mark of one, has.
std::uint64_t highest_published(Target& target) {
    std::uint64_t highest = 0;
    target.list(layout::kBackups, [&](const ObjectEntry& entry) {
        if (const auto name = layout::parse_manifest(entry.name)) {
            highest = std::max(highest, name->sequence);
        }
    });
    return highest;
}

bool same_name(const layout::ManifestName& a, const layout::ManifestName& b) {
    return a.same_backup(b) && a.revision == b.revision;
}

// Parts of a pack begin with its id, so that who clears up after its session finds them.
void check_staging(const PackId& pack, std::string_view staging_id) {
    if (!staging_id.starts_with(pack.hex())) {
        refuse("a part of pack " + pack.hex() + " must have a name of that pack");
    }
}

std::optional<SessionId> session_in_header(std::span<const std::byte> bytes) {
    const auto header = parse_object_header(bytes);
    if (!header) {
        return std::nullopt;
    }
    SessionId id;
    std::copy_n(header.value->object_id.begin(), id.bytes.size(), id.bytes.begin());
    return id;
}

}  // namespace

std::optional<SessionRecord> AppendRules::session(const SessionId& id) const {
    const std::string name = layout::session(id);
    const auto stored = target_.load(name, kJsonObjectLimit);
    return stored ? std::optional(decode_session(stored->content, id, target_.describe(name), info_.uuid)) : std::nullopt;
}

SessionRecord AppendRules::writing_session(const SessionId& id) const {
    const LeaseHolder holder = lease_.require();
    const auto found = session(id);
    if (!found || found->condemned) {
        refuse("session " + id.hex() + " isn't one that writes: " + (found ? "it is being cleared up" : "there is no such session"));
    }
    if (found->epoch > holder.epoch) {
        refuse("session " + id.hex() + " is of a later holder of the lock");
    }
    return *found;
}

void AppendRules::check_pack(const layout::PackName& pack, std::string_view staging_id) const {
    check_staging(pack.id, staging_id);
    if (pack.generation != 0) {
        refuse("packs are rewritten on the repository's host only");
    }
    writing_session(pack.id.session());
    // The highest generation counts, so that one beside it may take the place of what is there.
    for (const layout::PackKind kind : {layout::PackKind::kData, layout::PackKind::kNodes}) {
        std::string prefix = layout::pack({kind, pack.id, 0});
        prefix.resize(prefix.rfind("0.pack"));
        target_.list(prefix, [&](const ObjectEntry& entry) { refuse("there is a pack of that id: " + entry.name); });
    }
}

void AppendRules::check_log(const PackId& pack, std::string_view staging_id) const {
    check_staging(pack, staging_id);
    writing_session(pack.session());
}

void AppendRules::check_log_mark(const PackId& pack, std::span<const std::byte> content) const {
    const Bytes mark = encode_pack_log_mark(info_.uuid, pack);
    if (!std::equal(content.begin(), content.end(), mark.begin(), mark.end())) {
        refuse("only the mark of a log is stored at once");
    }
    writing_session(pack.session());
}

// One more than all, and a little; of sessions too, which say which number they will have.
void AppendRules::check_new_sequence(std::uint64_t sequence) const {
    std::uint64_t highest = highest_published(target_);
    target_.list(layout::kJournal, [&](const ObjectEntry& entry) {
        const auto id = layout::parse_session(entry.name);
        try {
            if (const auto other = id ? session(*id) : std::nullopt) {
                highest = std::max(highest, other->manifest.sequence);
            }
        } catch (const Error& error) {
            if (error.status() != ExitStatus::kDamaged) {
                throw;
            }
        }
    });
    if (sequence <= highest || sequence > highest + kSequenceStep) {
        refuse("the next backup's number isn't " + std::to_string(sequence) + " but " + std::to_string(highest + 1));
    }
}

// Who clears up after a session may take all that has its id for remains of it.
void AppendRules::check_unused(const SessionId& id) const {
    const auto used = [&](const std::string& object) { refuse("session " + id.hex() + " isn't new: there is " + object); };
    for (const std::string_view folder : {layout::kDataPacks, layout::kNodePacks}) {
        for (unsigned byte = 0; byte < 256; ++byte) {
            const std::string digits = two_digits(byte);
            target_.list(std::string(folder).append(digits).append("/").append(digits).append(id.hex()),
                         [&](const ObjectEntry& entry) { used(entry.name); });
        }
    }
    target_.list(layout::kJournal, [&](const ObjectEntry& entry) {
        const auto log = layout::parse_pack_log(entry.name);
        if ((log && log->session() == id) || layout::parse_draft(entry.name) == id) {
            used(entry.name);
        }
    });
    for_each_head([&](const std::string& object, std::span<const std::byte> head) {
        if (session_in_header(head) == id) {
            used(object);
        }
    });
}

// One id names one backup.
void AppendRules::check_unpublished(const SessionId& id) const {
    for_each_head([&](const std::string& object, std::span<const std::byte> head) {
        const auto header = parse_object_header(head);
        if (header && header.value->kind == ObjectKind::kManifest && session_in_header(head) == id) {
            refuse("session " + id.hex() + " is published already: " + object);
        }
    });
}

void AppendRules::for_each_head(const std::function<void(const std::string& object, std::span<const std::byte> head)>& each) const {
    target_.list(layout::kBackups, [&](const ObjectEntry& entry) {
        const auto reader = layout::parse_manifest(entry.name) ? target_.open(entry.name) : nullptr;
        if (reader == nullptr || reader->size() < kHeaderBytes) {
            return;
        }
        std::array<std::byte, kHeaderBytes> head{};
        reader->read(head, 0);
        each(entry.name, head);
    });
}

void AppendRules::check_session(const SessionId& id, const std::optional<VersionedObject>& before,
                                std::span<const std::byte> content) const {
    const LeaseHolder holder = lease_.require();
    const std::string name = target_.describe(layout::session(id));
    const SessionRecord next = decode_session(content, id, name, info_.uuid);
    if (!before) {
        if (next.epoch != holder.epoch || next.manifest.revision != 0 || next.condemned) {
            refuse("a session begins with the epoch of the lock, and for a new backup");
        }
        check_new_sequence(next.manifest.sequence);
        check_unused(id);
        return;
    }
    const SessionRecord present = decode_session(before->content, id, name, info_.uuid);
    if (next.epoch != present.epoch && next.epoch != holder.epoch) {
        refuse("a session is taken over with the epoch of the lock");
    }
    if (present.epoch > holder.epoch || (present.condemned && !next.condemned)) {
        refuse("session " + id.hex() + " is being cleared up, or of a later holder of the lock");
    }
    if (!same_name(next.manifest, present.manifest)) {
        if (next.manifest.revision != 0 || present.manifest.revision != 0) {
            refuse("revisions of backups are written on the repository's host only");
        }
        check_unpublished(id);
        check_new_sequence(next.manifest.sequence);
    }
}

void AppendRules::check_draft(const SessionId& id, std::span<const std::byte> content) const {
    writing_session(id);
    const auto header = parse_object_header(content);
    if (!header || header.value->kind != ObjectKind::kManifest || header.value->repository != info_.uuid ||
        session_in_header(content) != id || content.size() > kManifestObjectLimit) {
        refuse("it isn't the draft of session " + id.hex());
    }
}

void AppendRules::check_void(const layout::ManifestName& name, std::span<const std::byte> content) const {
    lease_.require();
    const auto id = session_of_mark(content, layout::manifest(name), info_.uuid);
    const auto found = id ? session(*id) : std::nullopt;
    if (!found || !same_name(found->manifest, name)) {
        refuse("a mark is set only in the place of a session's manifest, and there is no such session");
    }
    const Bytes mark = encode_void_manifest(info_.uuid, *id, name.revision);
    if (!std::equal(content.begin(), content.end(), mark.begin(), mark.end())) {
        refuse("it isn't the mark of session " + id->hex());
    }
}

SessionId AppendRules::check_manifest(const layout::ManifestName& name, std::span<const std::byte> content) const {
    const LeaseHolder holder = lease_.require();
    const std::string object = layout::manifest(name);
    if (content.size() > kManifestObjectLimit) {
        refuse("it is longer than any manifest");
    }
    const auto manifest =
        decode_manifest(content, object, info_.uuid, [](const Damage& damage) { throw Error::damaged(damage.object, damage.what); });
    const auto found = manifest ? session(manifest->id) : std::nullopt;
    if (name.revision != 0 || !found || !same_name(found->manifest, name)) {
        refuse("there is no session that is to become " + object);
    }
    if (found->condemned || found->suspended || found->epoch != holder.epoch || manifest->epoch != holder.epoch) {
        refuse("session " + manifest->id.hex() + " is no longer one that may be published");
    }
    check_unpublished(manifest->id);
    // What is published later is listed later, so that the order is that of the receipts.
    if (name.sequence <= highest_published(target_)) {
        refuse("there is a backup, or the mark of one, with a number that isn't lower than " + std::to_string(name.sequence));
    }
    if (!manifest->may_rewrite || manifest->pinned || !manifest->pins.empty() || manifest->hash_seed != info_.hash_seed ||
        manifest->repository_created_ns != info_.created_ns || !(manifest->node == info_.node)) {
        refuse("it isn't the manifest of a backup of this repository's node, or says what only the repository's host may say");
    }
    if (std::any_of(manifest->packs.begin(), manifest->packs.end(), [&](const PackId& pack) { return pack.session() != manifest->id; })) {
        refuse("it lists packs of another backup as its own");
    }
    return manifest->id;
}

bool AppendRules::is_taken(const layout::ManifestName& name) const {
    bool taken = false;
    target_.list(layout::kBackups, [&](const ObjectEntry& entry) {
        const auto other = layout::parse_manifest(entry.name);
        taken = taken || (other && other->same_backup(name) && other->revision >= name.revision);
    });
    return taken;
}

void AppendRules::check_session_removal(const SessionId& id) const {
    lease_.require();
    const auto found = session(id);
    // Otherwise whoever wrote for it, and sleeps, could publish when nothing tells of it any more.
    if (found && !is_taken(found->manifest)) {
        refuse("session " + id.hex() + " could still be published");
    }
}

}  // namespace nodesnap
