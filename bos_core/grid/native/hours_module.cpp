// The way in from Python, and one copy of the solver for every instruction set, chosen at run time.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <optional>

#include "hours_data.hpp"
#include "python.hpp"

#define BOS_LANES 8

namespace bos {
#ifdef BOS_DISPATCH
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")
namespace avx512 {
#define BOS_REGISTER 64
#include "vectors.inc"
#include "hours_lanes.inc"
#undef BOS_REGISTER
} // namespace avx512
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {
#define BOS_REGISTER 32
#include "vectors.inc"
#include "hours_lanes.inc"
#undef BOS_REGISTER
} // namespace avx2
#pragma GCC pop_options
#endif
namespace generic {
#define BOS_REGISTER 16
#include "vectors.inc"
#include "hours_lanes.inc"
#undef BOS_REGISTER
} // namespace generic
} // namespace bos

namespace py = pybind11;

namespace {

using bos::data;
using Weight = std::optional<py::array_t<double, py::array::c_style>>;

auto chosen(const std::string &instruction_set) {
#ifdef BOS_DISPATCH
    if (instruction_set == "avx512") return bos::avx512::solve_hours;
    if (instruction_set == "avx2") return bos::avx2::solve_hours;
#endif
    if (instruction_set == "generic") return bos::generic::solve_hours;
    throw std::invalid_argument("unknown instruction set " + instruction_set);
}

bos::Series read_series(const py::object &injections, const Weight &weight) {
    bos::Series series;
    series.hours = int64_t(py::len(injections.attr("p_pu")));
    series.p = data<double>(injections, "p_pu"), series.q = data<double>(injections, "q_pu");
    series.p_current = data<double>(injections, "p_current_pu");
    series.q_current = data<double>(injections, "q_current_pu");
    series.p_impedance = data<double>(injections, "p_impedance_pu");
    series.q_impedance = data<double>(injections, "q_impedance_pu");
    series.vm_set = data<double>(injections, "vm_set_pu");
    series.q_min = data<double>(injections, "q_pu_min"), series.q_max = data<double>(injections, "q_pu_max");
    series.controls = data<bool>(injections, "voltage_control");
    series.weight = weight ? weight->data() : nullptr;
    return series;
}

bos::Networks read_networks(const py::object &networks) {
    return {data<double>(networks, "g"), data<double>(networks, "b"), data<double>(networks, "dc"),
            data<double>(networks, "dc_power"), data<int64_t>(networks, "of_hour")};
}

bos::HoursFound read_found(const py::object &found) {
    return {data<double>(found, "vr"),       data<double>(found, "vi"),      data<double>(found, "p"),
            data<double>(found, "q"),        data<double>(found, "balance"), data<double>(found, "residual"),
            data<int8_t>(found, "control"),  data<int64_t>(found, "iterations"), data<bool>(found, "solved")};
}

void solve(const py::object &pattern, const py::array_t<int64_t, py::array::c_style> &order, int slack,
           const py::object &networks, const py::object &injections, const Weight &weight,
           const py::object &found, double tolerance, int iterations_max, bool enforce, double limit_tolerance,
           int returns_max, int rounds_max, int lost, double diverged, const std::string &instruction_set) {
    const bos::Pattern net = bos::read_pattern(pattern);
    const bos::Networks given = read_networks(networks);
    const bos::Series series = read_series(injections, weight);
    const bos::HoursFound out = read_found(found);
    const bos::HoursSettings settings{tolerance,   iterations_max, enforce, limit_tolerance,
                                      returns_max, rounds_max,     lost,    diverged};
    const auto run = chosen(instruction_set);
    py::gil_scoped_release others_may_run;
    run(net, order.data(), slack, given, series, settings, out);
}

} // namespace

PYBIND11_MODULE(hours_native, module) {
    module.doc() = "AC power flow of the hours of a series, side by side in vector registers.";
    module.def("instruction_sets", &bos::instruction_sets, "Return the instruction sets of this machine, the widest first.");
    module.def("solve", &solve, py::arg("pattern"), py::arg("order"), py::arg("slack"), py::arg("networks"),
               py::arg("injections"), py::arg("weight"), py::arg("found"), py::kw_only(),
               py::arg("tolerance"), py::arg("iterations_max"), py::arg("enforce"), py::arg("limit_tolerance"),
               py::arg("returns_max"), py::arg("rounds_max"), py::arg("lost"), py::arg("diverged"),
               py::arg("instruction_set"),
               "Solve the hours from the voltages in `found`, into it; hours not solved keep theirs.");
}
