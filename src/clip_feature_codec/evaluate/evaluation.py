"""Evaluates a store: every codec at every budget, each picture decoded and measured against its original."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clip_feature_codec import __version__
from clip_feature_codec.decoders.options import PaintOptions
from clip_feature_codec.decoders.protocol import Decoder
from clip_feature_codec.embed import Embedder
from clip_feature_codec.errors import ConfigError, MetricError, StoreError
from clip_feature_codec.evaluate.assembly import Assembly
from clip_feature_codec.evaluate.contestants import LAYOUT, Clp, Contestant, LayoutAlone, Rival
from clip_feature_codec.evaluate.metrics.definitions import Metric
from clip_feature_codec.evaluate.metrics.distributions import too_few
from clip_feature_codec.evaluate.metrics.judge import Judge
from clip_feature_codec.evaluate.metrics.pairs import PairMetrics
from clip_feature_codec.evaluate.metrics.views import JUDGE, JUDGE_METRICS, View, clip_view, judge_view
from clip_feature_codec.evaluate.progress import KeptPictures, Progress
from clip_feature_codec.evaluate.provenance import environment
from clip_feature_codec.evaluate.results import ORIGINAL, Evaluation
from clip_feature_codec.evaluate.rivals.baselines import baselines
from clip_feature_codec.evaluate.rivals.search_cache import SearchCache
from clip_feature_codec.evaluate.trial import Trial, read_batch
from clip_feature_codec.images import MAX_PIXELS
from clip_feature_codec.reconstruct import BATCH_SIZE
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.protocol import Store

WORK_FOLDER = "evaluation"
"""Where, in a store, an evaluation keeps unfinished work and what it found out about rivals."""

_SEARCHES = "searches.sqlite"


@dataclass(frozen=True)
class Comparison:
    """What is compared, beside the store's own streams and decoder.

    Attributes:
        budgets: bytes that files may have; none: as many as each picture's stream in the store has.
        steps: network evaluations of our decoder, a series for each; none: those of the paint options.
        seeds: how many times each of our streams is decoded, from seed `PaintOptions.seed` on.
        baselines: names of rivals; ``all`` for every one there is, ``layout`` for our layout layer alone.
        externals: files that describe other codecs' programs.

    Raises:
        ConfigError: a number is out of range, or given twice.
    """

    budgets: Sequence[int] = ()
    steps: Sequence[int] = ()
    seeds: int = 1
    baselines: Sequence[str] = ()
    externals: Sequence[Path] = ()

    def __post_init__(self) -> None:
        for name, numbers in (("budgets", self.budgets), ("steps", self.steps), ("seeds", (self.seeds,))):
            if any(number < 1 for number in numbers) or len(set(numbers)) < len(numbers):
                given = ", ".join(map(str, numbers))
                raise ConfigError(f"{name}: found {given}, expected different numbers of at least 1")


@dataclass(frozen=True)
class Evaluator:
    """All that an evaluation works with, loaded once: made by `prepare`.

    Attributes:
        store: streams, and where their pictures lie.
        entries: the pictures that are looked at.
        options: how our streams are decoded, and the size at which pictures are compared.
        contestants: the codecs, ours first.
        budgets: bytes that files may have; None: as many as the picture's stream in the store has.
        pairs: metrics of pixels.
        views: networks that see; the first is the streams' own CLIP.
        unavailable: metrics that cannot be computed here, with the reason.
        provenance: settings and hashes, JSON-able.
        progress: what is done already.
        batch_size: pictures read at a time.
        max_pixels: originals with more pixels are failures.
    """

    store: Store
    entries: Sequence[Entry]
    options: PaintOptions
    contestants: Sequence[Contestant]
    budgets: Sequence[int | None]
    pairs: PairMetrics
    views: Sequence[View]
    unavailable: dict[str, str]
    provenance: dict[str, Any]
    progress: Progress
    batch_size: int
    max_pixels: int = MAX_PIXELS

    @classmethod
    def prepare(
        cls,
        store: Store,
        decoder: Decoder,
        embedder: Embedder,
        options: PaintOptions,
        comparison: Comparison | None = None,
        *,
        judge: Judge | None = None,
        other_clips: Mapping[str, Embedder] | None = None,
        work: Path | None = None,
        batch_size: int = BATCH_SIZE,
        limit: int | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Evaluator:
        """Load what is needed, and refuse what does not fit together.

        Args:
            store: streams, and where their pictures lie.
            decoder: paints our streams.
            embedder: the CLIP model of the streams.
            options: how to decode.
            comparison: budgets, steps, seeds and rivals; by default the store's streams as they are.
            judge: a network that had no part in the codec.
            other_clips: more CLIP models, by the names that results give them: a codec tuned on one is
                flattered by it.
            work: folder for unfinished work and for what was found out about rivals; by default in the store.
            batch_size: pictures decoded at a time.
            limit: only the first pictures of the store.
            max_pixels: originals with more pixels are failures.

        Raises:
            ConfigError: a rival is unknown, or an option out of range.
            SpaceMismatchError: store, decoder and CLIP model do not belong together.
        """
        store.codec.space.require_same(embedder.space, "the CLIP model")
        decoder.space.require_same(store.codec.space, "the store's codec")
        comparison = comparison or Comparison()
        entries = store.entries[:limit]
        others = {} if other_clips is None else other_clips
        views = [clip_view(embedder), *(clip_view(clip, name) for name, clip in others.items())]
        views += [judge_view(judge)] if judge else []
        pairs = PairMetrics.load(embedder.device)
        work = work or store.folder / WORK_FOLDER
        budgets = tuple(comparison.budgets) or (None,)
        contestants = _contestants(store, decoder, options, comparison, work / _SEARCHES, batch_size)
        unavailable = pairs.unavailable | _unavailable(views, len(entries))
        provenance = {
            "settings": asdict(options)
            | {
                "steps": list(comparison.steps) or [options.steps],
                "seeds": comparison.seeds,
                "budgets": list(budgets),
                "batch_size": batch_size,
                "pictures": len(entries),
                "space": store.codec.space.label,
                "decoder_canvas": decoder.image_size,
                "device": str(embedder.device),
            },
            "hashes": {
                "codec tables": store.codec.tables_sha256,
                "decoder": decoder.identity(),
                "streams": _digest([entry.name, entry.sha256] for entry in entries),
                "pictures": _digest(_file_facts(store.source_path(entry)) for entry in entries),
            },
        }
        identity = provenance | {
            "version": __version__,
            "packages": environment()["packages"],
            "series": [asdict(contestant.series) for contestant in contestants],
            "externals": [path.read_text("utf-8") for path in comparison.externals],
            "metrics": _metrics(pairs, views, unavailable),
        }
        progress = Progress(work, json.loads(json.dumps(identity, default=asdict)))
        return cls(
            *(store, entries, options, contestants, budgets, pairs, views, unavailable),
            *(provenance, progress, batch_size, max_pixels),
        )

    def require(self, names: Sequence[str]) -> None:
        """Refuse to go on without some metrics.

        Raises:
            ConfigError: there is no such metric.
            MetricError: it is not available here.
        """
        known = [*self.metrics, *self.unavailable]
        for name in names:
            if name in self.unavailable:
                raise MetricError(f"{name}: {self.unavailable[name]}")
            if name not in known:
                raise ConfigError(f"unknown metric {name!r}; there are {', '.join(known)}")

    @property
    def metrics(self) -> dict[str, Metric]:
        """The metrics that are computed, those of a pair first."""
        return _metrics(self.pairs, self.views, self.unavailable)

    @property
    def pictures(self) -> KeptPictures:
        """Originals and decoded pictures, for reports; there until `finish`."""
        series = [ORIGINAL, *(contestant.series.id for contestant in self.contestants)]
        parts = (self.progress.part(chunk, name) for chunk in self._chunks for name in series)
        return KeptPictures(part for part in parts if part is not None)

    def run(self, *, command: str = "", quiet: bool = True) -> Evaluation:
        """Measure all that is not measured yet; killed at any time, it goes on where it was.

        A picture that cannot be read, and one that a rival fails on, is listed and the rest is done. Times
        and memory are of this machine as it was; all other figures are the same whenever it is run.

        Args:
            command: what was typed, for the result.
            quiet: without a progress bar.

        Raises:
            StoreError: not one picture could be measured.
        """
        trial = Trial(self.budgets, self.pairs, self.views)
        total = len(self.entries) * len(self.contestants)
        self.progress.lock()
        try:
            with tqdm(total=total, unit="img", desc="evaluating", disable=quiet) as bar:
                for chunk in self._chunks:
                    self._measure(chunk, trial, bar)
        except BaseException:
            self.progress.unlock()
            raise
        assembly = Assembly(self.progress, self._chunks, self.views)
        rows, values = [], []
        for contestant in self.contestants:
            found, over_sets = assembly.series(contestant, self.budgets)
            rows += found
            values += over_sets
        if not rows:
            why = "no codec has a file as small as that" if self.entries else "the store is empty"
            why = f"the first: {assembly.failures[0].reason}" if assembly.failures else why
            self.finish()
            raise StoreError(f"{self.store.folder}: no picture could be measured: {why}")
        return Evaluation(
            provenance={"command": command, **environment(), **self.provenance},
            metrics=self.metrics,
            series=[contestant.series for contestant in self.contestants],
            images=assembly.images,
            rows=rows,
            set_values=values,
            unavailable=self.unavailable,
            failures=assembly.failures,
        )

    def finish(self) -> None:
        """Remove the unfinished work, once the results are written."""
        self.progress.remove()

    @property
    def _chunks(self) -> range:
        return range(0, len(self.entries), self.batch_size)

    def _measure(self, chunk: int, trial: Trial, bar: Any) -> None:
        """One batch of pictures, through the codecs that have not had it yet."""
        entries = self.entries[chunk : chunk + self.batch_size]
        missing = [c for c in self.contestants if self.progress.part(chunk, c.series.id) is None]
        bar.update(len(entries) * (len(self.contestants) - len(missing)))
        if not missing and self.progress.part(chunk, ORIGINAL) is not None:
            return
        batch, originals = read_batch(self.store, entries, self.options, self.views, self.max_pixels)
        self.progress.save(chunk, ORIGINAL, originals)
        for contestant in missing:
            bar.set_postfix_str(contestant.series.id)
            self.progress.save(chunk, contestant.series.id, trial(batch, originals, contestant))
            bar.update(len(entries))


def _contestants(
    store: Store,
    decoder: Decoder,
    options: PaintOptions,
    comparison: Comparison,
    searches: Path,
    batch_size: int,
) -> list[Contestant]:
    """Ours in each number of steps, the layout layer alone where it is asked for, then the rivals."""
    contestants: list[Contestant] = [
        Clp(store.codec, decoder, replace(options, steps=steps), comparison.seeds, batch_size)
        for steps in comparison.steps or (options.steps,)
    ]
    if {LAYOUT, "all"} & set(comparison.baselines):
        contestants.append(LayoutAlone(store.codec, options))
    names = [name for name in comparison.baselines if name != LAYOUT]
    rivals = baselines(names, comparison.externals)
    cache = SearchCache(searches)
    return contestants + [Rival(baseline, cache) for baseline in rivals]


def _metrics(pairs: PairMetrics, views: Sequence[View], unavailable: Mapping[str, str]) -> dict[str, Metric]:
    found = pairs.metrics.copy()
    for view in views:
        found |= {name: metric for name, metric in view.metrics.items() if name not in unavailable}
    return dict(sorted(found.items(), key=lambda item: item[1].over == "set"))


def _unavailable(views: Sequence[View], count: int) -> dict[str, str]:
    """Metrics that no network is there for, or too few pictures."""
    reasons = {}
    for view in views:
        for metric in view.sets:
            reason = too_few(metric, count, view.dim)
            if reason:
                reasons[metric] = reason
    if not any(view.key == JUDGE for view in views):
        why = "no judge was named: --judge takes the folder of an image network in timm's format"
        reasons |= dict.fromkeys(JUDGE_METRICS, why)
    return reasons


def _file_facts(path: Path) -> list[int]:
    """What changes when a file does: size and time; nothing where there is none."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


def _digest(facts: Iterable[list[Any]]) -> str:
    return hashlib.sha256(json.dumps(list(facts)).encode()).hexdigest()
