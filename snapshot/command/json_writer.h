// JsonWriter: writes one JSON document member by member, so that a listing of any length needs no memory.
//
// Strings that aren't UTF-8 are written with their bytes as \xNN; name() adds the exact bytes in base64 then. An error in the middle can
// still end the document properly: unwind() closes what is open down to the root object.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string_view>
#include <vector>

namespace nodesnap::command {

class JsonWriter {
public:
    explicit JsonWriter(std::ostream& out) : out_(out) {}

    void begin_object() { begin('{'); }
    void begin_object(std::string_view key);
    void begin_array() { begin('['); }
    void begin_array(std::string_view key);
    void end();  // the innermost open object or array
    bool started() const { return started_; }
    // Ends all but the root object.
    void unwind();

    void element(std::string_view text);  // of an array
    void member(std::string_view key, std::string_view text);
    void member(std::string_view key, const char* text) { member(key, std::string_view(text)); }
    void member(std::string_view key, double number);
    template <std::integral Number>
    void member(std::string_view key, Number number) {
        if constexpr (std::same_as<Number, bool>) {
            scalar(key, number ? "true" : "false");
        } else if constexpr (std::signed_integral<Number>) {
            integer(key, static_cast<std::int64_t>(number));
        } else {
            natural(key, static_cast<std::uint64_t>(number));
        }
    }
    void null(std::string_view key) { scalar(key, "null"); }
    // A file's name or path: KEY, and KEY_base64 with the exact bytes if they aren't UTF-8.
    void name(std::string_view key, std::string_view bytes);

private:
    static constexpr std::size_t kIndentedDepth = 2;  // what lies deeper is written on one line

    void begin(char bracket);
    void separate();
    void put_key(std::string_view key);
    void scalar(std::string_view key, std::string_view literal);
    void integer(std::string_view key, std::int64_t number);
    void natural(std::string_view key, std::uint64_t number);

    struct Level {
        char closing;
        bool empty = true;
    };
    std::ostream& out_;
    std::vector<Level> levels_;
    bool after_key_ = false;
    bool started_ = false;
};

}  // namespace nodesnap::command
