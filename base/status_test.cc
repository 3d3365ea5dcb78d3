// Goal: statuses keep code and sentence, and numbers are gRPC's.
// Method: a table.
#include "base/status.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace terrace {
namespace {

Status fails_when(bool fail) {
  TERRACE_RETURN_IF_ERROR(fail ? error(StatusCode::kNotFound, "k") : ok_status());
  return error(StatusCode::kAborted, "went on");
}
StatusOr<int> doubled(StatusOr<int> in) {
  TERRACE_ASSIGN_OR_RETURN(const int value, std::move(in));
  return 2 * value;
}

TEST(Status, CodesAndText) {
  EXPECT_TRUE(ok_status().ok());
  EXPECT_EQ(static_cast<int>(StatusCode::kDataLoss), 15);
  EXPECT_EQ(status_code_of(8), StatusCode::kResourceExhausted);
  EXPECT_EQ(status_code_of(99), StatusCode::kUnknown);
  EXPECT_EQ(status_code_of(-1), StatusCode::kUnknown);
  EXPECT_EQ(error(StatusCode::kDataLoss, "unit 3").to_string(), "DATA_LOSS: unit 3");
  EXPECT_EQ(Status(StatusCode::kNotFound).to_string(), "NOT_FOUND");
  Status first;
  first.update(StatusCode::kNotFound);
  first.update(StatusCode::kInternal);
  EXPECT_EQ(first.code(), StatusCode::kNotFound);
}

TEST(Status, Macros) {
  EXPECT_EQ(fails_when(true).code(), StatusCode::kNotFound);
  EXPECT_EQ(fails_when(false).code(), StatusCode::kAborted);
  EXPECT_EQ(*doubled(21), 42);
  EXPECT_EQ(doubled(StatusCode::kNotFound).status().code(), StatusCode::kNotFound);
}

TEST(Status, ErrnoMapsByWhatTheCallerShouldDo) {
  EXPECT_EQ(errno_status(ENOSPC, "x").code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(errno_status(EIO, "x").code(), StatusCode::kDataLoss);
  EXPECT_EQ(errno_status(ECONNRESET, "x").code(), StatusCode::kUnavailable);
  EXPECT_EQ(errno_status(ENOENT, "open /a").message().substr(0, 8), "open /a:");
}
}  // namespace
}  // namespace terrace
