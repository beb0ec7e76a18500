// Sha256: a checksum that nobody can find another content for, by OpenSSL's library. Where tampering matters; XXH3 is for accidents, and
// faster.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

struct evp_md_ctx_st;

namespace nodesnap {

// Error::failed if the library can't, which needs no memory after the constructor. One thread at a time.
class Sha256 {
public:
    Sha256();
    void add(std::span<const std::byte> data);
    std::string hex();  // 64 digits; nothing may be added afterwards

    static std::string of(std::span<const std::byte> data) {
        Sha256 sum;
        sum.add(data);
        return sum.hex();
    }

private:
    struct Free {
        void operator()(evp_md_ctx_st* context) const noexcept;
    };
    std::unique_ptr<evp_md_ctx_st, Free> context_;
};

}  // namespace nodesnap
