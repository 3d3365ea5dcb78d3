#include "tools/cli/demo_documents.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tools/cli/local_node.h"

namespace terrace {
namespace {
namespace fs = std::filesystem;
constexpr int kLevelsUp = 5;
constexpr uintmax_t kFileBytesMax = uintmax_t{16} << 20;

struct Found {
  fs::path path;
  uintmax_t bytes = 0;
};

std::vector<Found> find_texts(const std::string& directory) {
  std::vector<Found> found;
  std::error_code failed;
  for (fs::recursive_directory_iterator it(directory, failed), end; !failed && it != end;
       it.increment(failed)) {
    const fs::path& path = it->path();
    std::error_code no_size;
    const uintmax_t bytes = it->is_regular_file(no_size) ? fs::file_size(path, no_size) : 0;
    const bool text = path.extension() == ".md" || path.extension() == ".txt";
    if (text && !no_size && bytes > 0 && bytes <= kFileBytesMax) found.push_back({path, bytes});
  }
  std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) {
    return a.bytes != b.bytes ? a.bytes > b.bytes : a.path < b.path;
  });
  return found;
}
}  // namespace

StatusOr<std::string> default_documents_directory() {
  TERRACE_ASSIGN_OR_RETURN(const std::string self, find_beside("terrace"));
  fs::path at = fs::path(self).parent_path();
  for (int level = 0; level < kLevelsUp; ++level, at = at.parent_path()) {
    const fs::path docs = at / "docs";
    std::error_code ignored;
    if (fs::exists(docs / "architecture.md", ignored)) return docs.string();
  }
  return error(StatusCode::kNotFound, "no docs directory above " + self + ": name one with --docs");
}

StatusOr<std::vector<Document>> load_documents(const std::string& directory,
                                               const DocumentLimits& limits) {
  std::error_code ignored;
  if (!fs::is_directory(directory, ignored)) {
    return error(StatusCode::kNotFound, "documents: " + directory + " is no directory");
  }
  std::vector<Document> documents;
  for (const Found& found : find_texts(directory)) {
    if (documents.size() == limits.documents_max || found.bytes < limits.bytes_min) break;
    std::ifstream file(found.path, std::ios::binary);
    Document document;
    document.name = fs::relative(found.path, directory, ignored).string();
    document.text.assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    if (!file && document.text.empty()) {
      return error(StatusCode::kNotFound, "documents: cannot read " + found.path.string());
    }
    if (document.text.size() > limits.bytes_max) document.text.resize(limits.bytes_max);
    documents.push_back(std::move(document));
  }
  if (!documents.empty()) return documents;
  return error(StatusCode::kNotFound, "documents: " + directory +
                                          " holds no .md or .txt file of at least " +
                                          std::to_string(limits.bytes_min) + " bytes");
}

std::string prefix_of(const Document& document) {
  return "Answer from this page.\n\n# " + document.name + "\n\n" + document.text;
}

const std::vector<std::string>& demo_questions() {
  static const auto* const questions = new std::vector<std::string>{
      "What is this page about?",
      "What would a newcomer have to know before reading it?",
  };
  return *questions;
}

std::string prompt_of(const Document& document, const std::string& question) {
  return prefix_of(document) + "\n\nQuestion: " + question + "\nAnswer:";
}
}  // namespace terrace
