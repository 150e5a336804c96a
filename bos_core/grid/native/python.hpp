// What every extension takes from Python, and the instruction sets to choose from.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "pattern.hpp"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define BOS_DISPATCH
#include <immintrin.h>
#endif

namespace bos {

namespace py = pybind11;

// The data of a contiguous array attribute; it lives as long as its owner.
template <class T> T *data(const py::object &owner, const char *name) {
    auto array = py::cast<py::array>(owner.attr(name));
    if (!py::isinstance<py::array_t<T>>(array) || !(array.flags() & py::array::c_style))
        throw std::invalid_argument(std::string(name) + " must be contiguous and of the type that its class says");
    return static_cast<T *>(const_cast<void *>(array.data()));
}

inline Pattern read_pattern(const py::object &pattern) {
    Pattern read;
    read.n_bus = int(py::len(pattern.attr("y_diagonal")));
    read.y_ptr = data<int32_t>(pattern, "y_ptr"), read.y_column = data<int32_t>(pattern, "y_column");
    read.y_diagonal = data<int32_t>(pattern, "y_diagonal");
    read.l_ptr = data<int32_t>(pattern, "l_ptr"), read.l_column = data<int32_t>(pattern, "l_column");
    read.u_ptr = data<int32_t>(pattern, "u_ptr"), read.u_column = data<int32_t>(pattern, "u_column");
    read.l_of_u = data<int32_t>(pattern, "l_of_u");
    read.path_ptr = data<int32_t>(pattern, "path_ptr"), read.path = data<int32_t>(pattern, "path");
    return read;
}

// Instruction sets of this machine, the widest first.
inline std::vector<std::string> instruction_sets() {
    std::vector<std::string> sets;
#ifdef BOS_DISPATCH
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma"))
        sets.push_back("avx512");
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) sets.push_back("avx2");
#endif
    sets.push_back("generic");
    return sets;
}

} // namespace bos
