// What a key that may only append can do, and what whoever has stolen it tries.
#include <algorithm>

#include "snapshot/repository/cut.h"
#include "snapshot/repository/description.h"
#include "snapshot/repository/inventory.h"
#include "snapshot/repository/pack_log.h"
#include "snapshot/repository/receipt.h"
#include "tests/snapshot/append_only_fixture.h"

namespace nodesnap::test {
namespace {

constexpr ExitStatus kDone = ExitStatus::kDone;
constexpr ExitStatus kRefused = ExitStatus::kRefused;

TEST_F(AppendOnlyTest, ABackupIsMadeAndReceived) {
    const Manifest made = back_up();
    EXPECT_EQ(refusals_, std::vector<std::string>{});
    const auto receipt = decode_receipt(host_->peek(layout::receipt(made.name)), made.name, "receipt", uuid());
    EXPECT_EQ(receipt.received_ns, now_ns_);
    EXPECT_EQ(receipt.session, made.id);
    EXPECT_EQ(receipt.length, host_->peek(layout::manifest(made.name)).size());
    EXPECT_EQ(receipt.checksum, Hasher(0)(host_->peek(layout::manifest(made.name))));
    EXPECT_TRUE(open(host_).keeps_receipts());
    EXPECT_TRUE(open(host_).session_ids().empty());
}

// Whatever is there: nothing of it can be removed, replaced, or made anew, by whoever holds the lock too.
TEST_F(AppendOnlyTest, NothingThatIsThereCanBeChanged) {
    const Manifest first = back_up();
    const Manifest second = back_up();
    host_->create(std::string(layout::kChecks) + "00", Bytes(64));
    host_->create("inventory", encode_inventory(uuid(), {}));
    host_->create("lost/backups/x", Bytes(3));
    host_->create("receipts/kept", Bytes(3));
    store(*host_, pack_name(first.id, 0, 1), "x", Bytes(4096, std::byte{2}));  // as a compaction writes it
    const Lease lease = lock(client_);
    const auto before = everything();
    for (const auto& object : before) {
        const std::string& name = object.first;
        SCOPED_TRACE(name);
        for (const Bytes& other : {Bytes(5), host_->peek(layout::manifest(first.name)), host_->peek(layout::manifest(second.name))}) {
            EXPECT_EQ(attempt([&] { client_->remove(name); }), kRefused);
            const std::string version = host_->load(name, 1U << 20)->version;
            EXPECT_EQ(attempt([&] { client_->swap(name, version, other); }), kRefused);
            const ExitStatus made = attempt([&] { EXPECT_FALSE(client_->create(name, other)); });
            EXPECT_TRUE(made == kRefused || made == kDone);
            EXPECT_EQ(attempt([&] { store(*client_, name, "x", other); }), kRefused);
        }
    }
    EXPECT_EQ(everything(), before);
    EXPECT_EQ(attempt([&] { client_->remove(layout::kExclusiveLock); }), kRefused);
    EXPECT_FALSE(refusals_.empty());
}

TEST_F(AppendOnlyTest, NothingComesThatABackupDoesNotWrite) {
    const Manifest made = back_up();
    Repository repository = open(client_);
    const Lease lease = lock(client_);
    SessionRecord session = new_session(repository, lease);
    repository.begin_session(lease, session);
    const std::string id = PackId::of(session.id, 7).hex();
    const layout::ManifestName& name = made.name;
    const auto before = everything();
    for (const std::string& hostile : {pack_name(made.id, 0, 1),
                                       pack_name(made.id, 1),
                                       pack_name(session.id, 7, 1),
                                       pack_name(SessionId::random(), 0),
                                       "packs/" + id + ".0.pack",
                                       "packs/00/" + id + ".0.pack",
                                       "packs/" + id.substr(0, 2) + "/" + id + ".00.pack",
                                       "packs/" + id.substr(0, 2) + "/" + id,
                                       layout::pack({layout::PackKind::kNodes, PackId::of(made.id, 0), 0}),
                                       layout::manifest({name.sequence, name.utc_seconds, 1}),
                                       layout::manifest({name.sequence, name.utc_seconds + 1, 0}),
                                       layout::manifest({name.sequence + 1, name.utc_seconds, 0}),
                                       std::string("backups/x"),
                                       std::string("inventory"),
                                       std::string("checks/00"),
                                       std::string("lost/x"),
                                       std::string("lost/backups/x"),
                                       std::string("locks/x.shared"),
                                       layout::shared_lock(session.id),
                                       layout::receipt(name),
                                       layout::receipt({name.sequence + 1, name.utc_seconds, 0}),
                                       std::string("receipts/lease"),
                                       std::string("receipts/kept"),
                                       std::string("receipts/x"),
                                       std::string("journal/x"),
                                       "journal/" + id + ".part",
                                       layout::session(made.id),
                                       layout::draft(made.id),
                                       layout::pack_log(PackId::of(made.id, 0)),
                                       std::string("repository.json.old"),
                                       std::string("x"),
                                       std::string("x/y")}) {
        SCOPED_TRACE(hostile);
        for (const Bytes& content :
             {Bytes(), Bytes(5), host_->peek(layout::manifest(name)), host_->peek(std::string(layout::kRepository))}) {
            const ExitStatus made_anew = attempt([&] { EXPECT_FALSE(client_->create(hostile, content)); });
            EXPECT_TRUE(made_anew == kRefused || (made_anew == kDone && host_->contains(hostile)));
            EXPECT_EQ(attempt([&] { client_->swap(hostile, {}, content); }), kRefused);
            EXPECT_EQ(attempt([&] { store(*client_, hostile, id, content); }), kRefused);
        }
    }
    // A part that belongs to no pack of the session would never be cleared up.
    EXPECT_EQ(attempt([&] { store(*client_, pack_name(session.id, 7), "other", Bytes(4096)); }), kRefused);
    EXPECT_EQ(everything(), before);
    store_pack(*client_, session.id, 7);
    EXPECT_EQ(attempt([&] { store_pack(*client_, session.id, 7); }), kRefused);
}

// A lock that another holds can be taken over only when it has run out by the host's own clock.
TEST_F(AppendOnlyTest, TheLockOfAnotherIsNotBroken) {
    const Uuid repository = uuid();
    std::optional<Lease> hosts = lock(host_);
    LeaseHolder thief = this_holder("thief", 300);
    const auto take = [&](std::uint64_t epoch) {
        const auto stored = load_lease(*host_, repository);
        thief.epoch = epoch;
        return client_->swap(layout::kExclusiveLock, stored ? std::optional(stored->version) : std::nullopt,
                             encode_lease(repository, thief));
    };
    EXPECT_EQ(attempt([&] { take(hosts->epoch() + 1); }), kRefused);
    // Nor released, nor renewed in its place.
    LeaseHolder released = load_lease(*host_, repository)->holder;
    released.held = false;
    EXPECT_EQ(attempt([&] {
                  client_->swap(layout::kExclusiveLock, load_lease(*host_, repository)->version, encode_lease(repository, released));
              }),
              kRefused);
    hosts->check();
    // Of a process that is seen here no clock is asked that may have been set.
    now_ns_ = *lock_stored_ns_ + 301'000'000'000;
    EXPECT_EQ(attempt([&] { take(hosts->epoch() + 1); }), kRefused);
    now_ns_ = *lock_stored_ns_;
    hosts.reset();
    LeaseHolder elsewhere = this_holder("prune", 300);
    elsewhere.boot_id = elsewhere.machine_id = elsewhere.host = "elsewhere";
    elsewhere.epoch = load_lease(*host_, repository)->holder.epoch + 1;
    ASSERT_TRUE(host_->swap(layout::kExclusiveLock, load_lease(*host_, repository)->version, encode_lease(repository, elsewhere)));
    EXPECT_EQ(attempt([&] { take(elsewhere.epoch + 1); }), kRefused);
    now_ns_ = *lock_stored_ns_ + 301'000'000'000;
    EXPECT_EQ(attempt([&] { take(elsewhere.epoch + 2); }), kRefused);
    EXPECT_TRUE(take(elsewhere.epoch + 1));
    now_ns_ = *lock_stored_ns_;
    // Their own they may take over, with the next epoch, for five minutes at most.
    const std::uint64_t epoch = thief.epoch;
    thief.acquired_ns += 1;
    EXPECT_EQ(attempt([&] { take(epoch); }), kRefused);
    EXPECT_EQ(attempt([&] { take(INT64_MAX - 1); }), kRefused);
    thief.lease_seconds = 301;
    EXPECT_EQ(attempt([&] { take(epoch + 1); }), kRefused);
    thief.lease_seconds = 300;
    EXPECT_TRUE(take(epoch + 1));
    // Something that isn't a lock.
    EXPECT_EQ(attempt([&] { client_->swap(layout::kExclusiveLock, load_lease(*host_, repository)->version, Bytes(10)); }), kRefused);
}

TEST_F(AppendOnlyTest, AnEpochThatWouldBeTheLastIsNotTaken) {
    host_->erase(std::string(layout::kExclusiveLock));
    LeaseHolder thief = this_holder("thief", 300);
    thief.epoch = INT64_MAX - 1;
    EXPECT_EQ(attempt([&] { client_->swap(layout::kExclusiveLock, {}, encode_lease(uuid(), thief)); }), kRefused);
    EXPECT_NO_THROW(back_up());
}

// Nothing is written, or removed from the journal, while another works on the repository.
TEST_F(AppendOnlyTest, NothingIsDoneUnderTheLockOfAnother) {
    Repository repository = open(client_);
    SessionRecord session;
    {
        const Lease lease = lock(client_);
        session = new_session(repository, lease);
        repository.begin_session(lease, session);
        store_pack(*client_, session.id, 0);
    }
    const Lease hosts = lock(host_);
    const auto before = everything();
    EXPECT_EQ(attempt([&] { store_pack(*client_, session.id, 1); }), kRefused);
    EXPECT_EQ(attempt([&] { client_->remove(layout::session(session.id)); }), kRefused);
    EXPECT_EQ(attempt([&] { client_->remove(layout::draft(session.id)); }), kRefused);
    EXPECT_EQ(
        attempt([&] { client_->create(layout::manifest(session.manifest), encode_manifest(uuid(), manifest_of(repository, session))); }),
        kRefused);
    EXPECT_EQ(attempt([&] { client_->create(layout::manifest(session.manifest), encode_void_manifest(uuid(), session.id, 0)); }), kRefused);
    session.epoch = hosts.epoch();
    EXPECT_EQ(attempt([&] { client_->swap(layout::session(session.id), session.version, encode_session(uuid(), session)); }), kRefused);
    EXPECT_EQ(everything(), before);
}

// Who clears up after a session takes for its remains what has its id.
TEST_F(AppendOnlyTest, ASessionOfAnotherBackupsIdIsNotBegun) {
    const Manifest made = back_up();
    Repository repository = open(client_);
    const Lease lease = lock(client_);
    const auto begin = [&](const std::function<void(SessionRecord&)>& change) {
        SessionRecord session = new_session(repository, lease);
        change(session);
        return attempt([&] { client_->swap(layout::session(session.id), {}, encode_session(uuid(), session)); });
    };
    EXPECT_EQ(begin([&](SessionRecord& session) { session.id = made.id; }), kRefused);
    // Its manifest may be forgotten: later backups rest on its packs.
    host_->erase(layout::manifest(made.name));
    EXPECT_EQ(begin([&](SessionRecord& session) { session.id = made.id; }), kRefused);
    host_->erase(pack_name(made.id, 0));
    store(*host_, pack_name(made.id, 0, 3), "x", Bytes(4096));
    EXPECT_EQ(begin([&](SessionRecord& session) { session.id = made.id; }), kRefused);
    EXPECT_EQ(begin([](SessionRecord& session) { session.epoch += 1; }), kRefused);
    EXPECT_EQ(begin([](SessionRecord& session) { session.epoch -= 1; }), kRefused);
    EXPECT_EQ(begin([](SessionRecord& session) { session.manifest.revision = 1; }), kRefused);
    EXPECT_EQ(begin([](SessionRecord& session) { session.manifest.sequence += 16; }), kRefused);
    EXPECT_EQ(begin([](SessionRecord& session) { session.manifest.sequence -= 1; }), kRefused);
    EXPECT_EQ(begin([](SessionRecord&) {}), kDone);
}

// Of a session that is there its manifest's name stays new, and what is condemned stays so.
TEST_F(AppendOnlyTest, ASessionIsNotTurnedAgainstWhatIsThere) {
    const Manifest made = back_up();
    Repository repository = open(client_);
    const Lease lease = lock(client_);
    SessionRecord session = new_session(repository, lease);
    repository.begin_session(lease, session);
    const auto change = [&](const std::function<void(SessionRecord&)>& act) {
        SessionRecord changed = session;
        act(changed);
        return attempt([&] {
            const std::string version = host_->load(layout::session(session.id), 1U << 16)->version;
            client_->swap(layout::session(session.id), version, encode_session(uuid(), changed));
        });
    };
    EXPECT_EQ(change([&](SessionRecord& changed) { changed.manifest = made.name; }), kRefused);
    EXPECT_EQ(change([&](SessionRecord& changed) { changed.manifest = {made.name.sequence, made.name.utc_seconds, 1}; }), kRefused);
    EXPECT_EQ(change([](SessionRecord& changed) {
                  changed.manifest.sequence += 1;
                  changed.manifest.revision = 1;
              }),
              kRefused);
    EXPECT_EQ(change([](SessionRecord& changed) { changed.epoch += 1; }), kRefused);
    EXPECT_EQ(change([](SessionRecord& changed) { changed.id = SessionId::random(); }), kRefused);
    // Before the name is taken, whoever wrote for it could still publish.
    EXPECT_EQ(attempt([&] { client_->remove(layout::session(session.id)); }), kRefused);
    EXPECT_EQ(change([](SessionRecord& changed) { changed.condemned = true; }), kDone);
    EXPECT_EQ(change([](SessionRecord&) {}), kRefused);
    EXPECT_EQ(attempt([&] { store_pack(*client_, session.id, 0); }), kRefused);
    EXPECT_TRUE(client_->create(layout::manifest(session.manifest), encode_void_manifest(uuid(), session.id, 0)));
    EXPECT_TRUE(client_->remove(layout::session(session.id)));
}

TEST_F(AppendOnlyTest, AManifestIsThatOfItsSession) {
    const Manifest made = back_up();
    Repository repository = open(client_);
    const Lease lease = lock(client_);
    SessionRecord session = new_session(repository, lease);
    repository.begin_session(lease, session);
    const auto publish = [&](const std::function<void(Manifest&)>& change) {
        Manifest manifest = manifest_of(repository, session);
        change(manifest);
        return attempt([&] { EXPECT_TRUE(client_->create(layout::manifest(manifest.name), encode_manifest(uuid(), manifest))); });
    };
    EXPECT_EQ(publish([](Manifest& manifest) { manifest.id = SessionId::random(); }), kRefused);
    EXPECT_EQ(publish([&](Manifest& manifest) { manifest.id = made.id; }), kRefused);
    EXPECT_EQ(publish([](Manifest& manifest) { manifest.name.revision = 1; }), kRefused);
    EXPECT_EQ(publish([](Manifest& manifest) { manifest.name.sequence += 1; }), kRefused);
    EXPECT_EQ(publish([](Manifest& manifest) { manifest.name.utc_seconds += 1; }), kRefused);
    EXPECT_EQ(publish([](Manifest& manifest) { manifest.pinned = true; }), kRefused);
    EXPECT_EQ(publish([&](Manifest& manifest) { manifest.packs = made.packs; }), kRefused);
    EXPECT_EQ(publish([](Manifest& manifest) { manifest.hash_seed += 1; }), kRefused);
    EXPECT_EQ(publish([](Manifest& manifest) { manifest.node.path = "/elsewhere"; }), kRefused);
    EXPECT_EQ(publish([](Manifest& manifest) { manifest.epoch += 1; }), kRefused);
    // Of the mark of another, or one where no session is to be.
    const layout::ManifestName next{session.manifest.sequence + 1, 1'700'000'000, 0};
    EXPECT_EQ(attempt([&] { client_->create(layout::manifest(next), encode_void_manifest(uuid(), session.id, 0)); }), kRefused);
    const layout::ManifestName second{made.name.sequence, made.name.utc_seconds, 1};
    EXPECT_EQ(attempt([&] { client_->create(layout::manifest(second), encode_void_manifest(uuid(), made.id, 1)); }), kRefused);
    EXPECT_EQ(host_->contains(layout::receipt(session.manifest)), false);
    EXPECT_EQ(publish([](Manifest&) {}), kDone);
    EXPECT_EQ(
        attempt([&] { EXPECT_FALSE(client_->create(layout::manifest(session.manifest), encode_void_manifest(uuid(), session.id, 0))); }),
        kDone);
}

// Two sessions at once: the order of the numbers is that of the receipts.
// Whoever has the key may give up a part. What they begin then isn't finished in its place.
TEST_F(AppendOnlyTest, APartIsNotFinishedInThePlaceOfAnother) {
    Repository repository = open(client_);
    const Lease lease = lock(client_);
    SessionRecord session = new_session(repository, lease);
    repository.begin_session(lease, session);
    const std::string name = pack_name(session.id, 0);
    const std::string staging = PackId::of(session.id, 0).hex();
    Ring::Options options;
    options.force_blocking = true;
    Ring ring(options);
    const Bytes own(4096, std::byte{1});
    const auto nodes = client_->begin(name, staging);
    ring.wait(nodes->write(ring, own, 0));
    client_->abandon([](std::string_view) { return true; });
    const Bytes others(4096, std::byte{2});
    const auto thiefs = client_->begin(name, staging);
    ring.wait(thiefs->write(ring, others, 0));
    EXPECT_NE(attempt([&] { ring.wait(nodes->finish(ring)); }), kDone);
    EXPECT_FALSE(host_->contains(name));
}

TEST_F(AppendOnlyTest, APackIsFinishedUnderTheLockOnly) {
    Repository repository = open(client_);
    std::optional<Lease> lease = lock(client_);
    SessionRecord session = new_session(repository, *lease);
    repository.begin_session(*lease, session);
    Ring::Options options;
    options.force_blocking = true;
    Ring ring(options);
    const Bytes content(4096, std::byte{1});
    const auto writer = client_->begin(pack_name(session.id, 0), PackId::of(session.id, 0).hex());
    ring.wait(writer->write(ring, content, 0));
    lease.reset();
    EXPECT_EQ(attempt([&] { ring.wait(writer->finish(ring)); }), kRefused);
}

TEST_F(AppendOnlyTest, OneIdNamesOneBackup) {
    Repository repository = open(client_);
    const Lease lease = lock(client_);
    SessionRecord session = new_session(repository, lease);
    repository.begin_session(lease, session);
    store_pack(*client_, session.id, 0);
    repository.publish(lease, manifest_of(repository, session));
    // Its session object is there until its snapshot is gone.
    session.manifest.sequence += 1;
    EXPECT_EQ(attempt([&] { repository.begin_session(lease, session); }), kRefused);
}

TEST_F(AppendOnlyTest, WhoFindsAnothersUnderTheirNameSaysSo) {
    Repository repository = open(client_);
    const Lease lease = lock(client_);
    SessionRecord session = new_session(repository, lease);
    repository.begin_session(lease, session);
    store_pack(*client_, session.id, 0);
    Manifest thiefs = manifest_of(repository, session);
    thiefs.host_name = "elsewhere";
    repository.publish(lease, thiefs);
    EXPECT_EQ(attempt([&] { repository.publish(lease, manifest_of(repository, session)); }), ExitStatus::kFailed);
    EXPECT_EQ(attempt([&] { repository.publish(lease, thiefs); }), kDone);  // one's own, asked again
}

// Else it would hide a cluster backup, or stop whoever lists them.
TEST_F(AppendOnlyTest, WhatSaysSomethingOfACutCanBeRead) {
    Repository repository = open(client_);
    const Lease lease = lock(client_);
    CutProposal proposal;
    proposal.id = CutId::random();
    proposal.cluster = "orders";
    EXPECT_TRUE(store_proposal(repository, lease, proposal));
    EXPECT_EQ(attempt([&] { client_->create(layout::cut_given_up(proposal.id), Bytes(100)); }), kRefused);
    EXPECT_EQ(attempt([&] { client_->create(layout::cut(CutId::random()), Bytes(100)); }), kRefused);
    EXPECT_EQ(attempt([&] { mark_cut(repository, lease, proposal.id, CutMark::kForgotten, "why"); }), kRefused);
    mark_cut(repository, lease, proposal.id, CutMark::kGivenUp, "why");
    EXPECT_EQ(stored_cuts(open(host_)).at(0).given_up, "why");
}

TEST_F(AppendOnlyTest, WhatIsPublishedLaterHasAHigherNumber) {
    Repository repository = open(client_);
    const Lease lease = lock(client_);
    SessionRecord first = new_session(repository, lease);
    repository.begin_session(lease, first);
    SessionRecord second = new_session(repository, lease);
    repository.begin_session(lease, second);
    ASSERT_GT(second.manifest.sequence, first.manifest.sequence);
    repository.publish(lease, manifest_of(repository, second));
    EXPECT_EQ(attempt([&] { repository.publish(lease, manifest_of(repository, first)); }), kRefused);
}

// However a manifest is dated, and however often an attempt is cut off: the receipt says when it came.
TEST_F(AppendOnlyTest, TheReceiptIsOfTheServersClock) {
    Repository repository = open(client_);
    const Lease lease = lock(client_);
    SessionRecord session = new_session(repository, lease);
    session.manifest.utc_seconds = 4'000'000'000;
    repository.begin_session(lease, session);
    const Manifest manifest = manifest_of(repository, session);
    host_->fail(StrictTarget::Op::kCreate, 1, EIO);
    EXPECT_EQ(attempt([&] { repository.publish(lease, manifest); }), ExitStatus::kFailed);
    ASSERT_TRUE(host_->contains(layout::receipt(session.manifest)));
    now_ns_ += 5'000'000'000;
    repository.publish(lease, manifest);
    const auto receipts = Receipts::load(*host_, uuid(), [](const std::string& what) { ADD_FAILURE() << what; });
    ASSERT_NE(receipts.find(manifest.name), nullptr);
    EXPECT_EQ(receipts.find(manifest.name)->received_ns, now_ns_);
}

TEST_F(AppendOnlyTest, TheRepositoryIsBoundToANodeOnce) {
    Repository repository = open(client_);
    const Lease lease = lock(client_);
    NodeIdentity node = repository.info().node;
    node.uuid = Uuid::random();
    node.path = "/data";
    repository.set_node(lease, node);
    EXPECT_EQ(open(host_).info().node, node);
    EXPECT_EQ(load_description_copy(*host_, layout::kRepository).description,
              load_description_copy(*host_, layout::kRepositoryCopy).description);
    NodeIdentity other = node;
    other.path = "/elsewhere";
    EXPECT_EQ(attempt([&] { repository.set_node(lease, other); }), kRefused);
    // Nor is anything else of it changed: that it keeps receipts least of all.
    for (const std::string_view copy : {layout::kRepository, layout::kRepositoryCopy}) {
        const StoredDescription stored = load_description_copy(*host_, copy);
        Description without = *stored.description;
        without.ro_compat = 0;
        without.revision += 1;
        EXPECT_EQ(attempt([&] { client_->swap(copy, stored.version, encode_description(without)); }), kRefused);
    }
    EXPECT_TRUE(open(host_).keeps_receipts());
}

TEST_F(AppendOnlyTest, ANewRepositoryCanBeMade) {
    const auto empty = StrictTarget::make();
    begin_append_only(empty);
    AppendOnlyOptions options;
    options.stored_ns = [](std::string_view) { return std::nullopt; };
    const auto client = make_append_only_target(empty, options);
    Repository::create(*client, "node1");
    EXPECT_FALSE(open(empty).keeps_receipts());
    begin_append_only(empty);  // the next connection
    EXPECT_TRUE(open(empty).keeps_receipts());
    EXPECT_EQ(attempt([&] { Repository::create(*client, "node2"); }), kRefused);
}

// Where something failed, a client clears up, but for the packs, which prune finds.
TEST_F(AppendOnlyTest, AFailedBackupIsClearedUpWithoutItsPacks) {
    Repository repository = open(client_);
    SessionRecord session;
    {
        const Lease lease = lock(client_);
        repository.refresh(lease);
        session = new_session(repository, lease);
        repository.begin_session(lease, session);
        store_pack(*client_, session.id, 0);
        repository.store_draft(lease, manifest_of(repository, session));
        store(*client_, layout::pack_log(PackId::of(session.id, 0)), PackId::of(session.id, 0).hex() + "-log", Bytes(4096));
    }
    const Lease lease = lock(client_);
    EXPECT_EQ(repository.clear_sessions(lease, [](const SessionRecord&) { return SnapshotRemains::kNone; }), 1U);
    EXPECT_EQ(refusals_, std::vector<std::string>{});
    EXPECT_TRUE(host_->contains(pack_name(session.id, 0)));
    std::vector<std::string> left;
    host_->list(layout::kJournal, [&](const ObjectEntry& entry) { left.push_back(entry.name); });
    EXPECT_EQ(left, std::vector<std::string>{});
}

// On the host too: who wrote the session object may have meant another backup's packs.
TEST_F(AppendOnlyTest, TheHostRemovesNoPacksForASession) {
    const Manifest made = back_up();
    host_->erase(layout::manifest(made.name));
    Repository repository = open(host_);
    const Lease lease = lock(host_);
    SessionRecord session = new_session(repository, lease);
    session.id = made.id;
    session.epoch = lease.epoch() - 1;
    host_->create(layout::session(session.id), encode_session(uuid(), session));
    EXPECT_EQ(repository.clear_sessions(lease, [](const SessionRecord&) { return SnapshotRemains::kNone; }), 1U);
    EXPECT_TRUE(host_->contains(pack_name(made.id, 0)));
}

TEST_F(AppendOnlyTest, TheInventoryBeginsEmpty) {
    const Lease lease = lock(client_);
    Inventory lies;
    lies.packs = {{PackId::of(SessionId::random(), 0), 4096, 0}};
    EXPECT_EQ(attempt([&] { client_->swap(layout::kInventory, {}, encode_inventory(uuid(), lies)); }), kRefused);
    Inventory late;
    late.sequence = 1;
    EXPECT_EQ(attempt([&] { client_->swap(layout::kInventory, {}, encode_inventory(uuid(), late)); }), kRefused);
    EXPECT_TRUE(client_->swap(layout::kInventory, {}, encode_inventory(uuid(), {})));
}

}  // namespace
}  // namespace nodesnap::test
