// What LVM's programs print, as it is understood. What they do is tested in a guest (tests/guest).
#include "platform/lvm.h"

#include <gtest/gtest.h>

#include "platform/error.h"
#include "platform/file.h"
#include "platform/lvm_merge.h"

namespace nodesnap::lvm {
namespace {

constexpr const char* kReport = R"(  WARNING: Device /dev/sdc not initialized in udev database even after waiting 10000000 microseconds.
  {
      "report": [
          {
              "lv": [
                  {"vg_name":"vg", "lv_name":"data", "vg_uuid":"AAAAAA-bbbb-cccc-dddd-eeee-ffff-gggggg", "lv_uuid":"HHHHHH-bbbb-cccc-dddd-eeee-ffff-111111", "origin":"", "pool_lv":"", "lv_attr":"owi-aos---", "lv_dm_path":"/dev/mapper/vg-data", "lv_tags":"", "lv_size":"335544320", "lv_time":"1700000000", "vg_extent_size":"4194304", "vg_free_count":"17", "thin_id":"", "transaction_id":"", "chunk_size":"0"},
                  {"vg_name":"vg", "lv_name":"nodesnap.db-0123abcd.x.tmp", "vg_uuid":"AAAAAA-bbbb-cccc-dddd-eeee-ffff-gggggg", "lv_uuid":"IIIIII-bbbb-cccc-dddd-eeee-ffff-222222", "origin":"data", "pool_lv":"", "lv_attr":"swi-a-s---", "lv_dm_path":"/dev/mapper/vg-nodesnap.db--0123abcd.x.tmp", "lv_tags":"a,nodesnap", "lv_size":"41943040", "lv_time":"1700000001", "vg_extent_size":"4194304", "vg_free_count":"17", "thin_id":"", "transaction_id":"", "chunk_size":"8192"},
                  {"vg_name":"vg", "lv_name":"thin", "vg_uuid":"AAAAAA-bbbb-cccc-dddd-eeee-ffff-gggggg", "lv_uuid":"JJJJJJ-bbbb-cccc-dddd-eeee-ffff-333333", "origin":"", "pool_lv":"pool", "lv_attr":"Vwi-a-tz-k", "lv_dm_path":"/dev/mapper/vg-thin", "lv_tags":"", "lv_size":"41943040", "lv_time":"1700000001", "vg_extent_size":"4194304", "vg_free_count":"17", "thin_id":"7", "transaction_id":"3", "chunk_size":"0"}
              ]
          }
      ]
  }
  WARNING: Something else.
)";

TEST(Lvm, ReportIsReadBetweenWarnings) {
    const std::vector<Volume> volumes = parse_volumes(kReport);
    ASSERT_EQ(volumes.size(), 3U);
    EXPECT_EQ(volumes[0].full_name(), "vg/data");
    EXPECT_EQ(volumes[0].group_uuid, "AAAAAAbbbbccccddddeeeeffffgggggg");
    EXPECT_EQ(volumes[0].uuid, "HHHHHHbbbbccccddddeeeeffff111111");
    EXPECT_TRUE(volumes[0].is_open());
    EXPECT_TRUE(volumes[0].is_active());
    EXPECT_FALSE(volumes[0].is_classic_snapshot());
    EXPECT_FALSE(volumes[0].is_thin());
    EXPECT_FALSE(volumes[0].skips_activation());
    EXPECT_TRUE(volumes[2].skips_activation());
    EXPECT_EQ(volumes[0].snapshot_bytes, 0U);
    EXPECT_EQ(volumes[0].free_extents, 17U);
    EXPECT_EQ(volumes[0].extent_bytes, 4194304U);
    EXPECT_EQ(volumes[0].created_ns, 1'700'000'000'000'000'000);
    EXPECT_TRUE(volumes[1].is_classic_snapshot());
    EXPECT_FALSE(volumes[1].is_open());
    EXPECT_TRUE(volumes[1].has_tag("nodesnap"));
    EXPECT_FALSE(volumes[1].has_tag("node"));
    EXPECT_EQ(volumes[1].origin, "data");
    EXPECT_EQ(volumes[1].snapshot_bytes, 41943040U);
    EXPECT_EQ(volumes[1].chunk_bytes, 8192U);
    EXPECT_FALSE(volumes[0].is_merging());
    EXPECT_EQ(volumes[1].device, "/dev/mapper/vg-nodesnap.db--0123abcd.x.tmp");
    EXPECT_TRUE(volumes[2].is_thin());
    EXPECT_EQ(volumes[2].pool, "pool");
    EXPECT_EQ(volumes[2].thin_id, 7U);
    EXPECT_EQ(volumes[2].transaction, 3U);
    EXPECT_FALSE(volumes[2].is_read_only());
}

TEST(Lvm, AVolumeOfSeveralSegmentsIsOne) {
    const std::string report = kReport;
    const std::size_t begin = report.find("{\"vg_name\"");
    const std::string row = report.substr(begin, report.find('}', begin) + 1 - begin);
    EXPECT_EQ(parse_volumes("  {\n\"report\": [{\"lv\": [" + row + "," + row + "]}]\n  }\n").size(), 1U);
}

TEST(Lvm, WhatIsNoReportIsAnError) {
    for (const char* text : {"", "  WARNING: no\n", "{\n}\n", "  {\n \"report\": [ {\"lv\": [ {\"vg_name\":\"vg\"} ] } ]\n  }\n",
                             "  {\n \"report\": 3\n  }\n"}) {
        EXPECT_THROW(parse_volumes(text), Error) << text;
    }
}

TEST(Lvm, StatusTellsHowFullASnapshotIs) {
    const auto fill = parse_snapshot_status("0 819200 snapshot 16/204800 16\n");
    ASSERT_TRUE(fill);
    EXPECT_FALSE(fill->invalid);
    EXPECT_EQ(fill->used_bytes, 16U * 512);
    EXPECT_EQ(fill->total_bytes, 204800U * 512);
    EXPECT_EQ(fill->metadata_bytes, 16U * 512);
    for (const char* line :
         {"0 819200 snapshot Invalid", "0 819200 snapshot Overflow", "0 819200 snapshot Merge failed", "0 1 snapshot Unknown"}) {
        const auto invalid = parse_snapshot_status(line);
        ASSERT_TRUE(invalid) << line;
        EXPECT_TRUE(invalid->invalid) << line;
    }
    EXPECT_FALSE(parse_snapshot_status("0 819200 linear "));
    EXPECT_FALSE(parse_snapshot_status("Device does not exist."));
    EXPECT_FALSE(parse_snapshot_status(""));
}

TEST(Lvm, StatusTellsHowFarAMergeHasCome) {
    const auto merge = parse_merge_status("0 655360 snapshot-merge 123384/245760 496\n");
    ASSERT_TRUE(merge);
    EXPECT_FALSE(merge->failed);
    EXPECT_EQ(merge->left_bytes, (123384U - 496U) * 512);
    for (const char* line : {"0 655360 snapshot-merge Merge failed", "0 655360 snapshot-merge Invalid"}) {
        const auto failed = parse_merge_status(line);
        ASSERT_TRUE(failed) << line;
        EXPECT_TRUE(failed->failed) << line;
    }
    EXPECT_FALSE(parse_merge_status("0 655360 snapshot-origin "));
    EXPECT_FALSE(parse_merge_status("0 819200 snapshot 16/204800 16"));
    EXPECT_FALSE(parse_merge_status(""));
}

TEST(Lvm, AVolumeThatIsMergedIntoIsTold) {
    std::string report = kReport;
    report.replace(report.find("owi-aos---"), 1, "O");
    EXPECT_TRUE(parse_volumes(report)[0].is_merging());
}

TEST(Lvm, AnOrdinaryDeviceIsNoVolume) {
    EXPECT_FALSE(volume_of_device(device_of(stat_path("/proc").value())));
}

}  // namespace
}  // namespace nodesnap::lvm
