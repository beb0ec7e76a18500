// nodesnap diff: what it prints, and what it finds between backups of a real tree.
#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/command/program_fixture.h"

namespace nodesnap {
namespace {

namespace fs = std::filesystem;
using test::Outcome;

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

class DiffProgram : public test::ProgramTest {
protected:
    std::string id(std::size_t number) { return run({"list", repository(), "--json"}).json()["backups"][number]["id"]; }
    Outcome diff(std::vector<std::string> more = {}) {
        std::vector<std::string> arguments = {"diff", repository(), id(0), "latest", "--scratch-dir=" + scratch_.path()};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return run(arguments);
    }
};

TEST_F(DiffProgram, PrintsALineForEachPathAndTheTotals) {
    init();
    backup();
    write("node/conf", "size = 2\nmore\n");
    write("node/data/000002.sst", std::string(5000, 't'));
    fs::rename(scratch_ / "node/data/000001.sst", scratch_ / "node/data/renamed.sst");
    fs::remove(scratch_ / "node/data/CURRENT");
    backup();
    const Outcome outcome = diff();
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_TRUE(
        outcome.out.starts_with("M  conf  14 B of 14 B, was 9 B\n"
                                "+  data/000002.sst  4.9 KiB\n"
                                "-  data/CURRENT  16 B\n"
                                "R  data/000001.sst -> data/renamed.sst\n"))
        << outcome.out;
    EXPECT_TRUE(has(outcome.out,
                    " UTC): 1 added (4.9 KiB), 1 removed (16 B), 1 changed, 1 renamed, 0 with other attributes only; "
                    "14 B changed in files\n"))
        << outcome.out;
    const Outcome summary = diff({"--summary"});
    EXPECT_TRUE(outcome.out.ends_with(summary.out)) << summary.out;
    EXPECT_EQ(std::count(summary.out.begin(), summary.out.end(), '\n'), 1);
    EXPECT_TRUE(has(diff({"--all"}).out, "a  data/  times")) << diff({"--all"}).out;
}

TEST_F(DiffProgram, ShowTellsWhatChangedSinceTheBackupThatItIsBuiltOn) {
    init();
    backup();
    write("node/conf", "size = 2\nmore\n");
    write("node/data/000002.sst", std::string(5000, 't'));
    backup();
    const auto show = [&](const std::string& which, std::vector<std::string> more = {}) {
        std::vector<std::string> arguments = {"show", repository(), which, "--changes", "--scratch-dir=" + scratch_.path()};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return run(arguments);
    };
    const Outcome changes = show("latest");
    EXPECT_EQ(changes.status, 0) << changes.err;
    EXPECT_TRUE(changes.out.starts_with("backup:         " + id(1))) << changes.out;
    EXPECT_TRUE(changes.out.ends_with(diff().out)) << changes.out;
    EXPECT_TRUE(show("latest", {"--summary"}).out.ends_with(diff({"--summary"}).out));
    EXPECT_FALSE(has(show("latest", {"--summary"}).out, "M  conf"));
    const auto document = show("latest", {"--json"}).json();
    EXPECT_EQ(document["backup"]["id"], id(1));
    EXPECT_EQ(document["changes"].size(), 2U);
    EXPECT_EQ(document["summary"], diff({"--json"}).json()["summary"]);
    EXPECT_EQ(show("latest", {"conf"}).status, 2);
    EXPECT_EQ(run({"show", repository(), "latest", "--summary"}).status, 2);
    const Outcome first = show(id(0));
    EXPECT_EQ(first.status, 3);
    EXPECT_TRUE(has(first.err, "is built on no other")) << first.err;
    const std::string parent = id(0);
    EXPECT_EQ(run({"forget", repository(), parent, "--allow-mass-expire"}).status, 0);
    const Outcome forgotten = show("latest");
    EXPECT_EQ(forgotten.status, 3);
    EXPECT_TRUE(has(forgotten.err, "backup " + parent.substr(0, 12) + ", which it is built on, was forgotten")) << forgotten.err;
    EXPECT_FALSE(has(forgotten.err, "can't be read")) << forgotten.err;
}

TEST_F(DiffProgram, AParentThatCantBeReadMayBeTheOneThatIsntThere) {
    init();
    backup();
    const std::string first = objects("backups").at(0);
    backup();
    fs::resize_file(first, 100);
    const Outcome outcome = run({"show", repository(), "latest", "--changes"});
    EXPECT_EQ(outcome.status, 3);
    EXPECT_TRUE(has(outcome.err, "or is the one that can't be read: backups/")) << outcome.err;
}

TEST_F(DiffProgram, ABackupDoesNotDifferFromItself) {
    init();
    backup();
    Outcome outcome = diff();
    EXPECT_EQ(outcome.status, 0);
    EXPECT_TRUE(outcome.out.ends_with(": no differences\n")) << outcome.out;
    outcome = diff({"--json"});
    EXPECT_EQ(outcome.json()["changes"], nlohmann::json::array());
    EXPECT_FALSE(diff({"--json", "--summary"}).json().contains("changes"));
}

TEST_F(DiffProgram, PrintsADocument) {
    init();
    backup();
    write("node/conf", "size = 2\n");
    fs::rename(scratch_ / "node/data/CURRENT", scratch_ / "node/data/odd\xff");
    fs::permissions(scratch_ / "node/data/000001.sst", fs::perms::owner_read);
    backup();
    const auto document = diff({"--json"}).json();
    const auto& changes = document["changes"];
    ASSERT_EQ(changes.size(), 3U);
    EXPECT_EQ(changes[0]["change"], "content");
    EXPECT_EQ(changes[0]["path"], "conf");
    EXPECT_EQ(changes[0]["changed_bytes"], 9);
    EXPECT_EQ(changes[0]["before"]["size"], 9);
    EXPECT_EQ(changes[0]["before"]["inode"], changes[0]["after"]["inode"]);
    EXPECT_EQ(changes[1]["change"], "attributes");
    EXPECT_EQ(changes[1]["attributes"], nlohmann::json::array({"mode"}));
    EXPECT_EQ(changes[1]["after"]["mode"], "-r--------");
    EXPECT_EQ(changes[2]["change"], "renamed");
    EXPECT_EQ(changes[2]["old_path"], "data/CURRENT");
    EXPECT_EQ(changes[2]["before"]["path"], "data/CURRENT");
    EXPECT_EQ(changes[2]["path"], "data/odd\\xff");
    EXPECT_TRUE(changes[2].contains("path_base64"));
    EXPECT_EQ(document["before"]["id"], id(0));
    EXPECT_EQ(document["after"]["id"], id(1));
    EXPECT_EQ(document["summary"]["renamed"], 1);
    EXPECT_EQ(document["summary"]["changed_bytes"], 9);
    EXPECT_EQ(document["summary"]["matched_by"], "inode");
}

TEST_F(DiffProgram, NamesAreShownSafely) {
    init();
    backup();
    write("node/line\nbreak\x1b[2J", "x");
    backup();
    EXPECT_TRUE(diff().out.starts_with("+  line\\x0abreak\\x1b[2J  1 B\n")) << diff().out;
}

TEST_F(DiffProgram, AnEarlierTimeStandsInPlaceOfA) {
    init();
    backup();
    EXPECT_EQ(run({"diff", repository(), "--as-of", "now", "latest"}).status, 0);
    EXPECT_EQ(run({"diff", repository(), "--as-of", "2001-01-01", "latest"}).status, 3);
    EXPECT_EQ(run({"diff", repository(), "latest", "ffffffffffff"}).status, run({"show", repository(), "ffffffffffff"}).status);
    for (const std::vector<std::string>& arguments :
         {std::vector<std::string>{}, {"latest"}, {"latest", "latest", "latest"}, {"--as-of", "now"}}) {
        std::vector<std::string> all = {"diff", repository()};
        all.insert(all.end(), arguments.begin(), arguments.end());
        EXPECT_EQ(run(all).status, 2);
    }
}

TEST_F(DiffProgram, DamagedMetadataIsDamage) {
    init();
    backup();
    write("node/conf", "other\n");
    backup();
    for (const std::string& object : objects("nodes")) {
        fs::resize_file(object, 4096);
    }
    EXPECT_EQ(diff().status, 5);
}

TEST_F(DiffProgram, AFileThatCantBeComparedIsToldAndTheOthersCompared) {
    init();
    backup();
    write("node/data/000001.sst", std::string(300'000, 't'));
    write("node/conf", "size = 2\n");
    backup();
    for (const std::string& object : objects("packs")) {
        fs::resize_file(object, 4096);
    }
    const Outcome outcome = diff();
    EXPECT_EQ(outcome.status, 5) << outcome.err;
    EXPECT_TRUE(outcome.out.starts_with("M  conf  9 B of 9 B\nM  data/000001.sst  can't be compared\n")) << outcome.out;
    EXPECT_TRUE(has(outcome.err, "\"data/000001.sst\" can't be compared: ")) << outcome.err;
    const auto document = diff({"--json"}).json();
    EXPECT_FALSE(document["changes"][0].contains("damage"));
    EXPECT_NE(document["changes"][1]["damage"], "");
    EXPECT_EQ(document["summary"]["not_compared"], 1);
    EXPECT_EQ(document["summary"]["content"], 2);
}

// ---- Two whole backups of a btrfs subvolume: nothing of one is stored at the same place in the other.

class DiffOnBtrfs : public DiffProgram {
protected:
    void put(const fs::path& path, std::size_t size, char seed) {
        std::string content(size, '\0');
        for (std::size_t i = 0; i < size; ++i) {
            content[i] = static_cast<char>(seed + (i >> 12) * 7 + i);
        }
        std::ofstream(path, std::ios::binary) << content;
    }
    static void overwrite(const fs::path& path, off_t offset, const std::string& bytes) {
        const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
        EXPECT_EQ(::pwrite(fd, bytes.data(), bytes.size(), offset), static_cast<ssize_t>(bytes.size()));
        ::close(fd);
    }
    Outcome real_backup(const std::string& node, const std::string& repository) {
        return run({"backup", node, repository, "--state-dir=" + (scratch_ / "state"), "--scratch-dir=" + scratch_.path()});
    }
};

TEST_F(DiffOnBtrfs, BackupsOfDifferentFileSystemsAreComparedByPath) {
    NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
    test::LoopMount mount("btrfs");
    init();
    backup();
    fs::copy(scratch_ / "node", mount / "node", fs::copy_options::recursive);
    fs::rename(mount / "node/conf", mount / "node/conf.old");
    EXPECT_EQ(run({"backup", mount / "node", repository(), "--adopt-node", "--state-dir=" + (scratch_ / "state")}).status, 0);
    const Outcome outcome = diff();
    EXPECT_TRUE(has(outcome.out, "\n(of different file systems: compared by path, renames aren't told)\n")) << outcome.out;
    EXPECT_TRUE(has(outcome.out, ": 1 added (9 B), 1 removed (9 B), 0 changed, 0 renamed")) << outcome.out;
    EXPECT_EQ(diff({"--json"}).json()["summary"]["matched_by"], "path");
}

TEST_F(DiffOnBtrfs, TellsWhatWasDoneToATree) {
    NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
    test::LoopMount mount("btrfs");
    const fs::path node = mount / "node";
    const std::string repository = mount / "repository";
    test::run({"btrfs", "subvolume", "create", node});
    fs::create_directories(node / "data/old directory");
    put(node / "data/big", 8 << 20, 'b');
    put(node / "data/untouched", 3'000'000, 'u');
    put(node / "data/copied", 1 << 20, 'c');
    put(node / "data/log", 200'000, 'l');
    put(node / "data/punched", 1 << 20, 'p');
    put(node / "data/moved", 300'000, 'm');
    put(node / "data/gone", 10'000, 'g');
    put(node / "data/linked", 10'000, 'k');
    put(node / "data/old directory/inside", 10'000, 'i');
    put(node / "data/small", 100, 's');
    put(node / "data/mode", 100, 'o');
    put(node / "data/attribute", 100, 'a');
    put(node / "CURRENT", 16, 'C');
    ASSERT_EQ(run({"init", repository, "--node", "node1"}).status, 0);
    ASSERT_EQ(real_backup(node, repository).status, 0);

    overwrite(node / "data/big", (3 << 20) + 8192, std::string(4096, 'X'));
    overwrite(node / "data/log", 200'000, std::string(50'000, 'X'));
    overwrite(node / "data/small", 50, "X");
    const int punched = ::open((node / "data/punched").c_str(), O_WRONLY | O_CLOEXEC);
    EXPECT_EQ(::fallocate(punched, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 65536), 0);
    ::close(punched);
    // Written anew with the same contents, at the same time: nothing differs but where it lies.
    const auto time = fs::last_write_time(node / "data/copied");
    put(node / "data/copied", 1 << 20, 'c');
    fs::last_write_time(node / "data/copied", time);
    fs::rename(node / "data/moved", node / "moved here");
    fs::remove(node / "data/gone");
    put(node / "data/new", 20'000, 'n');
    fs::create_hard_link(node / "data/linked", node / "data/second name");
    fs::rename(node / "data/old directory", node / "new directory");
    put(node / "new directory/inside", 10'000, 'I');
    fs::permissions(node / "data/mode", fs::perms::owner_read);
    EXPECT_EQ(::setxattr((node / "data/attribute").c_str(), "user.x", "y", 1, 0), 0);
    put(node / "CURRENT.tmp", 16, 'D');
    fs::rename(node / "CURRENT.tmp", node / "CURRENT");
    ASSERT_EQ(real_backup(node, repository).status, 0);
    mount.remount("ro");

    const std::string first = run({"list", repository, "--json"}).json()["backups"][0]["id"];
    const Outcome outcome = run({"diff", repository, first, "latest", "--scratch-dir=" + scratch_.path()});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(outcome.out.substr(0, outcome.out.rfind('\n', outcome.out.size() - 2) + 1),
              "M  CURRENT  16 B of 16 B, replaced\n"
              "a  data/attribute  xattrs\n"
              "M  data/big  4.0 KiB of 8.0 MiB\n"
              "-  data/gone  9.8 KiB\n"
              "M  data/log  52.1 KiB of 244.1 KiB, was 195.3 KiB\n"
              "a  data/mode  mode\n"
              "+  data/new  19.5 KiB\n"
              "M  data/punched  64.0 KiB of 1.0 MiB\n"
              "+  data/second name  hard link\n"
              "M  data/small  100 B of 100 B\n"
              "R  data/moved -> moved here\n"
              "R  data/old directory/ -> new directory/\n"
              "M  new directory/inside  9.8 KiB of 9.8 KiB\n");
    const auto changes = run({"diff", repository, first, "latest", "--json"}).json()["changes"];
    EXPECT_EQ(changes[0]["replaced"], true);
    EXPECT_EQ(changes[2]["replaced"], false);
    EXPECT_EQ(changes[6]["hard_link"], false);
    EXPECT_EQ(changes[8]["path"], "data/second name");
    EXPECT_EQ(changes[8]["hard_link"], true);
    const Outcome back = run({"diff", repository, "latest", first, "--summary", "--json"});
    EXPECT_EQ(back.json()["summary"]["added"], 1);
    EXPECT_EQ(back.json()["summary"]["removed"], 2);
    EXPECT_EQ(back.json()["summary"]["content"], 6);
}

}  // namespace
}  // namespace nodesnap
