// A repository in memory that is served to a client that may only append, and the steps of a backup by that client, one by one.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/ring.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/host.h"
#include "snapshot/append_only/append_only_target.h"
#include "snapshot/repository/lease_record.h"
#include "snapshot/repository/repository.h"
#include "snapshot/repository/session_record.h"
#include "tests/support/strict_target.h"

namespace nodesnap::test {

class AppendOnlyTest : public testing::Test {
protected:
    AppendOnlyTest() {
        Repository::create(*host_, "node1");
        begin_append_only(host_);
        AppendOnlyOptions options;
        options.now_ns = [this] { return now_ns_; };
        options.stored_ns = [this](std::string_view) { return lock_stored_ns_; };
        options.refused = [this](const std::string& what) { refusals_.push_back(what); };
        client_ = make_append_only_target(host_, options);
    }

    Repository open(const std::shared_ptr<Target>& target) const {
        return Repository::open(target, [](const Damage&) {});
    }
    Uuid uuid() const { return open(host_).info().uuid; }
    Lease lock(const std::shared_ptr<Target>& target) const { return Lease::acquire(*target, uuid(), {"test"}); }

    static void store(Target& target, const std::string& name, const std::string& staging_id, const Bytes& content) {
        Ring::Options options;
        options.force_blocking = true;
        Ring ring(options);
        const auto writer = target.begin(name, staging_id);
        ring.wait(writer->write(ring, content, 0));
        ring.wait(writer->finish(ring));
    }
    static std::string pack_name(const SessionId& session, std::uint32_t counter, std::uint32_t generation = 0) {
        return layout::pack({layout::PackKind::kData, PackId::of(session, counter), generation});
    }
    static void store_pack(Target& target, const SessionId& session, std::uint32_t counter) {
        store(target, pack_name(session, counter), PackId::of(session, counter).hex(), Bytes(4096, std::byte{1}));
    }

    static SessionRecord new_session(const Repository& repository, const Lease& lease) {
        SessionRecord session;
        session.id = SessionId::random();
        session.manifest = {repository.next_sequence(), 1'700'000'000, 0};
        session.epoch = lease.epoch();
        session.host = "db1";
        session.snapshot_backend = "none";
        return session;
    }
    static Manifest manifest_of(const Repository& repository, const SessionRecord& session) {
        Manifest manifest;
        manifest.id = session.id;
        manifest.name = session.manifest;
        manifest.epoch = session.epoch;
        manifest.snapshot_time_ns = session.manifest.utc_seconds * 1'000'000'000;
        manifest.node = repository.info().node;
        manifest.hash_seed = repository.info().hash_seed;
        manifest.repository_created_ns = repository.info().created_ns;
        manifest.packs = {PackId::of(session.id, 0)};
        return manifest;
    }
    // A whole backup, as a client makes it.
    Manifest back_up() {
        Repository repository = open(client_);
        Lease lease = lock(client_);
        SessionRecord session = new_session(repository, lease);
        repository.begin_session(lease, session);
        store_pack(*client_, session.id, 0);
        const Manifest manifest = manifest_of(repository, session);
        repository.publish(lease, manifest);
        repository.end_session(session.id);
        lease.release();
        return manifest;
    }

    // What comes of an attempt: kDone where it was done.
    template <typename Attempt>
    ExitStatus attempt(Attempt act) {
        try {
            act();
            return ExitStatus::kDone;
        } catch (const Error& error) {
            message_ = error.message();
            return error.status();
        }
    }
    // All that is stored, but for the lock, which whoever holds it renews.
    std::map<std::string, Bytes> everything() const {
        std::map<std::string, Bytes> objects;
        host_->list("", [&](const ObjectEntry& entry) {
            if (entry.name != layout::kExclusiveLock && entry.name != layout::kClientLease) {
                objects[entry.name] = host_->peek(entry.name);
            }
        });
        return objects;
    }

    const std::shared_ptr<StrictTarget> host_ = StrictTarget::make();  // the repository as its own host has it
    std::shared_ptr<Target> client_;
    std::int64_t now_ns_ = utc_now_ns();
    std::optional<std::int64_t> lock_stored_ns_ = now_ns_;
    std::vector<std::string> refusals_;
    std::string message_;
};

}  // namespace nodesnap::test
