// What every target must do, run on each kind: directories on several file systems, and the strict fake of an object store.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <thread>

#include "io/target/directory.h"
#include "tests/io/target_fixture.h"
#include "tests/support/loop_mount.h"
#include "tests/support/served_target.h"
#include "tests/support/strict_target.h"

namespace nodesnap::test {
namespace {

// A target, and what must stay while it is used.
struct Place {
    std::shared_ptr<void> keep;
    std::shared_ptr<Target> target;
};

struct Kind {
    std::string name;
    std::function<std::string()> unavailable;
    std::function<Place()> make;
};

Place in_directory(const std::string& parent) {
    const std::string path = parent + "/target";
    return {nullptr, open_directory_target(path, true)};
}

Place on_loop(const std::string& type) {
    auto mount = std::make_shared<LoopMount>(type);
    Place place = in_directory(mount->path());
    place.keep = mount;
    return place;
}

Place in_memory(std::uint64_t lag) {
    auto target = StrictTarget::make();
    target->set_list_lag(lag);
    return {nullptr, target};
}

// An object store that takes its time for each operation.
std::shared_ptr<Target> slow() {
    auto target = StrictTarget::make();
    target->set_delay(std::chrono::milliseconds(3));
    return target;
}

std::vector<Kind> kinds() {
    const auto always = [] { return std::string(); };
    return {
        {"scratch", always,
         [] {
             auto scratch = std::make_shared<ScratchDirectory>("nodesnap-target");
             Place place = in_directory(scratch->path());
             place.keep = scratch;
             return place;
         }},
        {"tmpfs", [] { return std::string(::access("/dev/shm", W_OK) == 0 ? "" : "no tmpfs at /dev/shm"); },
         [] {
             const std::string path = "/dev/shm/nodesnap-target-" + std::to_string(::getpid());
             std::filesystem::create_directories(path);
             Place place = in_directory(path);
             place.keep = std::shared_ptr<void>(nullptr, [path](void*) { std::filesystem::remove_all(path); });
             return place;
         }},
        {"btrfs", [] { return LoopMount::unavailable("btrfs"); }, [] { return on_loop("btrfs"); }},
        {"ext4", [] { return LoopMount::unavailable("ext4"); }, [] { return on_loop("ext4"); }},
        {"strict", always, [] { return in_memory(0); }},
        {"lagging", always, [] { return in_memory(4); }},
        {"slow", always,
         [] {
             return Place{nullptr, slow()};
         }},
        {"remote_slow", always,
         [] {
             return Place{nullptr, open_served_target(slow())};
         }},
        {"remote", always,
         [] {
             auto scratch = std::make_shared<ScratchDirectory>("nodesnap-target");
             Place place{scratch, open_served_target(in_directory(scratch->path()).target)};
             return place;
         }},
        {"remote_blocking", always,
         [] {
             ServedTargetOptions options;
             options.use_io_uring = false;
             options.connections = 1;
             return Place{nullptr, open_served_target(StrictTarget::make(), options)};
         }},
    };
}

class TargetConformance : public testing::TestWithParam<Kind> {
protected:
    void SetUp() override {
        const std::string why = GetParam().unavailable();
        if (!why.empty()) {
            GTEST_SKIP() << why;
        }
        place_ = GetParam().make();
    }
    Target& target() { return *place_.target; }

    // The names below a prefix, once listing has caught up.
    std::vector<std::string> names(const std::string& prefix) {
        std::vector<std::string> found;
        for (int i = 0; i < 8; ++i) {
            found.clear();
            target().list(prefix, [&](const ObjectEntry& entry) { found.push_back(entry.name); });
        }
        return found;
    }

