// tools/cli/demo_documents.h - the documents of a demo, and the questions asked about them. Pure
// but for reading the files.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "base/status.h"

namespace terrace {

struct Document {
  std::string name;
  std::string text;
};

/// The `docs` directory of the checkout that this program was built in. kNotFound: pass --docs.
StatusOr<std::string> default_documents_directory();

struct DocumentLimits {
  size_t documents_max = 4;
  size_t bytes_min = 0;  // shorter files are left out: with one token per byte, a prompt's size
  size_t bytes_max = 0;  // longer ones are cut
};
/// The .md and .txt files of `directory` and below, the largest first, then by name. kNotFound:
/// there is no directory, or no file of that size.
StatusOr<std::vector<Document>> load_documents(const std::string& directory,
                                               const DocumentLimits& limits);

/// The part that all questions about a document share.
std::string prefix_of(const Document& document);
/// What is asked about every document.
const std::vector<std::string>& demo_questions();
std::string prompt_of(const Document& document, const std::string& question);
}  // namespace terrace
