#include "snapshot/command/printable.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace nodesnap::command {
namespace {

struct Character {
    std::size_t length = 0;  // 0: not valid UTF-8
    std::uint32_t code = 0;
};

// The character at the beginning of `bytes`, which isn't empty. Over-long forms, surrogates and codes past U+10FFFF aren't valid.
Character decode(std::string_view bytes) noexcept {
    const auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
    const unsigned char first = at(0);
    if (first < 0x80) {
        return {1, first};
    }
    const std::size_t length = first >= 0xf0 && first < 0xf5   ? 4
                               : first >= 0xe0 && first < 0xf0 ? 3
                               : first >= 0xc2 && first < 0xe0 ? 2
                                                               : 0;
    if (length == 0 || bytes.size() < length) {
        return {};
    }
    std::uint32_t code = first & (0xffU >> (length + 1));
    for (std::size_t i = 1; i < length; ++i) {
        if ((at(i) & 0xc0U) != 0x80) {
            return {};
        }
        code = code << 6 | (at(i) & 0x3fU);
    }
    const bool over_long = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
    if (over_long || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
        return {};
    }
    return {length, code};
}

// Controls, and what changes the direction or the lines of the text around it.
bool harmful(std::uint32_t code) noexcept {
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x061c || (code >= 0x200b && code <= 0x200f) ||
           (code >= 0x2028 && code <= 0x202e) || (code >= 0x2060 && code <= 0x206f) || code == 0xfeff ||
           (code >= 0xfff9 && code <= 0xfffb) || code >= 0xe0000;
}

// By the blocks of Unicode; the C library's wcwidth() knows them in the right locale only.
std::size_t columns_of(std::uint32_t code) noexcept {
    const bool combining = (code >= 0x300 && code < 0x370) || (code >= 0x1ab0 && code < 0x1b00) || (code >= 0x20d0 && code < 0x2100) ||
                           (code >= 0xfe00 && code < 0xfe10) || (code >= 0xfe20 && code < 0xfe30);
    const bool wide = (code >= 0x1100 && code < 0x1160) || (code >= 0x2e80 && code < 0xa4d0) || (code >= 0xac00 && code < 0xd7a4) ||
                      (code >= 0xf900 && code < 0xfb00) || (code >= 0xfe30 && code < 0xfe70) || (code >= 0xff00 && code < 0xff61) ||
                      (code >= 0xffe0 && code < 0xffe7) || (code >= 0x1f300 && code < 0x1fb00) || (code >= 0x20000 && code < 0x40000);
    return combining ? 0 : wide ? 2 : 1;
}

void append_hex(std::string& text, char byte) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    const auto value = static_cast<unsigned char>(byte);
    text += "\\x";
    text += kDigits[value >> 4];
    text += kDigits[value & 0xfU];
}

std::string escape(std::string_view bytes, bool double_backslash) {
    std::string text;
    text.reserve(bytes.size());
    while (!bytes.empty()) {
        const Character character = decode(bytes);
        const std::size_t length = character.length == 0 ? 1 : character.length;
        if (character.length == 0 || harmful(character.code)) {
            for (std::size_t i = 0; i < length; ++i) {
                append_hex(text, bytes[i]);
            }
        } else {
            if (double_backslash && character.code == '\\') {
                text += '\\';
            }
            text.append(bytes.substr(0, length));
        }
        bytes.remove_prefix(length);
    }
    return text;
}

}  // namespace

bool is_utf8(std::string_view bytes) noexcept {
    while (!bytes.empty()) {
        const Character character = decode(bytes);
        if (character.length == 0) {
            return false;
        }
        bytes.remove_prefix(character.length);
    }
    return true;
}

std::string printable_name(std::string_view name) {
    return escape(name, true);
}
std::string printable_text(std::string_view text) {
    return escape(text, false);
}

std::string shortened(std::string text) {
    constexpr std::size_t kLongest = 60;
    if (text.size() <= kLongest) {
        return text;
    }
    std::size_t end = 0;
    while (end < text.size()) {
        const std::size_t length = std::max<std::size_t>(decode(std::string_view(text).substr(end)).length, 1);
        if (end + length > kLongest) {
            break;
        }
        end += length;
    }
    return text.substr(0, end) + "...";
}

std::size_t columns_of(std::string_view text) noexcept {
    std::size_t columns = 0;
    while (!text.empty()) {
        const Character character = decode(text);
        columns += character.length == 0 ? 1 : columns_of(character.code);
        text.remove_prefix(std::max<std::size_t>(character.length, 1));
    }
    return columns;
}

std::string counted(std::uint64_t count, std::string_view singular, std::string_view plural) {
    return std::to_string(count) + " " + std::string(count == 1 ? singular : plural);
}

std::string counts_of(std::uint64_t files, std::uint64_t directories, std::uint64_t others) {
    return counted(files, "file", "files") + ", " + counted(directories, "directory", "directories") + ", " +
           counted(others, "other", "others");
}

std::string base64(std::string_view bytes) {
    constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    text.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        std::uint32_t group = 0;
        for (std::size_t k = 0; k < 3; ++k) {
            group = group << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0U);
        }
        for (std::size_t k = 0; k < 4; ++k) {
            text += i + k > bytes.size() ? '=' : kAlphabet[group >> (18 - 6 * k) & 0x3fU];
        }
    }
    return text;
}

}  // namespace nodesnap::command
