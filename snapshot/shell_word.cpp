#include "snapshot/shell_word.h"

#include <algorithm>

namespace nodesnap {
namespace {

constexpr std::string_view kPlain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./,:=@%+-";

bool printable(char c) {
    return c >= ' ' && c <= '~';
}

std::string with_escapes(std::string_view word) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string quoted = "$'";
    bool after_hex = false;  // a digit behind an escape would belong to it
    for (const char c : word) {
        const auto byte = static_cast<unsigned char>(c);
        if (!printable(c) || (after_hex && kDigits.find(static_cast<char>(byte | 0x20U)) != std::string_view::npos)) {
            quoted += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 0xfU]};
            after_hex = true;
            continue;
        }
        after_hex = false;
        if (c == '\\' || c == '\'') {
            quoted += '\\';
        }
        quoted += c;
    }
    return quoted + "'";
}

}  // namespace

std::string shell_word(std::string_view word) {
    if (!word.empty() && word.find_first_not_of(kPlain) == std::string_view::npos) {
        return std::string(word);
    }
    if (!std::all_of(word.begin(), word.end(), printable)) {
        return with_escapes(word);
    }
    std::string quoted = "'";
    for (const char c : word) {
        quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
    }
    return quoted + "'";
}

}  // namespace nodesnap
