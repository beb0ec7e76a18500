// AppendRules: what a client that may only append may store, and what it may remove: each function looks at what is there and at what is to
// come, and throws Error::refused where that isn't what a backup does. Nothing is changed by them. Error::damaged: what the client gives
// isn't such an object.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "snapshot/append_only/client_lease.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

class AppendRules {
public:
    // They must outlive it.
    AppendRules(Target& target, const RepositoryInfo& info, const ClientLease& lease) : target_(target), info_(info), lease_(lease) {}

    void check_pack(const layout::PackName& pack, std::string_view staging_id) const;
    void check_log(const PackId& pack, std::string_view staging_id) const;
    void check_log_mark(const PackId& pack, std::span<const std::byte> content) const;
    // `before`: what is there.
    void check_session(const SessionId& id, const std::optional<VersionedObject>& before, std::span<const std::byte> content) const;
    void check_draft(const SessionId& id, std::span<const std::byte> content) const;
    // The mark of an abandoned session, under a manifest's name that nothing has.
    void check_void(const layout::ManifestName& name, std::span<const std::byte> content) const;
    // A manifest, under a name that nothing has; returns the session.
    SessionId check_manifest(const layout::ManifestName& name, std::span<const std::byte> content) const;
    // Enough for removing logs, drafts and parts, and for what says of a cut of a cluster.
    void check_lock() const { lease_.require(); }
    void check_session_removal(const SessionId& id) const;

private:
    std::optional<SessionRecord> session(const SessionId& id) const;
    SessionRecord writing_session(const SessionId& id) const;
    void check_new_sequence(std::uint64_t sequence) const;
    void check_unused(const SessionId& id) const;
    void check_unpublished(const SessionId& id) const;
    // The headers of all manifests and marks.
    void for_each_head(const std::function<void(const std::string& object, std::span<const std::byte> head)>& each) const;
    bool is_taken(const layout::ManifestName& name) const;

    Target& target_;
    const RepositoryInfo& info_;
    const ClientLease& lease_;
};

}  // namespace nodesnap
