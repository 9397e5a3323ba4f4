// The timeline of a result: a click or the arrow keys go to that moment of the video or audio; a line follows it.
// gradio runs this once, with `element` around everything that is shown later: events are caught on their way.
const parts = () => ({
  line: element.querySelector(".ez-timeline"),
  head: element.querySelector(".ez-head"),
  now: element.querySelector(".ez-now"),
  media: element.querySelector("video.ez-media, audio.ez-media"),
});

function show(time) {
  const { line, head, now } = parts();
  if (!line) return;
  const moments = JSON.parse(line.dataset.moments);
  const at = moments.find((m) => m[0] <= time && time < m[1]);
  const text = at ? at[2] : `${time.toFixed(1)} s: no prediction`;
  head.hidden = false;
  head.style.left = `${(100 * time) / Number(line.dataset.duration)}%`;
  now.textContent = text;
  line.setAttribute("aria-valuenow", time.toFixed(2));
  line.setAttribute("aria-valuetext", text);
}

function go(time) {
  const { line, media } = parts();
  const until = Number(line.dataset.duration);
  const chosen = Math.max(0, Math.min(time, until - 0.001));
  if (media) media.currentTime = chosen;
  show(chosen);
}

element.addEventListener("click", (event) => {
  const line = event.target.closest(".ez-timeline");
  if (!line) return;
  const box = line.getBoundingClientRect();
  go(((event.clientX - box.left) / box.width) * Number(line.dataset.duration));
});

element.addEventListener("keydown", (event) => {
  const line = event.target.closest(".ez-timeline");
  if (!line) return;
  const until = Number(line.dataset.duration);
  const now = Number(line.getAttribute("aria-valuenow"));
  const starts = JSON.parse(line.dataset.moments).map((m) => m[0]);
  const to = {
    ArrowRight: starts.find((s) => s > now + 0.01) ?? until,
    ArrowLeft: starts.findLast((s) => s < now - 0.01) ?? 0,
    Home: 0,
    End: until,
  }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  go(to);
});

// These do not bubble: they are caught on their way down.
for (const name of ["timeupdate", "seeked"]) {
  element.addEventListener(name, (event) => show(event.target.currentTime), true);
}
