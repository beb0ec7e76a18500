// ReadLease: a proof that nobody can write to a file. The kernel gives one only while no descriptor and no mapping of the file, anybody's,
// is open for writing; who opens it so, or truncates it, while the lease lasts breaks it, and waits until it is given back. So it should
// last for moments. Making and removing names of the file, and changing its attributes, break nothing.
//
// A lease is the descriptor's: two of them on one descriptor are one. The signal that tells of a broken lease is SIGURG, which is ignored.
// Privileges: those of the file's owner, or CAP_LEASE. Any thread.
#pragma once

namespace nodesnap {

class ReadLease {
public:
    // `fd`: a regular file that is open for reading only, longer than this lives.
    explicit ReadLease(int fd) noexcept;
    ReadLease(const ReadLease&) = delete;
    ReadLease& operator=(const ReadLease&) = delete;
    ~ReadLease();

    // 0 if it was taken; EAGAIN: somebody can write to the file; another errno: leases can't be had here.
    int error() const noexcept { return error_; }
    // Whether nobody has broken it until now.
    bool lasts() const noexcept;

private:
    const int fd_;
    int error_ = 0;
};

}  // namespace nodesnap