    Place place_;
};

TEST_P(TargetConformance, CreatesOnceAndNeverReplaces) {
    EXPECT_TRUE(target().create("backups/a", bytes_of("first")));
    EXPECT_FALSE(target().create("backups/a", bytes_of("second")));
    EXPECT_EQ(text_of(target().load("backups/a", 100)->content), "first");
    EXPECT_TRUE(target().create("empty", {}));
    EXPECT_TRUE(target().load("empty", 0)->content.empty());
}

TEST_P(TargetConformance, LoadsWithinTheLimitOnly) {
    EXPECT_FALSE(target().load("nothing", 100));
    EXPECT_FALSE(target().load("no/such/folder", 100));
    target().create("a", bytes_of("12345"));
    EXPECT_EQ(target().load("a", 5)->content.size(), 5U);
    EXPECT_EQ(status_of([&] { target().load("a", 4); }), ExitStatus::kDamaged);
}

TEST_P(TargetConformance, SwapsOnlyWhatWasExpected) {
    EXPECT_FALSE(target().swap("locks/l", "some version", bytes_of("x")));
    EXPECT_TRUE(target().swap("locks/l", std::nullopt, bytes_of("one")));
    EXPECT_FALSE(target().swap("locks/l", std::nullopt, bytes_of("two")));
    const auto one = target().load("locks/l", 100);
    EXPECT_TRUE(target().swap("locks/l", one->version, bytes_of("two")));
    EXPECT_FALSE(target().swap("locks/l", one->version, bytes_of("three")));
    EXPECT_EQ(text_of(target().load("locks/l", 100)->content), "two");
    EXPECT_TRUE(target().remove("locks/l"));
    EXPECT_FALSE(target().swap("locks/l", one->version, bytes_of("four")));
    EXPECT_TRUE(target().swap("locks/l", std::nullopt, bytes_of("five")));
}

TEST_P(TargetConformance, LargeObjectAppearsWholeWhenItIsFinished) {
    for (const bool blocking : {false, true}) {
        Ring ring({.entries = 16, .force_blocking = blocking});
        const std::string name = blocking ? "packs/0a/blocking.pack" : "packs/0a/ring.pack";
        AlignedBuffer data((std::size_t{13} << 20) + 4096, 7);
        const auto writer = target().begin(name, "staging1");
        constexpr std::size_t kPiece = std::size_t{1} << 20;
        for (std::size_t at = 0; at < data.span().size(); at += kPiece) {
            ring.spawn(writer->write(ring, data.part(at, std::min(kPiece, data.span().size() - at)), at));
        }
        ring.run();
        EXPECT_EQ(target().open(name), nullptr);
        ring.wait(writer->finish(ring));
        ring.run();
        const auto reader = target().open(name);
        ASSERT_NE(reader, nullptr);
        ASSERT_EQ(reader->size(), data.span().size());
        AlignedBuffer back(data.span().size());
        ring.wait(reader->read(ring, back.span(), 0));
        EXPECT_TRUE(back == data);
        AlignedBuffer again(data.span().size());
        reader->read(again.span(), 0);
        EXPECT_TRUE(again == data);
    }
}

TEST_P(TargetConformance, TakesAndGivesUnalignedRanges) {
    Ring ring({.entries = 8});
    AlignedBuffer data(300'001, 3);
    const auto writer = target().begin("odd", "odd");
    // Aligned, then odd in length, then odd in everything, then aligned again in offset only.
    const std::size_t ends[] = {8192, 8192 + 5, 100'000, 200'704, data.span().size()};
    std::size_t at = 0;
    for (const std::size_t end : ends) {
        ring.wait(writer->write(ring, data.part(at, end - at), at));
        at = end;
    }
    ring.wait(writer->finish(ring));
    const auto reader = target().open("odd");
    AlignedBuffer back(data.span().size());
    ring.wait(reader->read(ring, back.part(0, 4096), 0));
    ring.wait(reader->read(ring, back.part(4096, 1), 4096));
    ring.wait(reader->read(ring, back.part(4097, 200'000), 4097));
    reader->read(back.part(204'097, 300'001 - 204'097), 204'097);
    EXPECT_TRUE(back == data);
}

TEST_P(TargetConformance, EmptyLargeObjectIsAnObject) {
    Ring ring({.entries = 8});
    put_object(target(), ring, "nothing-in-it", "s", {}, 1);
    const auto reader = target().open("nothing-in-it");
    ASSERT_NE(reader, nullptr);
    EXPECT_EQ(reader->size(), 0U);
    ring.wait(reader->read(ring, {}, 0));
}

TEST_P(TargetConformance, ReadingBeyondTheEndIsDamage) {
    Ring ring({.entries = 8});
    target().create("short", bytes_of("12345678"));
    const auto reader = target().open("short");
    AlignedBuffer into(4096);
    EXPECT_EQ(status_of([&] { ring.wait(reader->read(ring, into.part(0, 4096), 0)); }), ExitStatus::kDamaged);
    EXPECT_EQ(status_of([&] { reader->read(into.part(0, 2), 7); }), ExitStatus::kDamaged);
    EXPECT_EQ(status_of([&] { reader->read(into.part(0, 1), ~std::uint64_t{0}); }), ExitStatus::kDamaged);
    reader->read(into.part(0, 1), 7);
}

TEST_P(TargetConformance, UnfinishedObjectLeavesNothing) {
    Ring ring({.entries = 8});
    AlignedBuffer data(8192);
    {
        const auto writer = target().begin("packs/aa/x.pack", "gone");
        ring.wait(writer->write(ring, data.span(), 0));
    }
    EXPECT_EQ(target().open("packs/aa/x.pack"), nullptr);
    EXPECT_TRUE(names("").empty());
    put_object(target(), ring, "packs/aa/x.pack", "gone", data.span(), 4096);
    EXPECT_NE(target().open("packs/aa/x.pack"), nullptr);
}

TEST_P(TargetConformance, FinishReplacesNothing) {
    Ring ring({.entries = 8});
    AlignedBuffer data(8192, 1);
    target().create("taken", bytes_of("mine"));
    EXPECT_EQ(status_of([&] { put_object(target(), ring, "taken", "s", data.span(), 8192); }), ExitStatus::kFailed);
    EXPECT_EQ(text_of(target().load("taken", 100)->content), "mine");
    EXPECT_EQ(names(""), std::vector<std::string>{"taken"});
}

TEST_P(TargetConformance, WritesMustFollowOneAnother) {
    Ring ring({.entries = 8});
    AlignedBuffer data(8192);
    const auto writer = target().begin("gap", "gap");
    ring.wait(writer->write(ring, data.part(0, 4096), 0));
    EXPECT_ANY_THROW(ring.wait(writer->write(ring, data.part(4096, 4096), 8192)));
}

TEST_P(TargetConformance, AbandonEndsWhatIsUnfinished) {
    Ring ring({.entries = 8});
    AlignedBuffer data(4096);
    const auto mine = target().begin("packs/00/mine", "00aaaa1");
    const auto other = target().begin("packs/00/other", "00bbbb1");
    ring.wait(mine->write(ring, data.span(), 0));
    ring.wait(other->write(ring, data.span(), 0));
    target().abandon([](std::string_view id) { return id.starts_with("00aaaa"); });
    EXPECT_NE(status_of([&] { ring.wait(mine->finish(ring)); }), ExitStatus::kDone);
    ring.wait(other->finish(ring));
    EXPECT_EQ(target().open("packs/00/mine"), nullptr);
    EXPECT_NE(target().open("packs/00/other"), nullptr);
}

TEST_P(TargetConformance, ListsByPrefixInOrder) {
    for (const char* name : {"packs/0b/2", "packs/0a/3", "packs/0a/1", "packs/0a/10", "nodes/0a/1", "repository.json"}) {
        EXPECT_TRUE(target().create(name, bytes_of(name)));
    }
    EXPECT_EQ(names("packs/"), (std::vector<std::string>{"packs/0a/1", "packs/0a/10", "packs/0a/3", "packs/0b/2"}));
    EXPECT_EQ(names("packs/0a/1"), (std::vector<std::string>{"packs/0a/1", "packs/0a/10"}));
    EXPECT_EQ(names("packs/0c/1"), std::vector<std::string>{});
    EXPECT_EQ(names("").size(), 6U);
    std::uint64_t size = 0;
    target().list("repository", [&](const ObjectEntry& entry) { size = entry.size; });
    EXPECT_EQ(size, std::string("repository.json").size());
}

TEST_P(TargetConformance, RemovesAndTellsWhetherThereWasOne) {
    target().create("packs/0a/x", bytes_of("x"));
    EXPECT_TRUE(target().remove("packs/0a/x"));
    EXPECT_FALSE(target().remove("packs/0a/x"));
    EXPECT_FALSE(target().remove("no/such/folder"));
    EXPECT_EQ(target().open("packs/0a/x"), nullptr);
    EXPECT_FALSE(target().load("packs/0a/x", 10));
    EXPECT_TRUE(names("packs/").empty());
    target().persist_removals("packs/0a/");
    target().persist_removals("no/such/folder/");
    EXPECT_TRUE(target().create("packs/0a/x", bytes_of("y")));
}

TEST_P(TargetConformance, OneOfManyCreatorsWins) {
    constexpr int kThreads = 4;
    for (int round = 0; round < 5; ++round) {
        std::atomic<int> winners{0};
        std::vector<std::thread> threads;
        threads.reserve(kThreads);
        const std::string name = "backups/" + std::to_string(round);
        for (int i = 0; i < kThreads; ++i) {
            threads.emplace_back([&, i] { winners += target().create(name, bytes_of(std::to_string(i))) ? 1 : 0; });
        }
        for (std::thread& thread : threads) {
            thread.join();
        }
        EXPECT_EQ(winners, 1);
    }
}

TEST_P(TargetConformance, SwapsOfManyLoseNothing) {
    constexpr int kThreads = 4;
    constexpr int kEach = 10;
    target().create("counter", bytes_of("0"));
    const auto count = [&] {
        for (int done = 0; done < kEach;) {
            const auto now = target().load("counter", 100);
            const std::string next = std::to_string(std::stoi(text_of(now->content)) + 1);
            done += target().swap("counter", now->version, bytes_of(next)) ? 1 : 0;
        }
    };
    std::vector<std::thread> threads;
    threads.reserve(kThreads);
    for (int i = 0; i < kThreads; ++i) {
        threads.emplace_back(count);
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(text_of(target().load("counter", 100)->content), std::to_string(kThreads * kEach));
}

TEST_P(TargetConformance, RefusesNamesThatCouldLeadElsewhere) {
    for (const char* name : {"", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".hidden", "a/.b", "with space", "uml\xc3\xa4ut", "a\n"}) {
        EXPECT_ANY_THROW(target().create(name, {})) << name;
        EXPECT_ANY_THROW(target().open(name)) << name;
        EXPECT_ANY_THROW(target().load(name, 1)) << name;
        EXPECT_ANY_THROW(target().remove(name)) << name;
        EXPECT_ANY_THROW(target().begin(name, "s")) << name;
        EXPECT_ANY_THROW(target().begin("x", std::string(name) + "/")) << name;
    }
}

INSTANTIATE_TEST_SUITE_P(Targets, TargetConformance, testing::ValuesIn(kinds()), [](const auto& kind) { return kind.param.name; });

}  // namespace
}  // namespace nodesnap::test
