"""Draws the architecture figures of docs/papers as SVG: `python docs/papers/figures.py`. Standard library only."""

from __future__ import annotations

from html import escape
from itertools import pairwise
from pathlib import Path

FOLDER = Path(__file__).parent / "img"
FILLS = {
    "in": ("#eef1f4", "#6b7785"),  # inputs
    "net": ("#dbe7f6", "#3c6ea8"),  # learned encoders and layers
    "att": ("#fde7cf", "#c2711a"),  # attention: where the network looks
    "mix": ("#e2f1dd", "#4c8a3a"),  # fusion without choice: sums, maxima, concatenation
    "out": ("#ece2f4", "#75489c"),  # results
}
COLUMN, ROW, WIDTH, HEIGHT = 190, 92, 156, 56


class Figure:
    """Boxes on a grid, arrows between them; ``(column, row)`` may be fractions."""

    def __init__(self, name: str, columns: float, rows: float) -> None:
        self.name = name
        self.size = (round(columns * COLUMN + 22), round(rows * ROW + 20))
        self.back: list[str] = []
        self.front: list[str] = []

    def box(self, column: float, row: float, kind: str, *lines: str) -> tuple[float, float]:
        """The first line is bold, the others small; returns the centre."""
        x, y = 20 + column * COLUMN, 24 + row * ROW
        fill, stroke = FILLS[kind]
        self.front.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="7" fill="{fill}" stroke="{stroke}"/>'
        )
        step = 15
        top = y + HEIGHT / 2 - step * (len(lines) - 1) / 2 + 4.5
        for i, line in enumerate(lines):
            style = {"size": 13, "more": 'font-weight="600"'} if i == 0 else {"size": 11.5}
            self.front.append(_text(x + WIDTH / 2, top + i * step, line, anchor="middle", **style))
        return x + WIDTH / 2, y + HEIGHT / 2

    def group(self, column: float, row: float, columns: float, rows: float, title: str) -> None:
        """A dashed frame around boxes."""
        x, y = 8 + column * COLUMN, 8 + row * ROW
        self.back.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{columns * COLUMN - 8:.0f}" height="{rows * ROW - 6:.0f}" rx="10" '
            f'fill="none" stroke="#9aa4af" stroke-dasharray="5 4"/>'
            f'<text x="{x + 9:.0f}" y="{y + 12:.0f}" font-size="11" fill="#5b6672">{escape(title)}</text>'
        )

    def arrow(self, start: tuple[float, float], end: tuple[float, float], label: str = "", bend: str = "h") -> None:
        """From box to box; ``bend`` says whether a corner comes after the horizontal (h) or vertical (v) stretch."""
        (x1, y1), (x2, y2) = start, end
        if abs(y1 - y2) < 1:  # side to side
            x1, x2 = (x1 + WIDTH / 2, x2 - WIDTH / 2 - 2) if x2 > x1 else (x1 - WIDTH / 2, x2 + WIDTH / 2 + 2)
            points = [(x1, y1), (x2, y2)]
        elif abs(x1 - x2) < 1:  # top to bottom
            y1, y2 = (y1 + HEIGHT / 2, y2 - HEIGHT / 2 - 2) if y2 > y1 else (y1 - HEIGHT / 2, y2 + HEIGHT / 2 + 2)
            points = [(x1, y1), (x2, y2)]
        elif bend == "v":  # leave by top or bottom, arrive from the left
            y1 += HEIGHT / 2 if y2 > y1 else -HEIGHT / 2
            points = [(x1, y1), (x1, y2), (x2 - WIDTH / 2 - 2, y2)]
        elif bend == "z":  # leave and arrive sideways, corner in the gap before the target
            gap = x2 - WIDTH / 2 - 16
            points = [(x1 + WIDTH / 2, y1), (gap, y1), (gap, y2), (x2 - WIDTH / 2 - 2, y2)]
        else:  # leave sideways, arrive at top or bottom
            x1 += WIDTH / 2 if x2 > x1 else -WIDTH / 2
            points = [(x1, y1), (x2, y1), (x2, y2 - HEIGHT / 2 - 2 if y2 > y1 else y2 + HEIGHT / 2 + 2)]
        path = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
        self.back.append(f'<polyline points="{path}" fill="none" stroke="#4a5560" marker-end="url(#tip)"/>')
        if label:
            (xa, ya), (xb, yb) = points[0], points[1]
            flat = ya == yb
            x, y = (xa + xb) / 2 + (0 if flat else 5), (ya + yb) / 2 + (-5 if flat else 4)
            self.note(x, y, label, "middle" if flat else "start")

    def note(self, x: float, y: float, text: str, anchor: str = "middle") -> None:
        """Small text in pixels."""
        self.back.append(_text(x, y, text, anchor=anchor, size=11, more='fill="#4a5560"'))

    def save(self) -> None:
        width, height = self.size
        body = "\n".join(self.back + self.front)
        (FOLDER / f"{self.name}.svg").write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'font-family="Helvetica, Arial, DejaVu Sans, sans-serif" fill="#1d2329">\n'
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
            '<path d="M0,0 L8,4 L0,8 z" fill="#4a5560"/></marker></defs>\n'
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n{body}\n</svg>\n',
            encoding="utf-8",
        )


