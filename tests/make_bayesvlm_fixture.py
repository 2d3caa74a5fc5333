"""Writes tests/fixtures/bayesvlm: BayesVLM's factor files in miniature, and what follows from them.

The four `.pt` files are byte for byte of the form that `torch.save(tensor, path)` gives (a zip with
the pickle of one float32 tensor and its storage), as in hessians/ of github AaltoML/BayesVLM.
expected.json holds variances and cosines by the formulas of its code (`load_covariances` of
bayesvlm/hessians.py, `_compute_probabilistic_logits_smith` of bayesvlm/vlm.py), worked out here in
exact fractions where no square root is needed.

Needs Python alone:  python tests/make_bayesvlm_fixture.py
"""

import json
import math
import pathlib
import random
import struct
import zipfile
from fractions import Fraction

OUT = pathlib.Path(__file__).parent / "fixtures" / "bayesvlm"
DATE = (1980, 1, 1, 0, 0, 0)


def unicode(text):
    raw = text.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def integer(value):
    return b"K" + struct.pack("<B", value) if value < 256 else b"M" + struct.pack("<H", value)


def tensor_pickle(rows, columns):
    """The program that torch.save writes for a contiguous float32 matrix, protocol 2."""
    out = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x00("
    out += b"(" + unicode("storage") + b"q\x01ctorch\nFloatStorage\nq\x02"
    out += unicode("0") + b"q\x03" + unicode("cpu") + b"q\x04"
    out += integer(rows * columns) + b"tq\x05Q" + integer(0)
    out += integer(rows) + integer(columns) + b"\x86q\x06"
    out += integer(columns) + integer(1) + b"\x86q\x07"
    return out + b"\x89ccollections\nOrderedDict\nq\x08)Rq\ttq\nRq\x0b."


def save(name, matrix):
    rows, columns = len(matrix), len(matrix[0])
    values = [float(v) for row in matrix for v in row]
    with zipfile.ZipFile(OUT / f"{name}.pt", "w", zipfile.ZIP_STORED) as file:
        for entry, data in [
            ("data.pkl", tensor_pickle(rows, columns)),
            ("byteorder", b"little"),
            ("data/0", struct.pack(f"<{len(values)}f", *values)),
            ("version", b"3\n"),
            (".data/serialization_id", b"0" * 40),
        ]:
            file.writestr(zipfile.ZipInfo(f"{name}/{entry}", DATE), data)


def factor(generator, size):
    """A symmetric positive matrix of multiples of 1/8, which float32 holds exactly."""
    half = [[Fraction(generator.randint(-8, 8), 4) for _ in range(size)] for _ in range(size)]
    return [[sum(a * b for a, b in zip(x, y)) for y in half] for x in half]


def inverse(matrix):
    """Gauss and Jordan, exact."""
    size = len(matrix)
    rows = [list(row) + [Fraction(int(i == j)) for j in range(size)] for i, row in enumerate(matrix)]
    for i in range(size):
        pivot = next(r for r in range(i, size) if rows[r][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [v / rows[i][i] for v in rows[i]]
        for r in range(size):
            if r != i:
                rows[r] = [v - rows[r][i] * w for v, w in zip(rows[r], rows[i])]
    return [row[size:] for row in rows]


def variance(a, b, root_count, root_precision, phi):
    def with_prior(matrix):
        return [
            [root_count * v + (root_precision if i == j else 0) for j, v in enumerate(row)]
            for i, row in enumerate(matrix)
        ]

    a_inverse, b_inverse = inverse(with_prior(a)), inverse(with_prior(b))
    quadratic = sum(p * q * v for p, row in zip(phi, a_inverse) for q, v in zip(phi, row))
    return [quadratic * b_inverse[d][d] for d in range(len(b))]


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    generator = random.Random(5)
    quarter = lambda: Fraction(generator.randint(-12, 12), 4)
    sides = {}
    for tag, size in [("img", 6), ("txt", 4)]:
        a, b = factor(generator, size), factor(generator, 3)
        save(f"A_{tag}_analytic", a)
        save(f"B_{tag}_analytic", b)
        sides[tag] = (a, b, [quarter() for _ in range(size)], [quarter() for _ in range(3)])
    # Squares, so that their roots are exact.
    prior = {"lambda_img": 6.25, "n_img": 1.0, "lambda_txt": 2.25, "n_txt": 4.0}
    (OUT / "prior_precision_analytic.json").write_text(json.dumps(prior, indent=4) + "\n")
    expected = {}
    moments = {}
    for tag, count, precision in [("img", 1, Fraction(5, 2)), ("txt", 2, Fraction(3, 2))]:
        a, b, phi, mu = sides[tag]
        moments[tag] = (mu, variance(a, b, count, precision, phi))
        expected[tag] = {
            "features": [float(v) for v in phi],
            "embedding": [float(v) for v in mu],
            "variance": [float(v) for v in moments[tag][1]],
        }
    (v, var_v), (t, var_t) = moments["img"], moments["txt"]
    square_v = [m * m + s for m, s in zip(v, var_v)]
    square_t = [m * m + s for m, s in zip(t, var_t)]
    squares = sum(square_v) * sum(square_t)
    spread = sum(a * s + r * m * m for a, s, r, m in zip(square_v, var_t, var_v, t))
    expected["cosine_mean"] = float(sum(m * n for m, n in zip(v, t))) / math.sqrt(squares)
    expected["cosine_variance"] = float(spread / squares)
    (OUT / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


main()
