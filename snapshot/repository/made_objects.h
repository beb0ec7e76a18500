// MadeObjects: what this host has stored in one repository, as it remembers it itself: a file in its state directory, "made/<UUID of the
// repository>". Where a key that may only append to the repository was stolen, somebody else may have stored backups, or parts of them,
// too: a backup builds on, and goes on with, only what is known here.
//
// The file has a line for each object: its SHA-256, its name. Of several with one name the last counts. Thread-safe in one process; the
// repository's lock keeps others away.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

#include "snapshot/repository/repository.h"

namespace nodesnap {

class MadeObjects {
public:
    // Nothing is remembered where there is no file, or none that can be read.
    // `durable`: something rests on it. Where nothing does, a power cut may take it, and what can't be noted isn't.
    MadeObjects(const std::string& state_directory, const Uuid& repository, bool durable);
    // What another process has noted meanwhile.
    void reload();

    // Durable when it returns, if it is to be. Of manifests, drafts, logs and sessions; anything else isn't remembered.
    void note(std::string_view object, std::span<const std::byte> content);
    void note_sum(std::string_view object, const std::string& sum);
    bool made(std::string_view object, std::span<const std::byte> content) const;
    bool knows(std::string_view object) const;  // with whatever content
    // As this host stored it last, whatever became of it there since (it may have been suspended, or condemned).
    bool made(const SessionRecord& session) const;
    // It is ended: what was stored for it alone is forgotten. So are all but the newest backups.
    void end_session(const SessionId& session);

    const Uuid& repository() const { return repository_; }

private:
    void store_all() const;

    static constexpr std::size_t kBackups = 4096;
    void append(std::string_view object, const std::string& sum);
    const std::string path_;
    const Uuid repository_;
    const bool durable_;
    mutable std::mutex mutex_;
    std::map<std::string, std::string, std::less<>> sums_;
};

// Notes what is stored, in `made`. `guarded`: drafts and logs that aren't known aren't there for who asks for them.
std::shared_ptr<Target> make_remembering_target(std::shared_ptr<Target> target, std::shared_ptr<MadeObjects> made, bool guarded);

// Repository::open() for a backup from this host.
Repository open_remembering(std::shared_ptr<Target> target, const std::string& state_directory, const DamageSink& sink);

}  // namespace nodesnap
