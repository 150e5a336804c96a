// `Pattern` of elimination.py: buses are numbered by elimination position.
#pragma once
#include <cstdint>

namespace bos {

struct Pattern {
    int n_bus;
    const int32_t *y_ptr, *y_column, *y_diagonal, *l_ptr, *l_column, *u_ptr, *u_column, *l_of_u, *path_ptr, *path;
};

} // namespace bos
