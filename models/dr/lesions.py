"""The lesions of diabetic retinopathy, and which of them make which grade.

Wilkinson et al., "Proposed international clinical diabetic retinopathy and diabetic macular edema
disease severity scales" (Ophthalmology 2003). Every painter returns nothing and marks the pixels
of its lesion in the mask of that kind.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from models.dr.anatomy import Eye, Vessel, walk
from models.dr.canvas import Canvas, Window

KINDS = (
    "microaneurysms",
    "haemorrhages",
    "exudates",
    "cotton_wool",
    "venous_beading",
    "neovessels",
    "laser_scars",
    "preretinal_haemorrhage",
)
# The kinds any one of which makes a grade by itself, beside signs of lower grades.
DECIDING = {
    1: ("microaneurysms",),
    2: ("haemorrhages", "exudates", "cotton_wool"),
    3: ("haemorrhages", "venous_beading"),
    4: ("neovessels", "laser_scars", "preretinal_haemorrhage"),
}


@dataclass
class Patient:
    """An eye on its canvas, its masks, and the chance that decides what befalls it.

    Lesions of the kind ``without`` are marked where they would be, but not painted.
    """

    canvas: Canvas
    eye: Eye
    rng: np.random.Generator
    without: str | None = None
    masks: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (self.canvas.size, self.canvas.size)
        self.masks.update({kind: np.zeros(shape, bool) for kind in KINDS})

    def lay(self, kind: str, layer: str, matter: np.ndarray, window: Window = np.s_[:, :]) -> None:
        """Add what a lesion consists of, unless its kind is left out."""
        if kind != self.without:
            self.canvas.add(layer, matter, window)

    def spot(self, kind: str, layer: str, at: np.ndarray, strength: float, **shape: float) -> None:
        """Paint one blob of a lesion and mark its pixels."""
        window, cover = self.canvas.blob(self.rng, at, **shape)
        self.lay(kind, layer, strength * cover, window)
        self.masks[kind][window] |= cover > 0.5

    def place(self, spread: float = 0.5, quadrant: int | None = None) -> np.ndarray:
        """Choose a spot in view, off the disc and the fovea, mostly near the posterior pole."""
        while True:
            at = self.rng.normal([0.05, 0], spread)
            if quadrant is not None:
                at = np.abs(at) * [(1, -1)[quadrant % 2], (1, -1)[quadrant // 2]]
            clear = np.hypot(*(at - self.eye.disc)) > 1.5 * self.eye.disc_radius
            if clear and np.hypot(*at) < 0.9 and np.hypot(*(at - self.eye.fovea)) > 0.06:
                return at


def afflict(patient: Patient, grade: int) -> None:
    """Give an eye the lesions that define a grade from 0 (none) to 4 (proliferative)."""
    rng = patient.rng
    if grade == 1:
        microaneurysms(patient, rng.integers(2, 13))
    if grade == 2:
        microaneurysms(patient, rng.integers(5, 20))
        haemorrhages(patient, rng.integers(2, 13))
        milder(patient, 0.65, 0.35)
    if grade == 3:
        microaneurysms(patient, rng.integers(12, 35))
        haemorrhages(patient, rng.integers(20, 48), quadrants=True)
        beading(patient, rng.integers(1, 5))
        milder(patient, 0.65, 0.5)
    if grade == 4:
        microaneurysms(patient, rng.integers(5, 25))
        haemorrhages(patient, rng.integers(3, 30))
        milder(patient, 0.5, 0.35)
        signs = (neovessels, laser_scars, preretinal_haemorrhage)
        shown = rng.random(3) < (0.6, 0.5, 0.35)
        shown[rng.integers(3)] = True
        for sign, here in zip(signs, shown, strict=True):
            if here:
                sign(patient)


def afflict_by(patient: Patient, grade: int, sole: str) -> None:
    """Give an eye a grade that one kind of lesion decides: without it, a lower grade is true.

    Beside it are few microaneurysms and, in half the eyes of grades 3 and 4, signs of grade 2.
    """
    rng = patient.rng
    microaneurysms(patient, rng.integers(2, 13))
    if grade > 2 and rng.random() < 0.5:
        if sole != "haemorrhages":
            haemorrhages(patient, rng.integers(2, 13))
        milder(patient, 0.4, 0.3)
    if sole == "haemorrhages" and grade == 3:
        haemorrhages(patient, rng.integers(20, 48), quadrants=True)
    elif sole == "haemorrhages":
        haemorrhages(patient, rng.integers(2, 13))
    elif sole == "exudates":
        exudates(patient, rng.integers(1, 5))
    elif sole == "cotton_wool":
        cotton_wool(patient, rng.integers(2, 6))
    elif sole == "venous_beading":
        beading(patient, rng.integers(3, 6))
    elif sole == "neovessels":
        neovessels(patient)
    elif sole == "laser_scars":
        laser_scars(patient)
    elif sole == "preretinal_haemorrhage":
        preretinal_haemorrhage(patient)


def milder(patient: Patient, exuding: float, cotton: float) -> None:
    """Add exudates and cotton-wool spots, each with the given chance."""
    if patient.rng.random() < exuding:
        exudates(patient, patient.rng.integers(1, 4))
    if patient.rng.random() < cotton:
        cotton_wool(patient, patient.rng.integers(1, 5))


# ----- Leaking: grades 1 to 3 -----


def microaneurysms(patient: Patient, count: int) -> None:
    """Paint small round red dots, bulges of the capillaries."""
    for _ in range(count):
        radius, strength = patient.rng.uniform((0.0055, 0.4), (0.0105, 0.9))
        patient.spot(
            "microaneurysms", "blood", patient.place(0.38), strength, radius=radius, rough=0.15
        )


def haemorrhages(patient: Patient, count: int, quadrants: bool = False) -> None:
    """Paint dots, blots and flames of blood; flames lie along the nerve fibres."""
    rng = patient.rng
    for i in range(count):
        at = patient.place(0.45, i % 4 if quadrants else None)
        outward = at - patient.eye.disc
        flame = rng.random() < 0.3
        patient.spot(
            "haemorrhages",
            "blood",
            at,
            rng.uniform(0.5, 1.05),
            radius=np.clip(rng.lognormal(np.log(0.019), 0.4), 0.012, 0.06) * (0.7 if flame else 1),
            rough=rng.uniform(0.2, 0.5),
            stretch=rng.uniform(2, 3.2) if flame else rng.uniform(1, 1.4),
            angle=np.arctan2(outward[1], outward[0]) if flame else rng.uniform(0, np.pi),
            soft=rng.uniform(0.008, 0.028),
        )


def exudates(patient: Patient, clusters: int) -> None:
    """Paint clusters of sharp yellow specks of fat, some in a ring about a leak."""
    rng = patient.rng
    for _ in range(clusters):
        middle = patient.eye.fovea + rng.normal([0.02, 0], 0.24)
        spread = rng.uniform(0.03, 0.09)
        ring = rng.random() < 0.35
        for _ in range(rng.integers(10, 45)):
            away = rng.normal(0, spread, 2)
            if ring:
                away *= 1.7 * spread / (np.hypot(*away) + 1e-6) * rng.normal(1, 0.12)
            near = np.exp(-((np.hypot(*away) / spread) ** 2) / 2)
            radius = rng.uniform(0.004, 0.008 + 0.011 * near)
            if np.hypot(*(middle + away)) < 0.93:
                strength = rng.uniform(0.55, 1)
                patient.spot(
                    "exudates", "exudate", middle + away, strength, radius=radius, rough=0.5
                )


def cotton_wool(patient: Patient, count: int) -> None:
    """Paint soft white patches, swellings of nerve fibres whose capillary is blocked."""
    for _ in range(count):
        radius, angle, strength = patient.rng.uniform((0.025, 0, 0.45), (0.045, np.pi, 0.8))
        patient.spot(
            "cotton_wool",
            "cotton",
            patient.place(0.45),
            strength,
            radius=radius,
            rough=0.5,
            stretch=patient.rng.uniform(1, 1.7),
            angle=angle,
            soft=0.03,
        )


def beading(patient: Patient, count: int) -> None:
    """Let stretches of large veins swell and narrow like a string of beads."""
    # Beads where a vein thins to its end would end in a blot.
    whole = [(v, int((v.thinning == 1).sum())) for v in patient.eye.vessels if v.vein]
    veins = [(v, n) for v, n in whole if v.width[0] > 0.015 and n - len(v.points) / 2 > 12]
    tracks = []
    for i in patient.rng.permutation(len(veins))[:count]:
        vein, last = veins[i]
        first = int(len(vein.points) * patient.rng.uniform(0.15, 0.5))
        points, width = (part[first:last][:45] for part in (vein.points, vein.width))
        swell = 1.1 + 0.65 * np.sin(np.arange(len(points)) * 2 * np.pi / 6)
        tracks.append((points, np.maximum(width, 0.016) * swell, 0.95))
    mark(patient, "venous_beading", "blood", patient.canvas.ribbons(tracks))


# ----- Growing: grade 4 -----


def neovessels(patient: Patient) -> None:
    """Paint lace of fine curling new vessels, at the disc or along the large vessels."""
    rng, eye = patient.rng, patient.eye
    large: list[Vessel] = [v for v in eye.vessels if v.width[0] > 0.015 and len(v.points) > 40]
    tracks = []
    for _ in range(rng.integers(1, 4)):
        root = eye.disc + rng.normal(0, 0.03, 2)
        if rng.random() < 0.6:
            stem = large[rng.integers(len(large))].points
            root = stem[int(len(stem) * rng.uniform(0.3, 0.8))]
        for _ in range(rng.integers(14, 26)):
            start = root + rng.normal(0, 0.03, 2)
            heading = rng.uniform(0, 2 * np.pi)
            headings = (heading, heading + rng.normal(0, 2.5))
            points = walk(rng, start, headings, rng.uniform(0.1, 0.24), 1.6)
            width = np.full(len(points), rng.uniform(0.0035, 0.007))
            tracks.append((points, width, rng.uniform(0.4, 0.8)))
    mark(patient, "neovessels", "blood", patient.canvas.ribbons(tracks))


def laser_scars(patient: Patient) -> None:
    """Paint burns set by laser around the periphery: pale, with dark pigment gathered inside."""
    rng = patient.rng
    first, arc = rng.uniform(0, 2 * np.pi), rng.uniform(2, 2 * np.pi)
    for _ in range(rng.integers(35, 110)):
        angle, away = first + rng.uniform(0, arc), rng.uniform(0.55, 0.94)
        at = away * np.array([np.cos(angle), np.sin(angle)])
        if np.hypot(*(at - patient.eye.disc)) < 2 * patient.eye.disc_radius:
            continue
        radius = rng.uniform(0.014, 0.032)
        strength = rng.uniform(0.3, 0.75)
        patient.spot("laser_scars", "scar", at, strength, radius=radius, rough=0.3, soft=0.012)
        if rng.random() < 0.6:
            grain = at + rng.normal(0, 0.3 * radius, 2)
            window, cover = patient.canvas.blob(rng, grain, 0.5 * radius, 0.8, soft=0.02)
            patient.lay("laser_scars", "pigment", rng.uniform(0.6, 1.8) * cover, window)


def preretinal_haemorrhage(patient: Patient) -> None:
    """Paint a boat of blood: gravity levels its top, the retina rounds its keel."""
    rng, canvas = patient.rng, patient.canvas
    at = patient.place(0.4)
    radius = rng.uniform(0.1, 0.22)
    window, cover = canvas.blob(rng, at, radius, 0.06, rng.uniform(1, 1.5), 0, 0.02)
    level = np.clip((canvas.y[window] - at[1]) / 0.015 + 0.5, 0, 1)
    whole = np.zeros_like(canvas.x)
    whole[window] = cover * level
    mark(patient, "preretinal_haemorrhage", "blood", 1.4 * whole)


def mark(patient: Patient, kind: str, layer: str, matter: np.ndarray) -> None:
    """Lay a painted lesion on its layer and mark it; gaps within lace count as lesion."""
    matter = matter * (patient.canvas.radius < 1)
    patient.lay(kind, layer, matter)
    patient.masks[kind] |= ndimage.binary_closing(matter > 0.3, iterations=2)