def _text(x: float, y: float, text: str, anchor: str, size: float, more: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" {more}>{escape(text)}</text>'


def ceflnet() -> None:
    f = Figure("ceflnet", 5, 3.2)
    f.group(1.9, 0, 3.05, 2.1, "clip-based feature encoder, shared by the C clips")
    f.group(2.9, 2.1, 2.05, 1.1, "emotional intensity activation")
    face = f.box(0, 0.15, "in", "face clips", "B, C, F, 3, H, W")
    res = f.box(1, 0.15, "net", "ResNet + GAP", "f: B, C, F, D")
    mha = f.box(2, 0.15, "att", "self-attention", "4 heads, LayerNorm")
    top = f.box(3, 0.15, "mix", "max over frames", "g: B, C, D")
    pair = f.box(2, 1.15, "mix", "pair", "u = [f ; g]")
    beta = f.box(3, 1.15, "att", "relation weight", "β = σ(w · u)")
    pool = f.box(4, 1.15, "net", "weighted mean", "then Linear", "v: B, C, D")
    a = f.box(4, 2.2, "att", "softmax over clips", "a: B, C")
    z = f.box(3, 2.2, "mix", "max over clips", "z = max a · v")
    head = f.box(2, 2.2, "net", "classifier", "D – D/2 – D/4 – K")
    out = f.box(1, 2.2, "out", "logits", "B, K")
    for p, q in (
        (face, res),
        (res, mha),
        (mha, top),
        (pair, beta),
        (beta, pool),
        (pool, a),
        (a, z),
        (z, head),
        (head, out),
    ):
        f.arrow(p, q)
    f.arrow(res, pair, "raw f", "v")
    f.back.append(  # g comes back to the pair
        f'<polyline points="{top[0]:.0f},{top[1] + HEIGHT / 2:.0f} {top[0]:.0f},{(top[1] + pair[1]) / 2:.0f} '
        f'{pair[0]:.0f},{(top[1] + pair[1]) / 2:.0f} {pair[0]:.0f},{pair[1] - HEIGHT / 2 - 2:.0f}" fill="none" '
        'stroke="#4a5560" marker-end="url(#tip)"/>'
    )
    f.save()


def caer_cross_attention() -> None:
    f = Figure("caer_cross_attention", 7, 3.2)
    f.group(0.9, 0, 2.05, 3.2, "dual-branch encoding")
    f.group(2.95, 0, 2.05, 3.2, "hierarchical attention")
    face = f.box(0, 0.2, "in", "face", "N, 3, 224, 224")
    ctx = f.box(0, 2.2, "in", "scene, face black", "N, 3, 224, 224")
    te = f.box(1, 0.2, "net", "five convolutions", "X_F: N, 256, 14, 14")
    ce = f.box(1, 2.2, "net", "five convolutions", "N, 256, 14, 14")
    hi = f.box(2, 2.2, "att", "highlight", "softmax over place", "X_C = (P ·) A · X")
    p1 = f.box(3, 0.2, "att", "pair 1: face", "Q, V: X_F  K: X_C", "channels × channels")
    er = f.box(4, 0.2, "mix", "recalibration", "R_F = Z · softmax(·)Z")
    p2 = f.box(3, 2.2, "att", "pair 2: scene", "Q, V: X_C  K: R_F")
    er2 = f.box(4, 2.2, "mix", "recalibration", "R_C")
    aa = f.box(5, 1.2, "att", "adaptive weights", "λ shallow, λ deep", "crossed")
    df = f.box(6, 1.2, "net", "deep fusion", "2 × (512 – 128)", "256 – 128 – K")
    out = f.box(6, 0.2, "out", "logits", "mean over frames")
    for p, q in ((face, te), (ctx, ce), (ce, hi), (te, p1), (p1, er), (hi, p2), (p2, er2), (aa, df), (df, out)):
        f.arrow(p, q)
    f.arrow(er, aa, "GAP", "h")
    f.arrow(er2, aa, "GAP", "h")
    mid = (p1[1] + p2[1]) / 2
    for source, x, target, label in ((hi, p1[0], p1, "keys X_C"), (er, p2[0], p2, "keys R_F")):
        up = 1 if target[1] < source[1] else -1
        start, end = source[1] - up * HEIGHT / 2, target[1] + up * (HEIGHT / 2 + 2)
        level = mid + up * 12
        f.back.append(
            f'<polyline points="{source[0]:.0f},{start:.0f} {source[0]:.0f},{level:.0f} {x - up * 25:.0f},{level:.0f} '
            f'{x - up * 25:.0f},{end:.0f}" fill="none" stroke="#4a5560" marker-end="url(#tip)"/>'
        )
        f.note((source[0] + x) / 2, level + (14 if up > 0 else -5), label)
    f.save()


def dfan() -> None:
    f = Figure("dfan", 6, 3.2)
    f.group(1.9, 0, 3.05, 3.2, "per stream, own weights")
    act = f.box(0, 0.2, "in", "action", "T segments × 16 frames")
    obj = f.box(0, 1.2, "in", "object", "T centre frames")
    scn = f.box(0, 2.2, "in", "scene", "T centre frames")
    e1 = f.box(1, 0.2, "net", "S3D, frozen", "B, T, 1024, 7, 7")
    e2 = f.box(1, 1.2, "net", "ResNet-50, frozen", "B, T, 2048, 7, 7")
    e3 = f.box(1, 2.2, "net", "ResNet-50, frozen", "B, T, 2048, 7, 7")
    z = f.box(2, 1.2, "net", "1 × 1 conv, BN, ReLU", "z: B, T, 49, 512")
    beta = f.box(3, 0.2, "att", "temporal focus", "β: softmax over T")
    alpha = f.box(3, 2.2, "att", "spatial focus", "α: softmax over 49")
    v = f.box(4, 1.2, "mix", "Σ β Σ α z", "v: B, 512")
    cat = f.box(5, 1.2, "net", "concatenate, Linear", "3 · 512 – K")
    out = f.box(5, 2.2, "out", "logits", "B, K")
    for p, q in ((act, e1), (obj, e2), (scn, e3), (e2, z), (v, cat), (cat, out)):
        f.arrow(p, q)
    for p, q in ((e1, z), (e3, z), (z, beta), (z, alpha), (beta, v), (alpha, v)):
        f.arrow(p, q, "", "z")
    f.arrow(z, v, "z")
    f.save()


def recursive_joint_attention() -> None:
    f = Figure("recursive_joint_attention", 7, 3.2)
    f.group(2.9, 0, 2.05, 3.2, "joint attention, num_iter times")
    face = f.box(0, 0.2, "in", "face", "L clips × 8 frames")
    snd = f.box(0, 2.2, "in", "sound", "L log-mel windows")
    e1 = f.box(1, 0.2, "net", "R(2+1)D-18, frozen", "B, L, 512 (· 49)")
    e2 = f.box(1, 2.2, "net", "ResNet-18, frozen", "B, L, 512")
    l1 = f.box(2, 0.2, "net", "BiLSTM, residual", "V: B, L, 512")
    l2 = f.box(2, 2.2, "net", "BiLSTM, residual", "A: B, L, 512")
    j = f.box(3, 1.2, "mix", "joint vector", "J = [V ; A]: B, L, 1024")
    c1 = f.box(4, 0.2, "att", "face correlation", "C = tanh(K_V J / √d)", "V += ReLU(H W)")
    c2 = f.box(4, 2.2, "att", "audio correlation", "C = tanh(K_A J / √d)", "A += ReLU(H W)")
    l3 = f.box(5, 1.2, "net", "joint BiLSTM", "Z: B, L, 512")
    va = f.box(6, 0.2, "out", "valence, arousal", "B, L, 2")
    emo = f.box(6, 2.2, "out", "emotion (ours)", "mean over clips: B, K")
    for p, q in ((face, e1), (snd, e2), (e1, l1), (e2, l2), (l1, c1), (l2, c2)):
        f.arrow(p, q)
    for p, q in ((l1, j), (l2, j), (j, c1), (j, c2), (c1, l3), (c2, l3), (l3, va), (l3, emo)):
        f.arrow(p, q, "", "z")
    for i, line in enumerate(("with visual_input = grid the", "audio first guides the face's", "49 regions")):
        f.note(l1[0], (l1[1] + l2[1]) / 2 - 10 + 14 * i, line)
    f.save()


def caer_net_s() -> None:
    f = Figure("caer_net_s", 6, 2.2)
    face = f.box(0, 0.1, "in", "face", "N, 3, 96, 96")
    ctx = f.box(0, 1.1, "in", "scene, face black", "N, 3, 112, 112")
    te = f.box(1, 0.1, "net", "five convolutions", "N, 256, 6, 6")
    ce = f.box(1, 1.1, "net", "five convolutions", "N, 256, 7, 7")
    hi = f.box(2, 1.1, "att", "highlight", "softmax over place")
    g1 = f.box(3, 0.1, "mix", "GAP (, BN)", "x_F: N, 256")
    g2 = f.box(3, 1.1, "mix", "GAP (, BN)", "x_C: N, 256")
    lam = f.box(4, 0.6, "att", "fusion weights", "softmax over streams")
    head = f.box(5, 0.1, "net", "classifier", "512 – 128 – K")
    out = f.box(5, 1.1, "out", "logits", "mean over frames")
    for p, q in ((face, te), (ctx, ce), (ce, hi), (te, g1), (hi, g2), (head, out)):
        f.arrow(p, q)
    f.arrow(g1, lam, "", "z")
    f.arrow(g2, lam, "", "z")
    f.arrow(lam, head, "", "z")
    f.save()


def emotion_fan() -> None:
    f = Figure("emotion_fan", 6, 2.2)
    face = f.box(0, 0.1, "in", "face frames", "B, T, 3, 224, 224")
    res = f.box(1, 0.1, "net", "ResNet-18 + GAP", "f: B, T, 512")
    a = f.box(2, 0.1, "att", "self-attention", "α = σ(w · f)")
    v = f.box(3, 0.1, "mix", "weighted mean", "f': B, 512")
    b = f.box(3, 1.1, "att", "relation attention", "β = σ(w · [f ; f'])")
    m = f.box(4, 1.1, "mix", "weighted mean", "by α β: B, 1024")
    head = f.box(5, 1.1, "net", "Linear", "1024 – K")
    out = f.box(5, 0.1, "out", "logits", "B, K")
    for p, q in ((face, res), (res, a), (a, v), (v, b), (b, m), (m, head), (head, out)):
        f.arrow(p, q)
    f.arrow(res, b, "raw f", "v")
    f.save()


def resnet_gru() -> None:
    f = Figure("resnet_gru", 6, 1.2)
    boxes = [
        f.box(0, 0.1, "in", "face frames", "B, T, 3, 224, 224"),
        f.box(1, 0.1, "net", "ResNet-18 + GAP", "B, T, 512"),
        f.box(2, 0.1, "net", "bidirectional GRU", "B, T, 512"),
        f.box(3, 0.1, "mix", "mean over frames", "real ones: B, 512"),
        f.box(4, 0.1, "net", "dropout, Linear", "512 – K"),
        f.box(5, 0.1, "out", "logits", "B, K"),
    ]
    for p, q in pairwise(boxes):
        f.arrow(p, q)
    f.save()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for draw in (ceflnet, caer_cross_attention, dfan, recursive_joint_attention, caer_net_s, emotion_fan, resnet_gru):
        draw()
