"""Writes models and what TIES makes of them, by plain NumPy (Yadav et al. 2023, algorithm 1).

usage: ties_reference.py FILE

Records as tests/records.hpp reads them. Exit code 77 when NumPy is not installed.
"""

import sys

try:
    import numpy as np
except ImportError as error:
    print(f"skipped: {error}; install Debian's python3-numpy to compare with NumPy")
    sys.exit(77)

SHAPES = [(16, 12), (12,), (3, 4, 5)]  # the parameters' of ties_test.cpp, in its order
MODELS = 3


def trim(tasks, density, per_tensor):
    """Each task vector, a list of tensors, without all but its largest magnitudes."""
    def smallest(values):
        keep = max(1, int(density * values.size))
        return np.sort(np.abs(values.astype(np.float32)))[-keep]

    whole = smallest(np.concatenate([t.ravel() for t in tasks]))
    return [np.where(np.abs(t.astype(np.float32)) >= (smallest(t.ravel()) if per_tensor else whole), t, 0)
            for t in tasks]


def ties(base, models, density, weight, normalize=True, scale=1.0, per_tensor=False):
    base = [b.astype(np.float64) for b in base]
    trimmed = [trim([m.astype(np.float64) - b for m, b in zip(model, base)], d, per_tensor)
               for model, d in zip(models, density)]
    weight = np.array(weight, np.float64)
    flat = np.stack([np.concatenate([t.ravel() for t in model]) for model in trimmed])  # (models, values)
    weighted = weight[:, None] * flat
    sign = np.sign(weighted.sum(axis=0))
    sign[sign == 0] = np.sign(sign.sum())
    agree = (np.sign(flat) == sign) & (flat != 0)
    merged = (weighted * agree).sum(axis=0)
    if normalize:
        total = (weight[:, None] * agree).sum(axis=0)
        merged /= np.where(total == 0, 1, total)
    return np.concatenate([b.ravel() for b in base]) + scale * merged


def main():
    generator = np.random.default_rng(5)
    draw = lambda: [generator.normal(size=s).astype(np.float32) for s in SHAPES]
    # On a grid, so that magnitudes are equal and sums are zero now and then.
    steps = lambda skew: [(generator.integers(-4, 5 + skew, size=s) / 8).astype(np.float32) for s in SHAPES]
    with open(sys.argv[1], "wb") as out:
        def record(name, tensors):
            values = np.concatenate([np.ravel(t) for t in tensors]).astype("<f8")
            out.write(f"{name} {values.size}\n".encode() + values.tobytes())

        def write_models(kind, base, models):
            record(f"{kind}.base", base)
            for i, model in enumerate(models):
                record(f"{kind}.model{i}", model)

        base, models = draw(), [draw() for _ in range(MODELS)]
        write_models("normal", base, models)
        some, weight = [0.3, 0.5, 0.7], [1, 0.5, 2]
        record("normal.plain", ties(base, models, [0.2] * 3, [1] * 3))
        record("normal.weighted", ties(base, models, some, weight, scale=0.8))
        record("normal.sum", ties(base, models, some, weight, normalize=False))
        record("normal.per_tensor", ties(base, models, some, weight, per_tensor=True))
        record("normal.all", ties(base, models, [1] * 3, weight))
        for kind, skew in (("plus", 1), ("minus", -1)):
            base, models = steps(0), [steps(skew) for _ in range(MODELS)]
            write_models(kind, base, models)
            record(f"{kind}.plain", ties(base, models, [0.4] * 3, [1] * 3))


main()
