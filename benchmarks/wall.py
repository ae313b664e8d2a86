"""The wall of a store in a real browser: time to the first picture, frames while scrolling, memory.

    python benchmarks/wall.py STORE [--picture OUT.png]

STORE is served by a process of its own. With --picture, nothing is measured, but the page is saved as people
see it: a search on a desktop and one picture on a phone.

It needs a Chromium, which runs without a screen and without a graphics processor: what a graphics processor
would draw takes its time here, too. So what the page's own thread takes of a processor core is printed beside
the frames; other work on the machine does not stretch that.
"""

from __future__ import annotations

import argparse
import io
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, CDPSession, Page, expect, sync_playwright

DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 860}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 860},
    "is_mobile": True,
    "has_touch": True,
    "color_scheme": "dark",
}
RUNS = 5
SECONDS = 6
SPEED = 4000  # pixels a second: a screen in a fifth of one
FRAMES = """([speed, seconds]) => new Promise((done) => {
    const times = [];
    const began = performance.now();
    const step = (now) => {
        times.push(now);
        scrollTo(0, ((now - began) / 1000) * speed);
        if (now - began < seconds * 1000) requestAnimationFrame(step);
        else done(times.slice(1).map((time, i) => time - times[i]));
    };
    requestAnimationFrame(step);
})"""
FIRST = "performance.getEntriesByName('first picture')[0]?.startTime ?? null"


@contextmanager
def serving(store: Path) -> Iterator[tuple[int, str]]:
    """Serve a store in another process: its id, and the link."""
    code = "from clip_feature_codec.cli.main import main; main()"
    command = [sys.executable, "-c", code, "serve", str(store), "--port", "0", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.pid, process.stdout.readline().strip()
        finally:
            process.terminate()


def first_picture(browser: Browser, link: str) -> tuple[float, int]:
    """Milliseconds from asking for the page to a picture on it, with nothing kept; bytes that came."""
    context = browser.new_context(**DESKTOP)
    page, came = context.new_page(), []
    page.on("response", lambda answer: came.append(int(answer.headers.get("content-length", 0))))
    page.goto(link)
    page.wait_for_selector("#wall[data-shown]")
    found = float(page.evaluate(FIRST)), sum(came)
    context.close()
    return found


def scrolled(page: Page) -> list[float]:
    """Milliseconds between frames while the wall runs by."""
    found: list[float] = page.evaluate(FRAMES, [SPEED, SECONDS])
    return found


def thread_seconds(session: CDPSession) -> float:
    """The processor's time that the page's own thread has taken."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))


def measure(browser: Browser, link: str, pid: int) -> None:
    times, came = zip(*(first_picture(browser, link) for _ in range(RUNS)), strict=True)
    print(
        f"first picture after {statistics.median(times):.0f} ms (median of {RUNS}), {came[0] / 1000:.0f} KB"
    )
    page = browser.new_page(**DESKTOP)
    page.goto(link)
    page.wait_for_selector("#wall[data-shown]")
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    for name in ("first time", "again"):
        page.evaluate("scrollTo(0, 0)")
        before = thread_seconds(session)
        frames = sorted(scrolled(page))
        busy = (thread_seconds(session) - before) / SECONDS
        middle, late = statistics.median(frames), frames[int(0.95 * len(frames))]
        slow = sum(frame > 50 for frame in frames) / len(frames)
        print(
            f"scrolling at {SPEED} pixels a second, {name}: {len(frames) / SECONDS:.0f} frames a second, "
            f"median {middle:.1f} ms, 95 % within {late:.1f} ms, {slow:.1%} above 50 ms; "
            f"{busy:.0%} of a processor core"
        )
    shown = page.locator("#wall li").count()
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    session.send("HeapProfiler.collectGarbage")
    heap = session.send("Runtime.getHeapUsage")["usedSize"]
    print(f"{heap / 1e6:.1f} MB of JavaScript's memory, {shown} pictures in the page at a time")
    status = Path(f"/proc/{pid}/status")
    if status.is_file():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        print(f"{int(peak.split()[1]) / 1000:.0f} MB of the server's memory at most")
    page.close()


def picture(browser: Browser, link: str, words: str, rank: int) -> Image.Image:
    """The page as people see it, on a desktop and on a phone, side by side."""
    wide = browser.new_page(**DESKTOP, device_scale_factor=1.25)
    wide.goto(f"{link}#text={words}")
    expect(wide.locator("#status")).to_contain_text("nearest", timeout=30_000)
    expect(wide.locator("#wall canvas:not([hidden])").nth(30)).to_be_visible()
    phone = browser.new_page(**PHONE, device_scale_factor=1.25)
    phone.goto(f"{link}#text={words}")
    expect(phone.locator("#status")).to_contain_text("nearest", timeout=30_000)
    phone.locator("#wall li button").nth(rank - 1).click()
    expect(phone.locator("#painted")).to_be_visible(timeout=30_000)
    phone.locator(".figures").evaluate("figures => figures.scrollTo(figures.children[1].offsetLeft - 16, 0)")
    phone.wait_for_timeout(1000)
    shots = [Image.open(io.BytesIO(page.screenshot())).convert("RGB") for page in (wide, phone)]
    gap = 24
    joined = Image.new("RGB", (sum(shot.width for shot in shots) + gap, shots[0].height), "#d9d6d1")
    joined.paste(shots[0])
    joined.paste(shots[1], (shots[0].width + gap, 0))
    return joined


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--picture", type=Path, help="save the page as people see it, and measure nothing")
    parser.add_argument("--words", default="shoes", help="what the picture shows a search for")
    parser.add_argument("--rank", type=int, default=1, help="which of what was found the phone shows")
    args = parser.parse_args()
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    with serving(args.store) as (pid, link), sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        if args.picture:
            shown = picture(browser, link, args.words, args.rank)
            shown.quantize(256).save(args.picture, optimize=True)
        else:
            measure(browser, link, pid)
        browser.close()


if __name__ == "__main__":
    main()
