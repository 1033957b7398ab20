// Enlarges our small pictures by a whole number of the screen's own pixels, so that every pixel is as large as the next.
() => {
  const TALLEST = 540;
  const fit = (image) => {
    const box = image.closest(".image-container"), room = box?.clientWidth || 0;
    if (!room || !image.naturalWidth) return;
    const inline = image.closest(".small") ? 220 : TALLEST;
    const ratio = window.devicePixelRatio || 1, tallest = document.fullscreenElement === box ? innerHeight : inline;
    const times = Math.floor(Math.min((room * ratio) / image.naturalWidth, (tallest * ratio) / image.naturalHeight));
    image.style.width = times < 1 ? "" : `${(times * image.naturalWidth) / ratio}px`;
  };
  const all = () => document.querySelectorAll(".pixels.sheet img").forEach(fit);
  document.addEventListener("load", (event) => {
    if (event.target.matches?.(".pixels.sheet img")) fit(event.target);
  }, true);
  document.addEventListener("fullscreenchange", all);
  new ResizeObserver(all).observe(document.body);
  all();
}
