// What a host remembers having stored, and what it makes of the rest.
#include "snapshot/repository/made_objects.h"

#include <filesystem>
#include <fstream>

#include "snapshot/repository/pack_log.h"
#include "tests/snapshot/append_only_fixture.h"
#include "tests/support/loop_mount.h"

namespace nodesnap::test {
namespace {

class MadeObjectsTest : public AppendOnlyTest {
protected:
    Repository remembering() { return open_remembering(client_, state_.path(), {}); }
    BackupEntry entry_of(const Manifest& manifest) const { return {manifest.name, layout::manifest(manifest.name), manifest, ""}; }
    // A backup of this host.
    Manifest back_up_here() {
        Repository repository = remembering();
        Lease lease = Lease::acquire(repository.target(), repository.info().uuid, {"test"});
        SessionRecord session = new_session(repository, lease);
        repository.begin_session(lease, session);
        store_pack(repository.target(), session.id, 0);
        const Manifest manifest = manifest_of(repository, session);
        repository.publish(lease, manifest);
        repository.end_session(session.id);
        return manifest;
    }

    ScratchDirectory state_;
};

TEST_F(MadeObjectsTest, OnlyWhatThisHostHasMadeIsKnown) {
    const Manifest made = back_up_here();
    const Manifest lie = back_up();
    const Repository repository = remembering();
    EXPECT_TRUE(repository.made_here(entry_of(made)));
    EXPECT_FALSE(repository.made_here(entry_of(lie)));
    // With other content under the same name.
    host_->poke(layout::manifest(made.name), host_->peek(layout::manifest(lie.name)));
    EXPECT_FALSE(repository.made_here(entry_of(made)));
    // What the repository's host makes of it is its own.
    BackupEntry merged = entry_of(made);
    merged.name.revision = 1;
    EXPECT_TRUE(repository.made_here(merged));
    std::filesystem::remove_all(state_.path());
    EXPECT_FALSE(remembering().made_here(entry_of(made)));
    EXPECT_TRUE(open(client_).made_here(entry_of(lie))) << "where nobody asks for it";
}

// Whoever has the key can put other logs and another draft in the place of this host's.
TEST_F(MadeObjectsTest, ForeignLogsAndDraftsAreNotThere) {
    Repository repository = remembering();
    const Lease lease = Lease::acquire(repository.target(), repository.info().uuid, {"test"});
    SessionRecord session = new_session(repository, lease);
    repository.begin_session(lease, session);
    const PackId pack = PackId::of(session.id, 0);
    store_pack(repository.target(), session.id, 0);
    repository.store_draft(lease, manifest_of(repository, session));
    store(repository.target(), layout::pack_log(pack), pack.hex() + "-log", Bytes(8192, std::byte{1}));
    EXPECT_TRUE(repository.made_here(session));
    EXPECT_TRUE(repository.load_draft(session.id));
    EXPECT_TRUE(repository.target().load(layout::pack_log(pack), kPackLogLimit));

    client_->remove(layout::pack_log(pack));
    store(*client_, layout::pack_log(pack), pack.hex() + "-log", Bytes(8192, std::byte{2}));
    EXPECT_FALSE(repository.target().load(layout::pack_log(pack), kPackLogLimit));
    Manifest lie = manifest_of(repository, session);
    lie.parent = SessionId::random();
    const auto draft = client_->load(layout::draft(session.id), kManifestObjectLimit);
    ASSERT_TRUE(client_->swap(layout::draft(session.id), draft->version, encode_manifest(uuid(), lie)));
    EXPECT_FALSE(repository.load_draft(session.id));

    // That the host has suspended it is no lie; that it is to use the change list may be.
    SessionRecord changed = session;
    changed.suspended = true;
    EXPECT_TRUE(repository.made_here(changed));
    changed.mode = DrainMode::kChanges;
    EXPECT_FALSE(repository.made_here(changed));
    // A mark says nothing but that there is no log.
    client_->remove(layout::pack_log(pack));
    ASSERT_TRUE(client_->create(layout::pack_log(pack), encode_pack_log_mark(uuid(), pack)));
    EXPECT_TRUE(repository.target().load(layout::pack_log(pack), kPackLogLimit));
}

TEST_F(MadeObjectsTest, TheFileHoldsNoMoreThanIsNeeded) {
    for (int i = 0; i < 3; ++i) {
        back_up_here();
    }
    const std::string path = state_ / ("made/" + uuid().text());
    std::ifstream file(path);
    std::string line;
    std::size_t lines = 0;
    while (std::getline(file, line)) {
        EXPECT_NE(line.find(" backups/"), std::string::npos) << line;
        ++lines;
    }
    EXPECT_EQ(lines, 3U);
    // What a power cut has left of a line spoils no other.
    std::ofstream(path, std::ios::app) << "0123456789abcdef";
    const Manifest last = back_up_here();
    EXPECT_TRUE(remembering().made_here(entry_of(last)));
}

}  // namespace
}  // namespace nodesnap::test
