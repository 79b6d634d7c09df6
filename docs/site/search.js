// A dash before a word excludes it in the search's language; who looks for --budget means the option.
document.addEventListener("input", ({ target }) => {
  if (!target.matches(".md-search__input")) return;
  const words = target.value.replace(/(^|\s)-+/g, "$1");
  if (words !== target.value) target.value = words;
}, true);
