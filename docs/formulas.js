// Sets the formulas that pymdownx.arithmatex has marked. KaTeX is part of the site: nothing is fetched.
document.addEventListener("DOMContentLoaded", () => {
  for (const formula of document.querySelectorAll(".arithmatex")) {
    const text = formula.textContent.trim(); // \( ... \) in a line, \[ ... \] on its own
    katex.render(text.slice(2, -2), formula, { displayMode: text.startsWith("\\["), throwOnError: false });
  }
});
