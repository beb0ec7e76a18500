// The strict fake itself: what it must complain about, and the faults that it plays.
#include <gtest/gtest.h>

#include <cerrno>
#include <stdexcept>

#include "tests/io/target_fixture.h"
#include "tests/support/strict_target.h"

namespace nodesnap::test {
namespace {

using Op = StrictTarget::Op;

TEST(StrictTarget, ComplainsOfWritesOutOfOrderOrAfterTheEnd) {
    const auto target = StrictTarget::make();
    Ring ring({.entries = 8});
    AlignedBuffer data(8192);
    const auto writer = target->begin("a", "a");
    ring.wait(writer->write(ring, data.part(0, 4096), 0));
    EXPECT_THROW(ring.wait(writer->write(ring, data.part(0, 4096), 0)), std::logic_error);
    ring.wait(writer->finish(ring));
    EXPECT_THROW(ring.wait(writer->write(ring, data.part(0, 4096), 4096)), std::logic_error);
    EXPECT_THROW(ring.wait(writer->finish(ring)), std::logic_error);
    EXPECT_EQ(target->unfinished(), 0U);
}

TEST(StrictTarget, ComplainsOfLargeSmallObjects) {
    const auto target = StrictTarget::make();
    const Bytes large((std::size_t{64} << 20) + 1);
    EXPECT_THROW(target->create("a", large), std::logic_error);
    EXPECT_THROW(target->swap("a", std::nullopt, large), std::logic_error);
}

TEST(StrictTarget, ListingLagsBehindByTheGivenNumberOfCalls) {
    const auto target = StrictTarget::make();
    const auto listed = [&] {
        int count = 0;
        target->list("", [&](const ObjectEntry&) { ++count; });
        return count;
    };
    target->set_list_lag(2);
    target->create("a", bytes_of("a"));
    EXPECT_EQ(listed(), 0);
    EXPECT_TRUE(target->load("a", 10));
    EXPECT_EQ(listed(), 1);
    target->remove("a");
    EXPECT_EQ(listed(), 1);
    EXPECT_EQ(target->open("a"), nullptr);
    EXPECT_EQ(listed(), 0);
}

TEST(StrictTarget, FaultsComeBeforeOrAfterTheEffect) {
    const auto target = StrictTarget::make();
    target->fail(Op::kCreate, 2, EIO);
    EXPECT_TRUE(target->create("a", {}));
    EXPECT_THROW(target->create("b", {}), Error);
    EXPECT_FALSE(target->contains("b"));
    target->fail(Op::kCreate, 1, ETIMEDOUT, StrictTarget::FaultKind::kAfter);
    EXPECT_THROW(target->create("b", {}), Error);
    EXPECT_TRUE(target->contains("b"));
    EXPECT_TRUE(target->create("c", {}));
    target->fail(Op::kLoad, 1, EIO, StrictTarget::FaultKind::kBefore, true);
    EXPECT_THROW(target->load("a", 1), Error);
    EXPECT_THROW(target->load("a", 1), Error);
    target->clear_faults();
    EXPECT_TRUE(target->load("a", 1));
    EXPECT_EQ(target->count(Op::kCreate), 4U);
}

}  // namespace
}  // namespace nodesnap::test
