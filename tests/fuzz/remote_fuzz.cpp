#include "tests/fuzz/parsers.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    nodesnap::test::fuzz_remote(std::as_bytes(std::span(data, size)));
    return 0;
}
