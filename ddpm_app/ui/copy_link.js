// Puts a link with the tab and the values of its controls into the clipboard.
async (...values) => {
  const query = new URLSearchParams({ tab: TAB });
  for (const [k, name] of NAMES.entries())
    if (values[k] !== null && values[k] !== undefined) query.set(name, String(values[k]));
  const link = `${location.origin}${location.pathname}?${query}`;
  if (navigator.clipboard) return void (await navigator.clipboard.writeText(link));
  const field = document.createElement("textarea"); // a page served without https has no clipboard of its own
  field.value = link;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}
