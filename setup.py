"""The compiled extension; everything else is in pyproject.toml.

Where no compiler is at hand the package installs without it: `bos_core.grid.n1_kernels` then uses numba.
"""

from glob import glob

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup

SOURCES = "bos_core/grid/native"

setup(
    ext_modules=[
        Pybind11Extension(
            "bos_core.grid.n1_native",
            [f"{SOURCES}/n1_module.cpp"],
            depends=sorted(glob(f"{SOURCES}/*")),
            cxx_std=17,
            extra_compile_args=["-O3", "-fno-math-errno", "-Wno-psabi"],
            optional=True,
        )
    ]
)
