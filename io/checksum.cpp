#include "io/checksum.h"

#define XXH_STATIC_LINKING_ONLY  // for the secret that is made once instead of with each call
#include <xxhash.h>
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>
#endif

namespace nodesnap {
namespace {

// Up to this length XXH3 takes the seed itself; beyond it, only the secret that the seed makes.
constexpr std::size_t kSeededBytes = 240;

// The library's plain functions are compiled for the oldest processor; on x86 it also has some that ask for the vector width.
// Both give the same checksums.
XXH128_hash_t long_checksum(std::span<const std::byte> data, std::span<const std::byte> secret) noexcept {
#if defined(__x86_64__)
    return XXH3_128bits_withSecret_dispatch(data.data(), data.size(), secret.data(), secret.size());
#else
    return XXH3_128bits_withSecret(data.data(), data.size(), secret.data(), secret.size());
#endif
}

}  // namespace

std::string Checksum::hex() const {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string text(32, '0');
    for (unsigned i = 0; i < 16; ++i) {
        text[i] = kDigits[(high >> (60 - 4 * i)) & 0xf];
        text[16 + i] = kDigits[(low >> (60 - 4 * i)) & 0xf];
    }
    return text;
}

Hasher::Hasher(std::uint64_t seed) : seed_(seed), secret_{} {
    static_assert(kSecretBytes == XXH3_SECRET_DEFAULT_SIZE);
    XXH3_generateSecret_fromSeed(secret_.data(), seed);
}

Checksum Hasher::operator()(std::span<const std::byte> data) const noexcept {
    const XXH128_hash_t hash =
        data.size() <= kSeededBytes ? XXH3_128bits_withSeed(data.data(), data.size(), seed_) : long_checksum(data, secret_);
    return {hash.low64, hash.high64};
}

}  // namespace nodesnap
