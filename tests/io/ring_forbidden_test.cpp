// Where io_uring is forbidden: by a seccomp filter, as container runtimes do it.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cstddef>
#include <cstring>

#include "ring_fixture.h"

namespace nodesnap::test {
namespace {

// Makes io_uring_setup fail with `error_number` in this process, for good.
bool forbid_io_uring(unsigned error_number) {
    std::array<sock_filter, 4> code = {{
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error_number),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    }};
    const sock_fprog program{code.size(), code.data()};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// 0, or the number of the check that failed.
int work_without_io_uring(unsigned error_number, int fd) {
    if (!forbid_io_uring(error_number)) {
        return 1;
    }
    Ring ring(Ring::Options{});
    if (ring.uses_io_uring()) {
        return 2;
    }
    if (ring.fallback_reason().find(std::strerror(static_cast<int>(error_number))) == std::string::npos) {
        return 3;
    }
    std::array<std::byte, 16> into{};
    if (result_of(ring, ring.write(fd, bytes_of("works"), 0)) != 5 || result_of(ring, ring.read(fd, into, 0)) != 5) {
        return 4;
    }
    return text_of(std::span(into).first(5)) == "works" ? 0 : 5;
}

TEST(RingForbiddenTest, ASeccompFilterMakesItUsePlainCallsAndSayWhy) {
    const FileDescriptor fd(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    ASSERT_TRUE(fd);
    for (const unsigned error_number : {ENOSYS, EPERM}) {
        const pid_t child = ::fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            ::_exit(work_without_io_uring(error_number, fd.get()));
        }
        int status = -1;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFEXITED(status));
        if (WEXITSTATUS(status) == 1) {
            GTEST_SKIP() << "seccomp filters can't be installed here";
        }
        EXPECT_EQ(WEXITSTATUS(status), 0) << error_number;
    }
}

}  // namespace
}  // namespace nodesnap::test
