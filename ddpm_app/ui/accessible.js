// Names what Gradio leaves without one for screen readers: the empty place of a picture, and examples to press.
() => {
  const name = () => {
    for (const empty of document.querySelectorAll(".empty[aria-label]:not([role])")) empty.setAttribute("role", "img");
    for (const [k, example] of document.querySelectorAll("button.gallery-item:not([aria-label])").entries())
      example.setAttribute("aria-label", `Example ${k + 1}`);
  };
  new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
  name();
}
