"""Colours and order of technologies, the same in every chart.

Hues follow Paul Tol's and Okabe & Ito's colour-blind safe sets; neighbours in the stacking order also differ in
lightness, so that the stack reads in grey and on a dark page. Ramps are viridis-like (perceptually uniform).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

TECHNOLOGY: Mapping[str, tuple[str, str]] = {
    "nuclear": ("Nuclear", "#aa4499"),
    "lignite": ("Lignite", "#8c5a33"),
    "hard_coal": ("Hard coal", "#6b7178"),
    "coal": ("Coal", "#6b7178"),
    "waste": ("Waste", "#a08a1c"),
    "biomass": ("Biomass", "#2e8b4f"),
    "run_of_river": ("Run of river", "#1f8fa8"),
    "hydro": ("Hydro", "#0077bb"),
    "gas_ccgt": ("Gas, combined cycle", "#ee7733"),
    "gas_ocgt": ("Gas, open cycle", "#f2a77a"),
    "gas": ("Gas", "#ee7733"),
    "oil": ("Oil", "#993355"),
    "other": ("Other", "#b0b7bd"),
    "import": ("Import", "#8a9a2c"),
    "storage": ("Storage", "#44aa99"),
    "wind_offshore": ("Wind, offshore", "#3f5fb5"),
    "wind_onshore": ("Wind, onshore", "#88ccee"),
    "wind": ("Wind", "#88ccee"),
    "solar": ("Solar", "#e6b822"),
    "pv": ("Solar", "#e6b822"),
}
"""Label and colour by technology key, in stacking order from the bottom."""

_FURTHER = ("#66ccee", "#ccbb44", "#aa3377", "#228833", "#4477aa", "#ee6677")

CATEGORICAL = ("#0077bb", "#ee7733", "#009988", "#cc3311", "#aa4499", "#997700", "#33bbee", "#882255")
"""Colours of series that are no technology."""

VOLTAGE_LEVEL = ((300.0, "#a64db8", "380 kV"), (200.0, "#1f78c8", "220 kV"), (0.0, "#8a99a5", "110 kV and below"))
"""Lower bound in kV, colour and label; none of the colours is one of the classes of loading."""

Scale = tuple[tuple[float, str], ...]

SCALES: Mapping[str, Mapping[str, Scale]] = {
    "sequential": {
        "light": ((0.0, "#f4f6f1"), (0.25, "#bfe0c2"), (0.5, "#5fb7b0"), (0.75, "#2f78a8"), (1.0, "#2b2367")),
        "dark": ((0.0, "#1d2630"), (0.25, "#2b4f7d"), (0.5, "#2f8f99"), (0.75, "#8bcf9b"), (1.0, "#fbf3b9")),
    },
    "diverging": {
        "light": ((0.0, "#2166ac"), (0.25, "#92c5de"), (0.5, "#f5f5f2"), (0.75, "#f4a582"), (1.0, "#b2182b")),
        "dark": ((0.0, "#7fb8ea"), (0.25, "#2f6596"), (0.5, "#1d2630"), (0.75, "#9c4a36"), (1.0, "#f49a7c")),
    },
}
"""Colour scales by name and theme: the middle or low end fades into the page."""

LOADING_CLASS = (
    (0.5, "#8fa3b0", "below 50 %"),
    (0.7, "#2f9c95", "50 to 70 %"),
    (0.9, "#ddaa33", "70 to 90 %"),
    (1.0, "#ee7733", "90 to 100 %"),
    (float("inf"), "#cc3311", "above 100 %"),
)
"""Upper bound, colour and label of the classes of branch loading."""


def technology_key(technology: str) -> str:
    """Return the palette's key for a technology name; the name itself when the palette has none."""
    if technology in TECHNOLOGY:
        return technology
    family = technology.split("_", maxsplit=1)[0]
    return family if family in TECHNOLOGY else technology


def technology_style(technologies: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return {technology: (label, colour)} in stacking order; unknown ones come before the variable ones."""
    wanted = set(technologies)
    known = list(TECHNOLOGY)
    storage = known.index("storage")

    def rank(technology: str) -> tuple[int, str]:
        key = technology_key(technology)
        return (known.index(key) if key in TECHNOLOGY else storage, technology)

    style: dict[str, tuple[str, str]] = {}
    further = iter(_FURTHER * (1 + len(wanted) // len(_FURTHER)))
    taken: set[str] = set()
    for technology in sorted(wanted, key=rank):
        key = technology_key(technology)
        label, colour = TECHNOLOGY.get(key, (technology.replace("_", " ").capitalize(), ""))
        if key != technology and key in TECHNOLOGY:
            label = technology.replace("_", " ").capitalize()
        if not colour or colour in taken:
            colour = next(c for c in further)
        taken.add(colour)
        style[technology] = (label, colour)
    return style
