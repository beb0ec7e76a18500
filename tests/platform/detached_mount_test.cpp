// Mounting another device as one is mounted already.
#include "platform/detached_mount.h"

#include <gtest/gtest.h>
#include <sys/mount.h>

#include "tests/support/loop_mount.h"

namespace nodesnap {
namespace {

using Options = std::vector<std::pair<std::string, std::string>>;

Mount mounted(const std::string& type, const std::string& options, const std::string& super_options) {
    Mount mount;
    mount.type = type;
    mount.options = options;
    mount.super_options = super_options;
    return mount;
}

TEST(MountLike, HasTheOptionsOfTheFileSystemAndTheAttributesOfTheMount) {
    const DeviceMount like = mount_like(mounted("ext4", "rw,nosuid,nodev,noatime", "rw,errors=remount-ro,stripe=16"), "/dev/other");
    EXPECT_EQ(like.type, "ext4");
    EXPECT_EQ(like.device, "/dev/other");
    EXPECT_EQ(like.options, (Options{{"rw", ""}, {"errors", "remount-ro"}, {"stripe", "16"}}));
    EXPECT_EQ(like.attributes, std::uint64_t{MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME});
}

TEST(MountLike, TwoXfsOfOneUuidCanBeMounted) {
    for (const char* options : {"rw,inode64,logbufs=8", "rw,nouuid,inode64,logbufs=8"}) {
        EXPECT_EQ(mount_like(mounted("xfs", "rw,relatime", options), "d").options,
                  (Options{{"rw", ""}, {"inode64", ""}, {"logbufs", "8"}, {"nouuid", ""}}));
    }
}

TEST(MountLike, LabelsAreTakenAsTheyWereGiven) {
    const Options options = mount_like(mounted("ext4", "rw,relatime", R"(rw,seclabel,context="u:r:t:s0:c1,c2",lazytime)"), "d").options;
    EXPECT_EQ(options, (Options{{"rw", ""}, {"context", "u:r:t:s0:c1,c2"}, {"lazytime", ""}}));
}

// Whatever the kernel tells of a mount it takes, too.
TEST(MountLike, IsTakenByTheKernel) {
    for (const char* type : {"ext4", "xfs"}) {
        NODESNAP_NEEDS_LOOP_MOUNT(type);
        const test::LoopMount loop(type);
        std::string why;
        EXPECT_TRUE(mount_detached(mount_like(mount_of(loop.path()), loop.device()), why)) << type << ": " << why;
    }
}

}  // namespace
}  // namespace nodesnap
