// Repository: one node's backups in one target. Opens it, proves what it reads, lists and picks backups, and publishes new ones.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "io/checksum.h"
#include "io/target/target.h"
#include "snapshot/repository/lock.h"
#include "snapshot/repository/manifest.h"

namespace nodesnap {

class MadeObjects;
struct Description;

// What repository.json says.
struct RepositoryInfo {
    Uuid uuid;
    std::uint64_t hash_seed = 0;
    std::int64_t created_ns = 0;
    NodeIdentity node;
    bool operator==(const RepositoryInfo&) const = default;
};

// What an unfinished backup has begun; see docs/format.md, "Order of writes".
// What a drain reads: everything; everything, comparing it with an earlier backup; what the change list says.
enum class DrainMode { kWhole, kCompared, kChanges };

struct SessionRecord {
    SessionId id;
    layout::ManifestName manifest{};
    std::uint64_t epoch = 0;
    std::string host;
    std::string snapshot_path;  // empty if none was made, or the backup died before it noted it
    std::string snapshot_backend;
    // Nobody writes for it, or publishes under its manifest's name, until a backup resumes it.
    bool suspended = false;
    bool condemned = false;        // it is being cleared up: it is never resumed any more
    std::uint32_t first_pack = 0;  // number of the first pack of the run that works on it now, or did last
    std::uint32_t first_log = 0;   // logs of packs with lower numbers don't count
    std::uint32_t stalled = 0;     // runs since the last that brought a log, but for those that lacked space
    bool lacked_space = false;     // why the run that worked on it last ended; or it had not begun to read
    std::optional<CutId> cut;      // of a cluster backup: it can be resumed from its draft alone, before its first log
    DrainMode mode = DrainMode::kWhole;
    // Not stored: of the object as it was read or written by whoever has this record; none before it is stored. Who was stopped meanwhile,
    // and wakes, changes nothing.
    std::optional<std::string> version;
};

// Pack numbers of one run: up to four drains, where an earlier backup can't be built on.
inline constexpr std::uint32_t kPacksOfOneDrain = 1U << 24;
inline constexpr std::uint32_t kPacksOfOneRun = 4 * kPacksOfOneDrain;

// What an attempt to remove a session's snapshot came to.
enum class SnapshotRemains {
    kNone,        // it is removed, durably, or was gone
    kOutOfReach,  // its file system isn't seen here
    kStuck,       // it can't be removed now
};

struct BackupEntry {
    layout::ManifestName name{};
    std::string object;                // name of the manifest's object
    std::optional<Manifest> manifest;  // none: damaged beyond reading
    std::string damage;                // why
};

class Repository {
public:
    // Error::refused if something is there already that isn't an empty directory (or is a repository).
    static void create(Target& target, const std::string& node_name);
    // Reads and proves repository.json (either copy; falls back on the manifests' copies of it). Error::refused if it isn't a repository,
    // with a hint to `init`.
    static Repository open(std::shared_ptr<Target> target, DamageSink sink);

    Target& target() const { return *target_; }
    std::shared_ptr<Target> target_pointer() const { return target_; }
    const RepositoryInfo& info() const { return info_; }
    const Hasher& hasher() const { return *hasher_; }
    PackCache& packs() const { return *packs_; }
    NodeReader& nodes() const { return *nodes_; }
    const DamageSink& damage_sink() const { return sink_; }
    bool newer_writer_needed() const { return newer_writer_needed_; }  // a feature forbids this version to write
    // It is, or was, served to keys that may only append: see receipt.h. Packs are then removed by prune alone.
    bool keeps_receipts() const { return keeps_receipts_; }

    // What this host remembers having stored there, see made_objects.h; none where nobody asked for it. Only where receipts are kept
    // others may have stored something too, and it is asked.
    void remember(std::shared_ptr<MadeObjects> made) { made_ = std::move(made); }
    bool made_here(const BackupEntry& backup) const;  // not of one that can't be read
    bool made_here(const SessionRecord& session) const;

    // All backups in ascending order of (sequence, UTC); of each the highest valid revision. Abandoned ones are left out. One manifest in
    // memory at a time.
    void for_each_backup(const std::function<void(const BackupEntry&)>& each) const;
    // The same from the newest on, until `each` returns false.
    void for_each_backup_backwards(const std::function<bool(const BackupEntry&)>& each) const;
    // BACKUP is an id, a unique prefix of one, `latest` (the newest that isn't marked damaged), or empty with `as_of_ns` (the newest not
    // after it). `passed_over` is told each newer one that might have been it, but whose manifest can't be read.
    Manifest find_backup(const std::string& backup, std::optional<std::int64_t> as_of_ns = {},
                         const std::function<void(const BackupEntry&)>& passed_over = {}) const;
    std::uint64_t next_sequence() const;  // highest + 1, over manifests, abandoned ones and sessions

    // Reads repository.json again: what another holder of the lease has changed since open() counts. Completes a change of it that was cut
    // off.
    void refresh(const Lease& lease);

    // Stores the node's identity (both copies, compare-and-swap). Needs the lease.
    void set_node(const Lease& lease, const NodeIdentity& node);
    // From now on it keeps receipts. Needs the lease.
    void begin_receipts(const Lease& lease);
    // Writes those copies of repository.json anew that are missing, damaged or behind; returns their names.
    std::vector<std::string> repair_description(const Lease& lease);

