// TestCgroup: a cgroup of its own for a test, removed by the destructor with all that is in it: members are thawed and killed.
#pragma once

#include <string>

namespace nodesnap::test {

class TestCgroup {
public:
    TestCgroup();  // at the top, with a name of its own
    explicit TestCgroup(const std::string& path);
    ~TestCgroup();
    TestCgroup(const TestCgroup&) = delete;
    TestCgroup& operator=(const TestCgroup&) = delete;

    const std::string& path() const { return path_; }
    bool enter() const noexcept;  // the calling process becomes a member; for a forked child
    bool frozen() const;          // as cgroup.events tells
    bool freeze_requested() const;

    static std::string unavailable();  // why there can be none here; "" if there can

private:
    std::string path_;
};

}  // namespace nodesnap::test

// Ends the test, with the reason, where cgroups can't be made.
#define NODESNAP_NEEDS_CGROUPS()                                             \
    do {                                                                     \
        const std::string why = ::nodesnap::test::TestCgroup::unavailable(); \
        if (!why.empty()) {                                                  \
            GTEST_SKIP() << why;                                             \
        }                                                                    \
    } while (false)
