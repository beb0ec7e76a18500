// What is printed of thin pools and of the differences of thin volumes, as it is understood.
#include "platform/lvm_thin.h"

#include <gtest/gtest.h>

#include "platform/error.h"

namespace nodesnap::lvm {
namespace {

TEST(LvmThin, StatusTellsHowFullAPoolIs) {
    const auto fill = parse_pool_status("0 2097152 thin-pool 1 1639/2048 256/16384 - rw discard_passdown queue_if_no_space - 1024\n");
    ASSERT_TRUE(fill);
    EXPECT_TRUE(fill->works);
    EXPECT_EQ(fill->metadata_percent(), 81U);  // 80.03, and that is above 80
    EXPECT_EQ(fill->data_percent(), 2U);
    EXPECT_FALSE(
        parse_pool_status("0 2097152 thin-pool 1 24/2048 16384/16384 - out_of_data_space discard_passdown queue_if_no_space - 1024")
            ->works);
    EXPECT_FALSE(
        parse_pool_status("0 2097152 thin-pool 1 24/2048 256/16384 - rw discard_passdown queue_if_no_space needs_check 1024")->works);
    EXPECT_FALSE(parse_pool_status("0 2097152 thin-pool 1 24/2048 256/16384 - ro discard_passdown queue_if_no_space - 1024")->works);
    EXPECT_FALSE(parse_pool_status("0 2097152 thin-pool Fail")->works);
    EXPECT_FALSE(parse_pool_status("0 2097152 linear"));
    EXPECT_EQ(PoolFill{}.data_percent(), 100U);
    EXPECT_EQ(fill->reserved_metadata, 0U);
    const auto reserved = parse_pool_status("0 2097152 thin-pool 1 24/2048 256/16384 207 rw discard_passdown queue_if_no_space - 1024");
    EXPECT_EQ(reserved->reserved_metadata, 207U);
    EXPECT_TRUE(reserved->works);
}

}  // namespace
}  // namespace nodesnap::lvm
