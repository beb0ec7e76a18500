// The subcommands, one after the other, on a real directory.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <functional>

#include "io/target/directory.h"
#include "platform/clock.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/repository_access.h"
#include "tests/command/program_fixture.h"
#include "tests/snapshot/made_repository.h"

namespace nodesnap {
namespace {

using test::Outcome;

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

class Program : public test::ProgramTest {};

TEST_F(Program, ABackupOfNothingIsRefusedOrTold) {
    init();
    for (const std::vector<std::string>& patterns :
         {std::vector<std::string>{"--exclude=**"}, {"--exclude=*"}, {"--exclude=/data", "--exclude=conf"}}) {
        Outcome outcome = backup(patterns);
        EXPECT_EQ(outcome.status, 3) << outcome.err;
        EXPECT_TRUE(has(outcome.err, "leave nothing of the node directory")) << outcome.err;
        std::vector<std::string> dry = patterns;
        dry.push_back("--dry-run");
        EXPECT_EQ(backup(dry).status, 3);
    }
    EXPECT_EQ(run({"list", repository(), "--json"}).json()["backups"].size(), 0U);
    Outcome outcome = backup({"--exclude=/data/*", "--exclude=conf"});
    EXPECT_EQ(outcome.status, 4);
    EXPECT_TRUE(has(outcome.err, "holds no files")) << outcome.err;
    EXPECT_EQ(backup({"--exclude=/data/*"}).status, 0);
    // What is empty may be backed up as that.
    std::filesystem::remove_all(scratch_ / "node/data");
    std::filesystem::remove_all(scratch_ / "node/conf");
    EXPECT_EQ(backup().status, 0);
}

TEST_F(Program, BackupListShowRestore) {
    ASSERT_EQ(init().status, 0);
    const Outcome made = backup({"--tag", "first", "--json"});
    ASSERT_EQ(made.status, 0) << made.err;
    const std::string id = made.json()["backup"]["id"];
    EXPECT_EQ(made.json()["backup"]["files"], 3);
    EXPECT_EQ(made.json()["warning_count"], 0);

    const auto list = run({"list", repository(), "--json"}).json();
    ASSERT_EQ(list["backups"].size(), 1U);
    EXPECT_EQ(list["backups"][0]["id"], id);
    EXPECT_TRUE(has(run({"list", repository()}).out, id.substr(0, 12)));
    EXPECT_EQ(run({"list", repository(), "--tag", "second"}).out, "no backups\n");

    const auto show = run({"show", repository(), id.substr(0, 6), "--files", "--json"}).json();
    EXPECT_EQ(show["backup"]["id"], id);
    ASSERT_EQ(show["files"].size(), 5U);
    EXPECT_EQ(show["files"][0]["path"], ".");
    EXPECT_EQ(show["files"][0]["type"], "directory");

    const std::string destination = scratch_ / "restored";
    const Outcome restored = run({"restore", repository(), "latest", destination, "--json"});
    ASSERT_EQ(restored.status, 0) << restored.err;
    EXPECT_EQ(restored.json()["files"], 3);
    EXPECT_EQ(std::filesystem::file_size(destination + "/data/000001.sst"), 300'000U);
    EXPECT_EQ(run({"restore", repository(), "latest", destination}).status, 3);
}

TEST_F(Program, ASummaryForPeopleUnlessQuiet) {
    init();
    EXPECT_TRUE(has(backup().out, "is made\n"));
    EXPECT_EQ(backup({"--quiet"}).out, "");
}

TEST_F(Program, TimesPickBackups) {
    init();
    backup();
    EXPECT_EQ(run({"show", repository(), "--as-of", "2001-01-01"}).status, 3);
    EXPECT_EQ(run({"show", repository(), "--as-of", "now"}).status, 0);
    EXPECT_EQ(run({"verify", repository(), "--as-of", "now"}).status, 0);
    EXPECT_EQ(run({"show", repository(), "--as-of", "now", "data"}).status, 0);
}

TEST_F(Program, ShowOfWhatIsNotThereIsRefused) {
    init();
    backup();
    const Outcome outcome = run({"show", repository(), "latest", "nothing", "--json"});
    EXPECT_EQ(outcome.status, 3);
    const auto document = outcome.json();
    EXPECT_EQ(document["files"], nlohmann::json::array());
    EXPECT_TRUE(has(document["error"]["message"], "nothing"));
}

TEST_F(Program, NamesOfAnyBytesAreShownSafely) {
    init();
    write("node/bad\xff\x1b[2Jname", "x");
    write("node/line\nbreak", "x");
    backup();
    const Outcome text = run({"show", repository(), "latest", "."});
    EXPECT_EQ(text.out.find('\x1b'), std::string::npos);
    EXPECT_TRUE(has(text.out, "bad\\xff\\x1b[2Jname\n")) << text.out;
    EXPECT_TRUE(has(text.out, "line\\x0abreak\n")) << text.out;
    const auto document = run({"show", repository(), "latest", "bad\xff\x1b[2Jname", "--json"}).json();
    EXPECT_EQ(document["files"][0]["path"], "bad\\xff\\x1b[2Jname");
    EXPECT_EQ(document["files"][0]["path_base64"], "YmFk/xtbMkpuYW1l");
    const auto plain = run({"show", repository(), "latest", "line\nbreak", "--json"}).json();
    EXPECT_EQ(plain["files"][0]["path"], "line\nbreak");
    EXPECT_FALSE(plain["files"][0].contains("path_base64"));
}

TEST_F(Program, FindTellsWhichBackupsHoldAPath) {
    init();
    backup();
    write("node/data/later", "12345");
    backup();
    EXPECT_EQ(run({"find", repository(), "data/CURRENT", "--json"}).json()["found"].size(), 2U);
    const auto found = run({"find", repository(), "data/later", "--json"}).json()["found"];
    ASSERT_EQ(found.size(), 1U);
    EXPECT_EQ(found[0]["size"], 5);
    EXPECT_EQ(run({"find", repository(), "*.sst", "--json"}).json()["found"].size(), 2U);
    EXPECT_EQ(run({"find", repository(), "later", "--json"}).json()["found"].size(), 1U);
    for (const std::string pattern : {"da*/c*", "data/nothing"}) {
        const Outcome outcome = run({"find", repository(), pattern});
        EXPECT_EQ(outcome.status, 0);
        EXPECT_EQ(outcome.out, "");
        EXPECT_TRUE(has(outcome.err, "no backup holds")) << outcome.err;
    }
}

TEST_F(Program, DumpRefusesATerminal) {
    init();
    backup();
    out_is_terminal_ = true;
    const Outcome outcome = run({"dump", repository(), "latest", "conf"});
    EXPECT_EQ(outcome.status, 3);
    EXPECT_TRUE(has(outcome.err, "--output -"));
}

TEST_F(Program, DumpWritesANewFileWholeOrNotAtAll) {
    init();
    backup();
    const std::string place = scratch_ / "dumped";
    ASSERT_EQ(run({"dump", repository(), "latest", "data/000001.sst", "--output", place}).status, 0);
    EXPECT_EQ(std::filesystem::file_size(place), 300'000U);
    EXPECT_EQ(run({"dump", repository(), "latest", "data/000001.sst", "--output", place}).status, 1);
    std::filesystem::remove(place);
    flip(objects("packs").at(0), 4096 + 200'000);
    EXPECT_EQ(run({"dump", repository(), "latest", "data/000001.sst", "--output", place}).status, 5);
    EXPECT_FALSE(std::filesystem::exists(place));
}

TEST_F(Program, APathThatABackupDoesNotHoldIsRefusedByAll) {
    init();
    backup();
    const std::string place = scratch_ / "nothing";
    EXPECT_EQ(run({"dump", repository(), "latest", "no/such", "--output", place}).status, 3);
    EXPECT_EQ(run({"restore", repository(), "latest", place, "--path", "no/such"}).status, 3);
    EXPECT_FALSE(std::filesystem::exists(place));
    EXPECT_EQ(run({"snapshot", "remove", scratch_ / "node", "none-of-this-name"}).status, 3);
    EXPECT_TRUE(has(run({"help", "dump"}).out, "3  refused: no such file"));
}

TEST_F(Program, StatusIsForMonitoring) {
    init();
    Outcome outcome = run({"status", repository(), "--json"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_TRUE(outcome.json()["last_good"].is_null());
    EXPECT_EQ(outcome.json()["error"]["exit_status"], 1);
    EXPECT_FALSE(outcome.json()["too_old"]);
    EXPECT_TRUE(run({"status", repository(), "--json", "--max-age", "26h"}).json()["too_old"]);
    backup();
    outcome = run({"status", repository(), "--max-age", "26h", "--json"});
    EXPECT_EQ(outcome.status, 0);
    EXPECT_FALSE(outcome.json()["too_old"]);
    EXPECT_TRUE(outcome.json()["lock"].is_null());
    outcome = run({"status", repository(), "--max-age", "0"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_TRUE(has(outcome.err, "old, more than"));
}

TEST_F(Program, StatusDoesNotTakeABackupFromTheFutureForAFreshOne) {
    init();
    Repository opened = Repository::open(open_directory_target(repository()), {});
    test::MadeBackup backup;
    backup.made_at(utc_now_ns() / 1'000'000'000 + 365 * 86400);
    backup.publish(opened);
    Outcome outcome = run({"status", repository(), "--max-age", "26h"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_TRUE(has(outcome.err, "dated in the future")) << outcome.err;
    outcome = run({"status", repository(), "--json"});
    EXPECT_EQ(outcome.status, 4);
    EXPECT_FALSE(outcome.json()["too_old"]);
}

TEST_F(Program, DamagedManifestsAreListedAsDamaged) {
    init();
    backup();
    backup();
    const std::string manifest = std::filesystem::path(objects("backups").at(0));
    std::filesystem::resize_file(manifest, 100);
    Outcome outcome = run({"list", repository()});
    EXPECT_EQ(outcome.status, 5);
    EXPECT_TRUE(has(outcome.out, "damaged")) << outcome.out;
    EXPECT_EQ(run({"list", repository(), "--json"}).json()["backups"].size(), 2U);
    EXPECT_EQ(run({"status", repository()}).status, 5);
    EXPECT_EQ(run({"find", repository(), "conf"}).status, 5);
    EXPECT_EQ(run({"verify", repository()}).status, 5);
    outcome = run({"repair", repository()});
    EXPECT_EQ(outcome.status, 5);
    EXPECT_TRUE(has(outcome.out, "--drop-lost")) << outcome.out;

    const std::string object = "backups/" + std::filesystem::path(manifest).filename().string();
    outcome = run({"repair", repository(), "--drop-lost", object});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_TRUE(has(outcome.out, "dropped: " + object)) << outcome.out;
    EXPECT_EQ(objects("lost").size(), 1U);
    for (const char* command : {"list", "status", "verify", "repair"}) {
        EXPECT_EQ(run({command, repository()}).status, 0) << command;
    }
    EXPECT_EQ(run({"list", repository(), "--json"}).json()["backups"].size(), 1U);
    EXPECT_EQ(run({"repair", repository(), "--drop-lost", object, "--json"}).status, 3);
    EXPECT_EQ(backup().status, 0);
}

TEST_F(Program, LatestSaysThatANewerManifestCannotBeRead) {
    init();
    backup();
    const std::string older = run({"list", repository(), "--json"}).json()["backups"][0]["id"];
    backup();
    auto manifests = objects("backups");
    std::sort(manifests.begin(), manifests.end());
    std::filesystem::resize_file(manifests.back(), 100);
    const std::string object = "backups/" + std::filesystem::path(manifests.back()).filename().string();
    for (const Outcome& outcome :
         {run({"show", repository(), "latest"}), run({"dump", repository(), "latest", "conf"}),
          run({"show", repository(), "--as-of", "now"}), run({"restore", repository(), "latest", scratch_ / "restored", "--quiet"})}) {
        EXPECT_EQ(outcome.status, 4) << outcome.err;
        EXPECT_TRUE(has(outcome.err, object + ": this backup's manifest can't be read")) << outcome.err;
        EXPECT_TRUE(has(outcome.err, "nodesnap repair")) << outcome.err;
        EXPECT_TRUE(has(outcome.err, "backup " + older)) << outcome.err;
    }
    EXPECT_EQ(run({"show", repository(), "latest", "--json"}).json()["warning_count"], 2);
    EXPECT_EQ(run({"show", repository(), older}).status, 0);
    EXPECT_TRUE(has(run({"list", repository()}).err, object + ": "));
    EXPECT_TRUE(has(run({"status", repository()}).err, object + ": "));
    EXPECT_EQ(run({"verify", repository(), "latest"}).status, 5);
    EXPECT_EQ(run({"verify", repository(), older}).status, 0);
}

TEST_F(Program, TheMarkOfAnAbandonedBackupIsNoneThatWasPassedOver) {
    init();
    backup();
    const auto target = open_directory_target(repository());
    const Uuid uuid = Repository::open(target, {}).info().uuid;
    target->create(layout::manifest({99, 4'000'000'000, 0}), encode_void_manifest(uuid, SessionId::random(), 0));
    for (const std::vector<std::string>& arguments :
         {std::vector<std::string>{"show", repository(), "latest"}, {"list", repository()}, {"status", repository()}}) {
        const Outcome outcome = run(arguments);
        EXPECT_EQ(outcome.status, 0);
        EXPECT_EQ(outcome.err, "");
    }
}

TEST_F(Program, WhatAnotherCopyHealsIsAWarningUntilItIsRepaired) {
    init();
    backup();
    flip(objects("backups").at(0), 200);
    EXPECT_EQ(run({"show", repository(), "latest"}).status, 4);
    const Outcome list = run({"list", repository(), "--json"});
    EXPECT_EQ(list.status, 4);
    EXPECT_EQ(list.json()["warning_count"], 1);
    const auto verified = run({"verify", repository(), "--json"});
    EXPECT_EQ(verified.status, 5);
    EXPECT_EQ(verified.json()["lost_count"], 0);
    EXPECT_EQ(verified.json()["damages"][0]["healed"], true);
    const Outcome repaired = run({"repair", repository(), "--json"});
    EXPECT_EQ(repaired.status, 0) << repaired.err;
    EXPECT_EQ(repaired.json()["repaired_count"], 1);
    EXPECT_EQ(run({"list", repository()}).status, 0);
    EXPECT_EQ(run({"verify", repository(), "--data"}).status, 0);
}

TEST_F(Program, RepairClearsWhatAnInterruptedOneLeft) {
    init();
    backup();
    const std::string pack = objects("packs").at(0);
    flip(pack, -4000);
    const std::string id = std::filesystem::path(pack).filename().string().substr(0, 32);
    std::filesystem::create_directories(repository() + "/journal");
    write("repository/journal/" + id + ".part", "the beginning of a pack");
    const Outcome outcome = run({"repair", repository()});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_TRUE(objects("journal").empty());
    EXPECT_EQ(run({"verify", repository(), "--data"}).status, 0);
}

TEST_F(Program, DamagedDataIsNamed) {
    init();
    backup();
    flip(objects("packs").at(0), 4096 + 100'000);
    EXPECT_EQ(run({"verify", repository()}).status, 0);
    const Outcome outcome = run({"verify", repository(), "--data"});
    EXPECT_EQ(outcome.status, 5);
    EXPECT_TRUE(has(outcome.out, "DAMAGED: packs/")) << outcome.out;
    EXPECT_TRUE(has(outcome.out, "data/000001.sst, bytes 65536 to 131071")) << outcome.out;
}

TEST_F(Program, AHeldLockIsNamed) {
    init();
    backup();
    const Repository repository_object = Repository::open(open_directory_target(repository()), [](const Damage&) {});
    LeaseOptions options;
    options.command = "backup";
    Lease lease = Lease::acquire(repository_object.target(), repository_object.info().uuid, options);
    for (const auto& arguments : {std::vector<std::string>{"repair", repository()}, {"repair", repository(), "--wait-lock", "1s"}}) {
        const Outcome outcome = run(arguments);
        EXPECT_EQ(outcome.status, 6);
        EXPECT_TRUE(has(outcome.err, std::to_string(getpid()))) << outcome.err;
    }
    EXPECT_EQ(backup().status, 6);
    EXPECT_EQ(run({"unlock", repository()}).status, 3);
    EXPECT_EQ(run({"status", repository(), "--json"}).json()["lock"]["pid"], getpid());
    EXPECT_EQ(run({"verify", repository(), "--data"}).status, 0);
    EXPECT_EQ(run({"restore", repository(), "latest", scratch_ / "restored"}).status, 0);
    lease.release();
    EXPECT_EQ(run({"unlock", repository()}).out, "the repository isn't locked\n");
}

// One flipped bit, a longer file than a lock can be, and something that isn't a file.
TEST_F(Program, ALockThatCannotBeReadIsRemovedByUnlock) {
    init();
    backup();
    const std::string lock = repository() + "/locks/exclusive";
    const std::vector<std::function<void()>> damages = {[&] { flip(lock, 300); }, [&] { std::filesystem::resize_file(lock, 70'000); },
                                                        [&] {
                                                            std::filesystem::remove(lock);
                                                            std::filesystem::create_symlink("elsewhere", lock);
                                                        }};
    std::uint64_t made = 1;
    for (const auto& damage : damages) {
        damage();
        for (const auto& outcome : {backup(), run({"repair", repository()})}) {
            EXPECT_EQ(outcome.status, 5) << outcome.err;
            EXPECT_TRUE(has(outcome.err, "locks/exclusive")) << outcome.err;
            EXPECT_TRUE(has(outcome.err, "nodesnap unlock " + repository())) << outcome.err;
        }
        const auto status = run({"status", repository(), "--json"}).json();
        EXPECT_EQ(status["lock"]["state"], "unreadable");
        EXPECT_TRUE(has(status["lock"]["damage"], "locks/exclusive"));
        EXPECT_TRUE(has(run({"status", repository()}).out, "nodesnap help unlock"));
        const Outcome outcome = run({"unlock", repository()});
        EXPECT_EQ(outcome.status, 0) << outcome.err;
        EXPECT_TRUE(has(outcome.out, "removed the lock; whose it was can't be told")) << outcome.out;
        EXPECT_TRUE(has(outcome.out, "locks/exclusive")) << outcome.out;
        EXPECT_EQ(run({"unlock", repository()}).out, "the repository isn't locked\n");
        EXPECT_EQ(backup().status, 0);
        EXPECT_EQ(run({"list", repository(), "--json"}).json()["backups"].size(), ++made);
    }
}

TEST_F(Program, AHolderWhoseUnreadableLockWasRemovedLosesIt) {
    init();
    const Repository repository_object = Repository::open(open_directory_target(repository()), [](const Damage&) {});
    const Lease lease = Lease::acquire(repository_object.target(), repository_object.info().uuid, {"backup"});
    flip(repository() + "/locks/exclusive", 300);
    EXPECT_EQ(run({"unlock", repository()}).status, 0);
    EXPECT_THROW(lease.check(), Error);
    EXPECT_EQ(backup().status, 0);
    EXPECT_THROW(lease.check(), Error);
}

TEST_F(Program, RepairGivesDeadBackupsUpFirst) {
    init();
    backup();
    Repository repository_object = Repository::open(open_directory_target(repository()), [](const Damage&) {});
    SessionRecord session;
    session.id = SessionId::random();
    session.epoch = 1;
    session.host = "another";
    session.snapshot_backend = "none";
    {
        const Lease lease = Lease::acquire(repository_object.target(), repository_object.info().uuid, {"backup"});
        session.manifest = {repository_object.next_sequence(), 1'700'000'000, 0};
        repository_object.begin_session(lease, session);
    }
    EXPECT_EQ(run({"repair", repository()}).status, 0);
    EXPECT_TRUE(repository_object.sessions().empty());
    EXPECT_TRUE(std::filesystem::exists(repository() + "/" + layout::manifest(session.manifest))) << "it could still publish";
    EXPECT_EQ(run({"list", repository(), "--json"}).json()["backups"].size(), 1U);
}

TEST_F(Program, ADamagedSessionIsToldAndLeftAlone) {
    init();
    const std::string session = repository() + "/journal/0102030405060708090a0b.session";
    std::filesystem::create_directory(repository() + "/journal");
    std::ofstream(session) << "{}";
    const Outcome outcome = backup();
    EXPECT_EQ(outcome.status, 4);
    EXPECT_TRUE(has(outcome.err, "journal/0102030405060708090a0b.session: ")) << outcome.err;
    EXPECT_TRUE(std::filesystem::exists(session));
}

TEST_F(Program, WhatIsNoManifestHidesNoBackup) {
    init();
    backup();
    const std::string folder = repository() + "/backups/";
    for (const std::string name : {"notes.txt", "0000000001", "99999999999-20240101T000000Z.0", "0000000003-20241301T000000Z.0",
                                   "0000000003-20240101T000000Z.4294967296", "0000000003-20240101T000000Z.", "-.", "\xff\n"}) {
        std::ofstream(folder + name) << "x";
    }
    std::filesystem::create_directory(folder + "0000000004-20240101T000000Z.0");
    EXPECT_EQ(run({"list", repository(), "--json"}).json()["backups"].size(), 1U);
    EXPECT_EQ(run({"status", repository(), "--json"}).json()["damaged"], 0);
    // With the name of one, but nothing that can be one.
    std::filesystem::create_symlink("elsewhere", folder + "0000000005-20240101T000000Z.0");
    ASSERT_EQ(::mkfifo((folder + "0000000006-20240101T000000Z.0").c_str(), 0600), 0);
    std::ofstream(folder + "0000000007-20240101T000000Z.0");
    const auto listed = run({"list", repository(), "--json"}).json()["backups"];
    ASSERT_EQ(listed.size(), 4U);
    EXPECT_EQ(listed[0]["state"], "good");
    for (std::size_t i = 1; i < listed.size(); ++i) {
        EXPECT_EQ(listed[i]["state"], "damaged");
    }
    const Outcome shown = run({"show", repository(), "latest", "--json"});
    EXPECT_TRUE(shown.status == 0 || shown.status == 4) << shown.err;
    EXPECT_EQ(shown.json()["backup"]["sequence"], 1);
    std::ofstream(folder + "9999999999-20240101T000000Z.0") << "x";
    const Outcome last = backup();
    EXPECT_EQ(last.status, 1);
    EXPECT_TRUE(has(last.err, "move the object of that number away")) << last.err;
    std::filesystem::remove(folder + "9999999999-20240101T000000Z.0");
    // It looks for the last backup, and says what it had to pass over.
    EXPECT_EQ(backup().status, 4);
    EXPECT_EQ(run({"show", repository(), "latest"}).status, 0);
}

TEST_F(Program, InterruptedCommandsSayThat) {
    init();
    backup();
    interrupt::request();
    for (const auto& outcome :
         {backup(), run({"verify", repository(), "--data"}), run({"restore", repository(), "latest", scratch_ / "r"})}) {
        EXPECT_EQ(outcome.status, 1);
        EXPECT_TRUE(has(outcome.err, "interrupted")) << outcome.err;
    }
    interrupt::clear();
    EXPECT_EQ(run({"list", repository(), "--json"}).json()["backups"].size(), 1U);
    EXPECT_EQ(backup().status, 0);
}

TEST_F(Program, InitRefusesWhatIsNotEmpty) {
    EXPECT_EQ(run({"init", scratch_ / "node", "--node", "n"}).status, 3);
    EXPECT_EQ(init().status, 0);
    for (int i = 0; i < 2; ++i) {
        const Outcome again = init();
        EXPECT_EQ(again.status, 3);
        EXPECT_TRUE(has(again.err, "is a repository already")) << again.err;
        EXPECT_EQ(backup().status, 0);  // then other objects are listed first
    }
    EXPECT_EQ(run({"init", scratch_ / "no/such/parent", "--node", "n"}).status, 3);
}

TEST_F(Program, SnapshotsOnStorageWithoutThemAreRefused) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    const test::LoopMount mount("ext4", std::uint64_t{64} << 20);
    std::filesystem::create_directory(mount / "node");
    for (const std::vector<std::string>& arguments :
         {std::vector<std::string>{"create", mount / "node", "one"}, {"list", mount / "node"}, {"remove", mount / "node", "one"}}) {
        std::vector<std::string> command = arguments;
        command.insert(command.begin(), "snapshot");
        const Outcome outcome = run(command);
        EXPECT_EQ(outcome.status, 3) << arguments[0];
        EXPECT_TRUE(has(outcome.err, "is on ext4, which has no snapshots")) << outcome.err;
        EXPECT_EQ(outcome.out, "");
    }
}

TEST_F(Program, InitRefusesAReadOnlyPlace) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    test::LoopMount mount("ext4");
    std::filesystem::create_directory(mount / "empty");
    mount.remount("ro");
    for (const std::string name : {"empty", "new"}) {
        const Outcome outcome = run({"init", mount / name, "--node", "n"});
        EXPECT_EQ(outcome.status, 3) << outcome.err;
        EXPECT_TRUE(has(outcome.err, "remount it read-write")) << outcome.err;
    }
}

TEST_F(Program, SnapshotsOfOneSecondGetNamesOfTheirOwn) {
    NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
    const test::LoopMount mount("btrfs");
    std::filesystem::create_directory(mount / "node");
    constexpr std::size_t kMany = 6;  // in less time than so many seconds
    for (std::size_t i = 0; i < kMany; ++i) {
        const Outcome outcome = run({"snapshot", "create", mount / "node"});
        EXPECT_EQ(outcome.status, 0) << outcome.err;
    }
    EXPECT_EQ(run({"snapshot", "list", mount / "node", "--json"}).json()["snapshots"].size(), kMany);
    EXPECT_EQ(run({"snapshot", "remove", mount / "node", "none-of-this-name"}).status, 3);
    const auto snapshots = run({"snapshot", "list", mount / "node", "--json"}).json()["snapshots"];
    for (const auto& entry : snapshots) {
        EXPECT_EQ(run({"snapshot", "remove", mount / "node", entry["name"]}).status, 0);
    }
}

TEST_F(Program, PatternsFromAFileMayHaveBlanksBehindThem) {
    init();
    write("node/odd ", "x");
    write("node/data/b.tmp", "x");
    write("patterns", "# a comment\n*.tmp  \r\n\nodd\\ \n");
    const auto document = backup({"--exclude-from", scratch_ / "patterns", "--json"}).json();
    EXPECT_EQ(document["backup"]["files"], 3);
    EXPECT_EQ(document["backup"]["excludes"], nlohmann::json({"*.tmp", "odd\\ "}));
    write("patterns", std::string(1U << 20, '#') + "\n*.tmp\n");
    EXPECT_EQ(backup({"--exclude-from", scratch_ / "patterns"}).status, 2) << "no pattern may be cut off";
}

TEST_F(Program, ARestoreOfSomeNamesCountsInodesOnce) {
    std::filesystem::create_hard_link(scratch_ / "node/conf", scratch_ / "node/data/linked");
    init();
    backup();
    const auto plan =
        run({"restore", repository(), "latest", scratch_ / "to", "--path", "conf", "--path", "data/linked", "--dry-run", "--json"});
    EXPECT_EQ(plan.json()["files"], 1) << plan.out;
    EXPECT_EQ(plan.json()["others"], 0) << plan.out;
}

TEST_F(Program, ATagCountsOnce) {
    init();
    EXPECT_EQ(backup({"--tag", "a", "--tag", "b", "--tag", "a", "--json"}).json()["backup"]["tags"], nlohmann::json({"a", "b"}));
    const Outcome outcome = backup({"--tag", std::string(5000, 'x')});
    EXPECT_EQ(outcome.status, 2);
    EXPECT_LT(outcome.err.size(), 400U) << "a text that is too long isn't repeated whole";
}

TEST_F(Program, TheColumnsOfListStandBelowEachOther) {
    ASSERT_EQ(run({"init", repository(), "--node", "größe-日本"}).status, 0);
    backup();
    backup();
    std::filesystem::resize_file(objects("backups").at(0), 100);
    std::istringstream lines(run({"list", repository()}).out);
    std::string header;
    std::getline(lines, header);
    int rows = 0;
    for (std::string line; std::getline(lines, line); ++rows) {
        const auto good = line.rfind(has(line, "damaged") ? "damaged" : "good");
        EXPECT_EQ(command::columns_of(line.substr(0, good)), header.find("STATE")) << line;
        EXPECT_LT(line.size(), 120U) << "what is damaged is no tag: " << line;
    }
    EXPECT_EQ(rows, 2);
}

}  // namespace
}  // namespace nodesnap
