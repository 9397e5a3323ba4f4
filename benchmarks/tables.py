"""Writes the tables of README.md, docs/*.md and the model cards from what was measured, never by hand.

Sources: ``benchmarks/results/*.csv``, the registry and ``checkpoints/*/config.json``. A table stands between
``<!-- generated:NAME -->`` and ``<!-- /generated -->``. ``NAME`` is a key of :data:`TABLES`; ``card`` in a model card
stands for the results of that card's weights.

    python benchmarks/tables.py            rewrite what differs
    python benchmarks/tables.py --check    change nothing, exit 1 where a file differs
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import int8_table
import occlusion_table
import speed_tables
from huggingface_hub import EvalResult, ModelCard

from emozoo import registry
from emozoo.benchmark.formatting import DASH, PRIORS, fraction, joined, markdown_table, with_interval
from emozoo.benchmark.report import read_csv, read_results
from emozoo.card import card as plain_card

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
MARKED = re.compile(r"(<!-- generated:(\S+) -->\n).*?(<!-- /generated -->)", re.DOTALL)
# Columns of results -> the hub's kinds of metrics, and names for readers.
HUB_METRICS = {"WAR": "accuracy", "UAR": "recall", "CCC_V": "ccc", "CCC_A": "ccc"}
NAMES = {"WAR": "WAR", "UAR": "UAR", "CCC_V": "CCC, valence", "CCC_A": "CCC, arousal"}

Row = dict[str, str]


def results() -> list[Row]:
    """Every committed result of a benchmark."""
    return read_results(RESULTS)


def ends(row: Row, column: str) -> list[str]:
    """The ends of the interval of a column, empty where there is none."""
    found = [row.get(f"{column}_{end}") or "" for end in ("lo", "hi")]
    return found if all(found) else []


def interval(row: Row, metric: str) -> str:
    """``0.896 (0.884 to 0.907)``: a value and its 95 % interval; a dash where it was not measured."""
    return with_interval(row.get(metric), ends(row, metric), fraction) if row.get(metric) else DASH


def by_person(row: Row) -> str:
    """``0.70 (0.62 to 0.78), 0.46 to 0.88, 8 people``: mean UAR of single people, its interval, lowest and highest."""
    if not row.get("UAR_person"):
        return DASH
    span = joined([row["UAR_person_min"], row["UAR_person_max"]], fraction)
    return f"{interval(row, 'UAR_person')}, {span}, {row['n_people']} people"


def difference(row: Row, column: str) -> str:
    """``+0.010 (-0.030 to +0.054)``: a difference and its 95 % interval."""
    return with_interval(row[column], ends(row, column), partial(fraction, sign="+"))


def counted(row: Row) -> str:
    """How many were evaluated of how many, and in how many no face was found."""
    n, expected, no_face = row["n_evaluated"], row["n_expected"], row.get("no_face") or "0"
    return (n if n == expected else f"{n} of {expected}") + (f", {no_face} without a face" if int(no_face) else "")


def tasks_of(spec: registry.ModelSpec) -> list[str]:
    """The tasks of a model's weights; without any weights, those of its paper's network."""
    found = {t for w in registry.weights().values() if w.arch == spec.name for t in w.tasks} or set(spec.tasks)
    return [t for t in ("emotion", "va") if t in found]


def models() -> str:
    """Architectures, for the README: inputs, tasks, wirings and default weights of each."""
    rows = (
        [
            f"[`{m.name}`](docs/papers/{m.name}.md)",
            m.paper,
            ", ".join(dict.fromkeys(s.source for s in m.specs["lite"].streams.values())),
            " and ".join({"emotion": "emotion", "va": "valence/arousal"}[t] for t in tasks_of(m)),
            ", ".join(f"`{w}`" for w in m.wirings),
            f"`{default.tag}`" if (default := registry.resolve(m.name)[1]) else "none",
        ]
        for m in registry.MODELS.values()
    )
    header = ["Model", "Paper", "Looks at", "Predicts", "Wirings", "Default weights"]
    return markdown_table(header, rows, "No model yet.")


def weights() -> str:
    """Embedded weights: what each was trained on, classes, size and licence."""

    def lines() -> Iterator[list[str]]:
        for w in registry.weights().values():
            if not w.config.get("control_of"):  # retrained controls stand in their own table
                own = (ROOT / "checkpoints" / w.name / "model.safetensors").stat().st_size / 1e6
                owners = dict.fromkeys(f"`{p['weights']}`" for p in (w.config.get("parts") or {}).values())
                size = f"{own:.1f} MB" if own >= 0.1 else f"{own * 1e3:.0f} kB"
                size += f" beside {', '.join(owners)}" if owners else ""
                classes = ", ".join([*w.classes, *(("valence", "arousal") if "va" in w.tasks else ())])
                yield [f"`{w.name}`", w.trained_on, classes, size, w.licence, w.sha256[:12]]

    header = ["Weights", "Trained on", "Predicts", "Size", "Licence", "sha256"]
    return markdown_table(header, lines(), "No weights yet.")


def scores(model: str = "") -> str:
    """Measured on data with a name of its own; one row per model, data set, split and prior."""
    found = [r for r in results() if not r["control"] and model in ("", r["model"])]
    people = any(r.get("UAR_person") for r in found)
    rows = (
        [
            f"`{r['model']}`",
            r["dataset"],
            r["protocol"]
            + (f", {r['split']}" if r["split"] else "")
            + (f", fold {r['fold']}" if r["fold"].isdigit() else ""),
            PRIORS.get(r["prior"], r["prior"] or DASH),
            counted(r),
            *(interval(r, m) for m in ("WAR", "UAR", "CCC_V", "CCC_A")),
            *([by_person(r)] if people else []),
        ]
        for r in found
    )
    header = [
        "Weights",
        "Data",
        "Protocol",
        "Class prior",
        "n",
        "WAR (95 %)",
        "UAR (95 %)",
        "CCC V",
        "CCC A",
        *(["UAR by person: mean (95 %), range"] if people else []),
    ]
    return markdown_table(header, rows, "Nothing measured yet.")


# The README's rows: what was measured, then model, protocol and split of the result.
RJA = "recursive_joint_attention, recipe "
HEADLINE = (
    ("Face and voice: talking people, 6 classes, one actor left out", f"{RJA}talk6", "javased_loao_v1", ""),
    ("Faces: web photographs, 7 classes", "ceflnet.faces7_v4", "ferplus7", "val"),
    ("Faces: press photographs, 5 classes, people in 5 folds", "ceflnet, recipe of faces5_v3", "lfw5_5fold_v1", ""),
    ("Voices: English, 8 classes, 4 other actors", f"{RJA}voices_ravdess", "ravdess_voices_actors_17_to_20", "val"),
    ("Voices: German, 7 classes, 2 other speakers", f"{RJA}voices_emodb", "voices_emodb_val", "val"),
    (
        "Voices: trained on three corpora, tested on a fourth (Polish, 6 classes)",
        f"{RJA}voices_together, no nemo",
        "voices_others_to_nemo",
        "",
    ),
)


def headline() -> str:
    """Results on photographs and voices of people, for the README: WAR with the class prior, UAR without."""
    found = {(r["model"], r["protocol"], r["split"], r["prior"]): r for r in results() if not r["control"]}

    def lines() -> Iterator[list[str]]:
        for title, model, protocol, split in HEADLINE:
            trained, uniform = (found[model, protocol, split, prior] for prior in ("train", "uniform"))
            part = f"{protocol}, {split}" if split else protocol
            scored = [interval(trained, "WAR"), interval(uniform, "UAR")]
            yield [title, f"`{model}`", f"`{part}`", trained["n_evaluated"], *scored]

    header = ["Measured on", "Weights or recipe", "Protocol", "n", "WAR (95 %)", "UAR (95 %)"]
    return markdown_table(header, lines())


def controls() -> str:
    """Each network beside its retrained control: what the mechanism adds."""
    known = registry.weights()

    def lines() -> Iterator[list[str]]:
        for r in results():
            if r["control"] and r["delta"]:
                name = (known[r["model"]].config.get("control_of") if r["model"] in known else None) or r["model"]
                first = [f"`{name}`", r["dataset"], r["control"], PRIORS[r["prior"]], counted(r)]
                yield [*first, r["delta_metric"], f"{float(r[r['delta_metric']]):.3f}", difference(r, "delta")]
                if r.get("CCC_delta") and r["delta_metric"] != "CCC":
                    yield [*first, "CCC, mean", f"{float(r['CCC']):.3f}", difference(r, "CCC_delta")]

    header = ["Weights", "Data", "Control", "Class prior", "n", "Metric", "Control alone", "Model minus control (95 %)"]
    return markdown_table(header, lines(), "Nothing measured yet.")


def measurements(name: str) -> list[Row]:
    """The lines of a table of ``benchmarks/results`` that holds another measurement than a benchmark."""
    return read_csv(RESULTS / f"{name}.csv")


def measured_of(model: str) -> list[Row]:
    """The results of these very weights."""
    known = registry.weights()
    sha256 = known[model].sha256 if model in known else ""
    return [r for r in results() if (r["model"], r["sha256"]) == (model, sha256)]


def card(model: str) -> str:
    """The measured part of a model card: scores, calibration, each class with its confusions, degraded images."""
    known = registry.weights()
    sha256 = known[model].sha256 if model in known else ""
    own = measured_of(model)
    errors = [
        f"{r['protocol']}{', ' + r['split'] if r['split'] else ''}, prior {PRIORS[r['prior']]}: {float(r['ECE']):.3f}"
        for r in own
        if r.get("ECE") and not r["control"]
    ]
    parts = [scores(model), "Expected calibration error (15 bins, 0 is best): " + ("; ".join(errors) or "not measured")]
    found = [r for r in measurements("classes") if (r["model"], r["sha256"], r["control"]) == (model, sha256, "")]
    for key in dict.fromkeys((r["data"], r["protocol"], r["split"], r["prior"]) for r in found):
        lines = [r for r in found if (r["data"], r["protocol"], r["split"], r["prior"]) == key]
        head = ["True class", "n", "Recall", "Precision", "F1", *(f"as {r['class']}" for r in lines)]
        cells = (
            [r["class"], r["n"], *(fraction(r[k]) for k in ("recall", "precision", "f1")), *r["answers"].split()]
            for r in lines
        )
        where = f"{key[1]}{', ' + key[2] if key[2] else ''}, class prior {PRIORS.get(key[3], key[3])}"
        parts += [f"### Each class: {where}", markdown_table(head, cells, "")]
    if not found:
        parts.append("### Each class\n\nnot measured")
    worse = [r for r in measurements("robustness") if (r["model"], r["sha256"]) == (model, sha256)]
    parts.append("### When the images get worse")
    if not worse:
        parts.append("Behaviour by face size, blur, light, covered parts, colour and turned heads: not measured.")
    for protocol, prior in dict.fromkeys((r["protocol"], r["prior"]) for r in worse):
        lines = [r for r in worse if (r["protocol"], r["prior"]) == (protocol, prior)]
        rows = (
            [r["condition"], r["n"], fraction(r["WAR"]), change(r, "WAR"), fraction(r["UAR"]), change(r, "UAR")]
            for r in lines
        )
        head = ["Images", "n", "WAR", "Change (95 %)", "UAR", "Change (95 %)"]
        parts += [f"{protocol}, class prior {PRIORS[prior]}:", markdown_table(head, rows, "")]
    return "\n\n".join(parts)


def indexed(text: str, model: str) -> str:
    """A model card with the measured scores in its front matter too, where the hub looks for them."""
    own = [r for r in measured_of(model) if not r["control"]]
    if not own:
        return text
    found = ModelCard(text)
    data: Any = found.data
    data.model_name = model
    data.eval_results = [
        EvalResult(
            task_type="video-classification", dataset_type=r["dataset"], dataset_name=r["dataset"],
            dataset_config=r["protocol"], dataset_split=r["split"] or None,  # one entry for each config and split
            dataset_args={"protocol": r["protocol"], "n": int(r["n_evaluated"]), "fold": r["fold"] or None},
            metric_type=kind, metric_value=round(float(r[metric]), 4),
            metric_name=NAMES[metric] + (f", class prior {PRIORS[r['prior']]}" if r["prior"] else ""),
        )
        for r in own
        for metric, kind in HUB_METRICS.items()
        if r.get(metric)
    ]  # fmt: skip
    return str(found)


def change(row: Row, metric: str) -> str:
    """The difference of a metric to that of unchanged images; a dash where it was not measured."""
    return difference(row, f"{metric}_delta") if row[f"{metric}_delta"] else DASH


def arousal() -> str:
    """How much more arousal is predicted for strong recordings than for normal ones, by emotion."""
    rows = (
        [r["emotion"], r["pairs"], with_interval(r["strong_above_normal"], (r["lo"], r["hi"]), fraction)]
        for r in measurements("arousal")
    )
    head = ["Emotion", "Pairs", "Strong above normal (95 %, by actor)"]
    return markdown_table(head, rows, "Nothing measured yet.")


def soak() -> str:
    """What long runs tried, and what became of it."""
    rows = (
        [
            r["part"],
            *(f"{int(r[c]):,}" for c in ("cases", "survived", "lost", "hung", "peak_mib")),
            r["minutes"],
            r["date"],
        ]
        for r in measurements("soak")
    )
    head = ["Part", "Cases", "Survived", "Lost", "Hung", "Peak memory, MiB", "Minutes", "Date"]
    return markdown_table(head, rows, "Nothing measured yet.")


def composed(views: str) -> str:
    """A fused network on composed clips, beside it without a view, single views and late fusion."""
    found = [
        r for r in sorted(results(), key=lambda r: r["protocol"], reverse=True)
        if r["protocol"].startswith(f"composed_{views}_")
    ]  # fmt: skip
    versions = sorted({r["protocol_version"] for r in found})
    rows = (
        [
            r["protocol"].removeprefix(f"composed_{views}_").rpartition("_v")[0]
            + (f", version {r['protocol_version']}" if len(versions) > 1 else ""),
            f"`{r['model']}`" if r["model"] in registry.weights() else r["model"],
            r["control"] or DASH,
            counted(r),
            interval(r, "UAR"),
            difference(r, "delta") if r["delta"] else DASH,
        ]
        for r in found
    )
    head = ["Clips", "Predictions of", "Input", "n", "UAR", "Fused minus this (95 %)"]
    table = markdown_table(head, rows, "Nothing measured yet.")
    if len(versions) > 1:
        note = "Clips of another version have other pixels. Each difference was measured on clips of its row's version."
        return f"{table}\n\n{note}"
    return f"{table}\n\nMeasured on composed clips of version {versions[0]}." if found else table


TABLES: dict[str, Callable[[], str]] = {
    "models": models,
    "weights": weights,
    "results": scores,
    "headline": headline,
    "controls": controls,
    "arousal": arousal,
    "decoders": speed_tables.decoders,
    "speed": speed_tables.speed,
    "growth": speed_tables.growth,
    "large_set": speed_tables.large_set,
    "occlusion": occlusion_table.occlusion,
    "soak": soak,
    "int8": int8_table.int8,
    "composed_face_voice": lambda: composed("face_voice"),
    "composed_face_scene": lambda: composed("face_scene"),
}


def rendered(text: str, where: Path) -> str:
    """The text with every marked table made anew."""

    def table(match: re.Match[str]) -> str:
        if match[2] == "card":
            text = card(where.parent.name)
        elif match[2] in TABLES:
            text = TABLES[match[2]]()
        else:
            sys.exit(f"{where}: no generated table {match[2]!r}; there are {', '.join([*TABLES, 'card'])}")
        return f"{match[1]}{text}\n{match[3]}"

    return MARKED.sub(table, text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a file differs")
    check = parser.parse_args().check
    stale = False
    pages = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("checkpoints/*/README.md"))]
    for path in pages:
        old = path.read_text(encoding="utf-8")
        # A model's card is written anew from the config of its weights; the card of an encoder alone stays.
        is_card = path.parent.name in registry.weights()
        text = plain_card(json.loads(path.with_name("config.json").read_text(encoding="utf-8"))) if is_card else old
        new = rendered(text, path.relative_to(ROOT))
        if is_card:
            new = indexed(new, path.parent.name)
        if new != old:
            stale = True
            print(f"{path.relative_to(ROOT)}: {'differs; run make tables' if check else 'written'}")
            if not check:
                path.write_text(new, encoding="utf-8")
    return int(stale and check)


if __name__ == "__main__":
    sys.exit(main())
