// Pins: how one is stored, what a failure at each step leaves, and that forget heeds it.
#include <cerrno>

#include "tests/snapshot/forget_fixture.h"
#include "tests/support/fault_hooks.h"

namespace nodesnap {
namespace {

using test::FaultHooks;
using test::keep_last;
using test::named;
using Op = test::StrictTarget::Op;

class Pin : public test::ForgetTest {};

TEST_F(Pin, PinnedOnesStayUntilTheyAreUnpinned) {
    backups(3);
    EXPECT_TRUE(pin(0, "auditors").changed);
    EXPECT_EQ(forget(keep_last(1)).plan.removed, 1U);
    EXPECT_EQ(left(), (std::vector<int>{0, 2}));
    EXPECT_EQ(status_of(named({id(0)})), ExitStatus::kRefused);
    EXPECT_NE(message_.find("unpin"), std::string::npos) << message_;
    EXPECT_TRUE(unpin(0).changed);
    EXPECT_EQ(status_of(named({id(0)})), ExitStatus::kDone);
    EXPECT_EQ(left(), (std::vector<int>{2}));
}

TEST_F(Pin, APinIsTheNextRevisionAndTheOnlyOne) {
    backups(2);
    const PinResult first = pin(0, "auditors");
    EXPECT_EQ(first.manifest.name.revision, 1U);
    EXPECT_EQ(pin(0, "lawyers").manifest.pins, (std::vector<std::string>{"auditors", "lawyers"}));
    EXPECT_FALSE(pin(0, "auditors").changed);
    EXPECT_FALSE(pin(0).changed);
    EXPECT_EQ(repository_.names("backups/").size(), 2U);
    const Manifest stored = repository_.open().find_backup(id(0));
    EXPECT_TRUE(stored.pinned);
    EXPECT_EQ(stored.name.revision, 2U);
    EXPECT_EQ(stored.packs, made_[0].packs);
    EXPECT_TRUE(whole());
    EXPECT_TRUE(unpin(0).changed);
    EXPECT_FALSE(unpin(0).changed);
    EXPECT_FALSE(repository_.open().find_backup(id(0)).pinned);
    EXPECT_TRUE(repository_.open().find_backup(id(0)).pins.empty());
}

TEST_F(Pin, AtEachInstantOfAPinTheBackupIsThere) {
    backups(1);
    std::vector<std::string> steps;
    FaultHooks hooks;
    hooks.on_each_step([&](const std::string& step) {
        if (step.starts_with("revision.")) {
            steps.push_back(step);
            EXPECT_TRUE(repository_.open().find_backup("latest").pinned) << step;
        }
    });
    pin(0);
    EXPECT_EQ(steps, (std::vector<std::string>{"revision.written", "revision.removed"}));
}

TEST_F(Pin, WhateverFailsInAPinTheBackupIsThere) {
    backups(1);
    int failures = 0;
    int not_read_back = 0;
    for (const Op op : {Op::kCreate, Op::kLoad, Op::kSwap, Op::kRemove, Op::kList}) {
        for (std::uint64_t nth = 1;; ++nth) {
            SCOPED_TRACE("operation " + std::to_string(static_cast<int>(op)) + ", the " + std::to_string(nth) + "th");
            unpin(0);
            const std::uint64_t before = repository_.target->count(op);
            repository_.target->fail(op, nth, EIO);
            try {
                pin(0, "x");
            } catch (const Error& error) {
                ++failures;
                if (error.message().find("read back") != std::string::npos) {
                    ++not_read_back;
                    EXPECT_EQ(repository_.names("backups/").size(), 2U);
                }
            }
            const bool reached = repository_.target->count(op) - before >= nth;
            repository_.target->clear_faults();
            repository_.target->remove(layout::kExclusiveLock);  // which this process may not have released
            ASSERT_EQ(left(), (std::vector<int>{0}));
            if (!reached) {
                break;
            }
        }
    }
    EXPECT_GT(failures, 5);
    EXPECT_GT(not_read_back, 0);
    EXPECT_TRUE(whole());
}

TEST_F(Pin, AReaderFindsABackupThatIsPinnedMeanwhile) {
    backups(2);
    const Repository reader = repository_.open();
    bool done = false;
    int seen = 0;
    // The first backup is looked at after the names of all were listed.
    reader.for_each_backup([&](const BackupEntry&) {
        ++seen;
        if (!done) {
            done = true;
            pin(1);
        }
    });
    EXPECT_EQ(seen, 2);
}

}  // namespace
}  // namespace nodesnap
