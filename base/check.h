// base/check.h - programmer errors stop the process, in every build type. Never for something that
// a peer, a disk or a user can cause: that is a Status.
#pragma once
#include <cstdio>
#include <cstdlib>

#define TERRACE_CHECK(cond)                                                             \
  do {                                                                                  \
    if (!(cond)) [[unlikely]] {                                                         \
      std::fprintf(stderr, "%s:%d: broken invariant: %s\n", __FILE__, __LINE__, #cond); \
      std::abort();                                                                     \
    }                                                                                   \
  } while (false)
