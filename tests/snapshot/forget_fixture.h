// Repositories in memory with a few backups, to forget and to pin.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "platform/error.h"
#include "snapshot/forget.h"
#include "snapshot/pin.h"
#include "snapshot/verify.h"
#include "tests/snapshot/made_repository.h"

namespace nodesnap::test {

inline ForgetOptions keep_last(unsigned count) {
    ForgetOptions options;
    options.rules.last = count;
    options.allow_mass_expire = true;
    return options;
}

inline ForgetOptions named(const std::vector<std::string>& backups) {
    ForgetOptions options;
    options.backups = backups;
    options.allow_mass_expire = true;
    return options;
}

class ForgetTest : public testing::Test {
protected:
    void backups(int count) {
        for (int i = 0; i < count; ++i) {
            made_.push_back(repository_.add_backup());
        }
    }
    template <typename Work>
    auto under_lease(Work work) {
        Repository repository = repository_.open();
        Lease lease = Lease::acquire(repository.target(), repository.info().uuid, {"test"});
        return work(repository, lease);
    }
    ForgetResult forget(const ForgetOptions& options) {
        return under_lease([&](Repository& repository, Lease& lease) { return run_forget(repository, lease, options, report_); });
    }
    ExitStatus status_of(const ForgetOptions& options) {
        try {
            forget(options);
        } catch (const Error& error) {
            message_ = error.message() + "; " + error.hint();
            return error.status();
        }
        return ExitStatus::kDone;
    }
    PinResult pin(int index, const std::string& reason = "") {
        return under_lease([&](Repository& repository, Lease& lease) { return pin_backup(repository, lease, made_.at(index), reason); });
    }
    PinResult unpin(int index) {
        return under_lease([&](Repository& repository, Lease& lease) { return unpin_backup(repository, lease, made_.at(index)); });
    }
    std::string id(int index) const { return made_.at(static_cast<std::size_t>(index)).id.hex(); }
    std::string object(int index) const { return layout::manifest(made_.at(static_cast<std::size_t>(index)).name); }
    // Which of those made are there, by index.
    std::vector<int> left() const {
        std::vector<int> indexes;
        repository_.open().for_each_backup([&](const BackupEntry& entry) {
            if (entry.manifest) {
                const auto found =
                    std::find_if(made_.begin(), made_.end(), [&](const auto& made) { return made.id == entry.manifest->id; });
                indexes.push_back(static_cast<int>(found - made_.begin()));
            }
        });
        return indexes;
    }
    bool whole() const {
        Repository repository = repository_.open();
        VerifyOptions options;
        options.data = true;
        Progress progress;
        return !run_verify(repository, options, progress).needs_repair();
    }
    // Stores the backup's manifest with a change as a revision, as it stands there already.
    void add_revision(int index, std::uint32_t revision, const std::function<void(Manifest&)>& change) {
        Manifest manifest = made_.at(static_cast<std::size_t>(index));
        manifest.name.revision = revision;
        change(manifest);
        const std::string name = layout::manifest(manifest.name);
        const Bytes content = encode_manifest(repository_.open().info().uuid, manifest);
        if (!repository_.target->create(name, content)) {
            repository_.target->poke(name, content);
        }
    }
    void make_incomplete(int index) {
        add_revision(index, 0, [](Manifest& manifest) { manifest.damaged = true; });
    }
    void ruin(const std::string& object) const {
        repository_.flip(object, 200);
        repository_.flip(object, repository_.size(object) / 2 + 200);
    }
    // A finished backup whose session object was left.
    void leave_session(int index, const std::string& host) {
        under_lease([&](Repository& repository, Lease& lease) {
            SessionRecord session;
            session.id = made_.at(static_cast<std::size_t>(index)).id;
            session.manifest = made_.at(static_cast<std::size_t>(index)).name;
            session.epoch = 1;
            session.host = host;
            session.snapshot_backend = host.empty() ? "none" : "btrfs";
            repository.begin_session(lease, session);
        });
    }

    MadeRepository repository_;
    std::vector<Manifest> made_;
    Report report_;
    std::string message_;
};

}  // namespace nodesnap::test