    void begin_session(const Lease& lease, SessionRecord& session);  // create, or update; Error::locked if another has changed it
    void end_session(const SessionId& session);
    std::vector<SessionRecord> sessions() const;
    std::set<SessionId> session_ids() const;  // of those too whose object can't be read
    // Those of them that no backup came of: a finished backup's session object may be left, but its packs are a backup's.
    std::set<SessionId> unfinished_sessions() const;
    // Clears up after sessions of earlier epochs that didn't finish, in the order that the format document says. `remove_snapshot` is
    // called for each on this host that may have left one (the record may lack its path); it must be able to do so twice, and reports what
    // it can't remove: then the session object stays too, and the next backup tries again (what is out of reach, or on another host, is
    // forgotten after 30 days). Without a remover the snapshots are left to the next backup. Returns how many sessions were cleared up
    // wholly. Every holder of the lease calls this before it refers to or removes anything stored: what a session left is
    // its own only while no other backup rests on it. Safe against a former holder that is only stopped, whenever it wakes: it finds the
    // mark under its manifest's name.
    // What can be resumed is suspended instead and stays: all of it where there is no remover, `spared` otherwise.
    using SnapshotRemover = std::function<SnapshotRemains(const SessionRecord&)>;
    std::size_t clear_sessions(const Lease& lease, const SnapshotRemover& remove_snapshot, const std::optional<SessionId>& spared = {});
    // Clears up after our own session, which failed: in the same order. Nothing may still write for it. False if it was, or may have been,
    // published after all (publish() failed when the manifest was visible already): then at most its snapshot, unless that was to be kept,
    // and the session object are removed.
    bool abandon_session(const Lease& lease, SessionRecord& session, const SnapshotRemover& remove_snapshot);

    // Going on after an interruption: see docs/design.md. The draft is what was known of a backup when its drain began: a manifest without
    // a tree. A session can be resumed if it has a draft and a log, and began less than 30 days ago.
    void store_draft(const Lease& lease, const Manifest& draft);
    std::optional<Manifest> load_draft(const SessionId& session) const;  // nullopt if there is none, or it can't be read
    std::vector<PackId> logged_packs(const SessionRecord& session) const;
    bool can_be_resumed(const SessionRecord& session) const;
    // Those that are kept for a resume, with what they build on.
    std::vector<Manifest> drafts() const;
    // Our own session, which failed. `may_be_published`: its manifest's name is taken away from it first. False if it was published.
    bool suspend_session(const Lease& lease, SessionRecord& session, bool may_be_published);
    // Takes a suspended session over: under a manifest name of its own, with pack numbers of its own. Removes its packs that no log tells
    // of.
    void resume_session(const Lease& lease, SessionRecord& session, const layout::ManifestName& name);
    // Logs and draft.
    void remove_journal(const SessionId& session);

    // Checks the lease, then creates the manifest; Error::locked if the session was abandoned by another meanwhile. After another Error the
    // manifest may be visible: abandon_session() finds out.
    void publish(const Lease& lease, const Manifest& manifest);

private:
    Repository() = default;
    void require_writable() const;  // Error::refused when a feature forbids this version to write
    // Of the given names, all of one backup, the highest valid revision; nullopt if it was abandoned.
    std::optional<BackupEntry> load_backup(const std::vector<layout::ManifestName>& revisions) const;
    std::optional<BackupEntry> load_listed(const std::vector<layout::ManifestName>& revisions, bool& gone) const;
    Manifest find_by_id(const std::string& prefix) const;
    enum class Clearing { kGivenUp, kPublished, kUnknown };
    struct Cleared {
        Clearing what;
        bool wholly;  // the session object is removed
    };
    Cleared clear_session(const Lease& lease, SessionRecord& session, const SnapshotRemover& remove_snapshot);
    // Takes the name of its manifest away from a session: then it can't be published any more.
    Clearing take_name(const Lease& lease, const SessionRecord& session, bool& keeps_snapshot);
    void store_session(SessionRecord& session);
    void sweep_journal();
    bool holds_own_mark(const SessionRecord& session) const;
    void remove_unlogged(const Lease& lease, const SessionRecord& session);
    bool end_finished(const SessionRecord& session, bool keeps_snapshot, const SnapshotRemover& remove_snapshot);
    bool has_later_revision(const layout::ManifestName& name) const;
    bool forget_session(SessionRecord& session, const SnapshotRemover& remove_snapshot);
    std::vector<std::string> pack_objects_of(const SessionId& session) const;
    void complete_description();
    void take(const Description& description);
    void change_description(const std::function<void(Description&)>& change);
    void remove_packs_of(const SessionId& session);
    void abandon_parts(const std::function<bool(const PackId&)>& given_up);  // packs, and logs, that aren't finished

    std::shared_ptr<Target> target_;
    std::shared_ptr<MadeObjects> made_;
    RepositoryInfo info_;
    bool newer_writer_needed_ = false;
    bool keeps_receipts_ = false;
    DamageSink sink_;
    std::shared_ptr<const Hasher> hasher_;
    std::shared_ptr<PackCache> packs_;
    std::shared_ptr<NodeReader> nodes_;
};

}  // namespace nodesnap
