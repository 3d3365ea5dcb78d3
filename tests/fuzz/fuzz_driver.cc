// tests/fuzz/fuzz_driver.cc - runs a fuzz target without libFuzzer: the inputs of a corpus
// directory (or of none), then mutations of them from a seed for a bounded time. A crash prints the
// seed, the round and leaves the input in fuzz-crash.bin. Usage: X_fuzz [CORPUS_DIR] [--seconds N]
// [--seed S], or X_fuzz --write-seeds DIR
#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/prng.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
/// A target may bring inputs of its own: the i-th one into `out` (its size), 0 when there are no
/// more.
extern "C" __attribute__((weak)) size_t TerraceFuzzSeed(size_t i, uint8_t* out, size_t out_max);

namespace {

constexpr size_t kInputBytesMax = 64 * 1024;
using Input = std::vector<uint8_t>;

struct Current {
  Input input;
  uint64_t seed = 1;
  uint64_t round = 0;
} current;  // what a crash is to tell

void on_crash(int signal_number) {
  std::signal(signal_number, SIG_DFL);
  std::fprintf(stderr, "crash: seed %llu round %llu, %zu bytes in fuzz-crash.bin\n",
               static_cast<unsigned long long>(current.seed),
               static_cast<unsigned long long>(current.round), current.input.size());
  if (std::FILE* file = std::fopen("fuzz-crash.bin", "wb")) {
    (void)std::fwrite(current.input.data(), 1, current.input.size(), file);
    (void)std::fclose(file);
  }
  (void)std::raise(signal_number);
}

std::vector<Input> load(const std::string& directory) {
  std::vector<Input> corpus{{}};
  for (size_t i = 0; TerraceFuzzSeed != nullptr; ++i) {
    Input input(kInputBytesMax);
    input.resize(TerraceFuzzSeed(i, input.data(), input.size()));
    if (input.empty()) break;
    corpus.push_back(std::move(input));
  }
  if (directory.empty()) return corpus;
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.is_regular_file()) names.push_back(entry.path().string());
  }
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    std::ifstream file(name, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return corpus;
}

void mutate_once(const std::vector<Input>& corpus, terrace::Prng* prng, Input* input) {
  const auto at = [&] { return static_cast<ptrdiff_t>(prng->below(input->size() + 1)); };
  switch (prng->below(6)) {
    case 0:  // flip a bit
      if (!input->empty()) {
        (*input)[prng->below(input->size())] ^= static_cast<uint8_t>(1u << prng->below(8));
      }
      break;
    case 1:  // a byte that likes to break things
      if (!input->empty()) {
        constexpr uint8_t kEdges[] = {0, 1, 0x7F, 0x80, 0xFF};
        (*input)[prng->below(input->size())] = kEdges[prng->below(std::size(kEdges))];
      }
      break;
    case 2:  // cut
      input->resize(static_cast<size_t>(at()));
      break;
    case 3: {  // splice
      const Input& other = corpus[prng->below(corpus.size())];
      input->insert(input->begin() + at(), other.begin(), other.end());
      break;
    }
    case 4: {  // random bytes
      std::vector<std::byte> bytes(1 + prng->below(32));
      prng->fill(bytes);
      const auto* first = reinterpret_cast<const uint8_t*>(bytes.data());
      input->insert(input->begin() + at(), first, first + bytes.size());
      break;
    }
    default: {  // drop a run
      const ptrdiff_t from = at();
      const auto left = static_cast<uint64_t>(std::distance(input->begin() + from, input->end()));
      input->erase(input->begin() + from,
                   input->begin() + from + static_cast<ptrdiff_t>(prng->below(left + 1)));
      break;
    }
  }
  if (input->size() > kInputBytesMax) input->resize(kInputBytesMax);
}

int write_seeds(const std::string& directory) {
  std::filesystem::create_directories(directory);
  size_t written = 0;
  for (const Input& input : load({})) {
    std::ofstream file(directory + "/seed-" + std::to_string(written++), std::ios::binary);
    file.write(reinterpret_cast<const char*>(input.data()),
               static_cast<std::streamsize>(input.size()));
    if (!file) return 1;
  }
  return 0;
}

bool number(const char* text, uint64_t* value) {
  const char* end = text + std::strlen(text);
  return std::from_chars(text, end, *value).ptr == end;
}
}  // namespace

int main(int argc, char** argv) {
  std::string directory;
  uint64_t seconds_max = 2;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const bool has_value = i + 1 < argc;
    if (word == "--write-seeds" && has_value) return write_seeds(argv[i + 1]);
    if (word == "--seconds" && has_value && number(argv[i + 1], &seconds_max)) {
      ++i;
    } else if (word == "--seed" && has_value && number(argv[i + 1], &current.seed)) {
      ++i;
    } else if (word[0] != '-') {
      directory = word;
    } else {
      std::fprintf(stderr, "usage: %s [CORPUS_DIR] [--seconds N] [--seed S] | --write-seeds DIR\n",
                   argv[0]);
      return 2;
    }
  }
  std::signal(SIGABRT, on_crash);
  std::signal(SIGSEGV, on_crash);
  const std::vector<Input> corpus = load(directory);
  for (const Input& input : corpus) {
    current.input = input;
    (void)LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  terrace::Prng prng(current.seed);
  const terrace::SystemClock clock;
  const terrace::Nanos end = clock.now() + std::chrono::seconds(seconds_max);
  while (clock.now() < end) {
    ++current.round;
    current.input = corpus[prng.below(corpus.size())];
    for (uint64_t n = 1 + prng.below(8); n > 0; --n) mutate_once(corpus, &prng, &current.input);
    (void)LLVMFuzzerTestOneInput(current.input.data(), current.input.size());
  }
  std::printf("%zu inputs, %llu mutations, seed %llu: no crash\n", corpus.size(),
              static_cast<unsigned long long>(current.round),
              static_cast<unsigned long long>(current.seed));
  return 0;
}
