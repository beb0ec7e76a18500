#include "io/sha256.h"

#include <openssl/evp.h>

#include <array>

#include "platform/error.h"

namespace nodesnap {
namespace {

void check(int done) {
    if (done != 1) {
        throw Error::failed("OpenSSL's library gives no SHA-256", "look whether its configuration forbids it");
    }
}

}  // namespace

void Sha256::Free::operator()(evp_md_ctx_st* context) const noexcept {
    EVP_MD_CTX_free(context);
}

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
    check(context_ ? EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) : 0);
}

void Sha256::add(std::span<const std::byte> data) {
    check(EVP_DigestUpdate(context_.get(), data.data(), data.size()));
}

std::string Sha256::hex() {
    constexpr const char* kDigits = "0123456789abcdef";
    std::array<unsigned char, EVP_MAX_MD_SIZE> sum{};
    unsigned length = 0;
    check(EVP_DigestFinal_ex(context_.get(), sum.data(), &length));
    std::string text;
    for (unsigned i = 0; i < length; ++i) {
        text += kDigits[sum.at(i) >> 4];
        text += kDigits[sum.at(i) & 15];
    }
    return text;
}

}  // namespace nodesnap
