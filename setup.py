"""The compiled extensions; everything else is in pyproject.toml.

Where no compiler is at hand the package installs without them: `bos_core.grid.n1_kernels` and
`bos_core.grid.power_flow` then use numba.
"""

from glob import glob

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup

SOURCES = "bos_core/grid/native"

setup(
    ext_modules=[
        Pybind11Extension(
            f"bos_core.grid.{name}_native",
            [f"{SOURCES}/{name}_module.cpp"],
            depends=sorted(glob(f"{SOURCES}/*")),
            cxx_std=17,
            extra_compile_args=["-O3", "-fno-math-errno", "-Wno-psabi"],
            optional=True,
        )
        for name in ("hours", "n1")
    ]
)
