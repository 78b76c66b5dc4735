// Rules for the scripts of the interactive page; .ci/lint-page runs them. The scripts become one script with one global scope.

import { readFileSync, readdirSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";

// The recommended rules come with ESLint: from where it runs, since the repository has no node_modules.
const { configs } = createRequire(realpathSync(process.argv[1]))("@eslint/js");

const FOLDER = "phasediag/phase_diagram/report";
const BROWSER = `document location history navigator matchMedia getComputedStyle getSelection addEventListener ResizeObserver
  URLSearchParams Plotly`.split(/\s+/);
// What each file shares with the others, in the order in which they run. All else is its own.
const SHARED = {
  "dom.js": `content byId make makeTable show setOptions known minus decimals digits raised exponent symbol interval plural
    plain colour axis draw onPoint announce`,
  "map.js": `points regimes jobsAt QUANTITIES logTicks widthText lineColumn lineLayers drawMap at placeText
    missingTrace bandTraces slopeText regimeText neighbour`,
  "legend.js": "drawLegend",
  "cell.js": "jobs drawCell widthOf statusCell",
  "tables.js": "drawHead drawSummary drawFailures drawOrigin",
  "page.js": "update choose",
};
const shared = Object.fromEntries(Object.entries(SHARED).map(([file, names]) => [file, names.split(/\s+/)]));
const others = (file) => Object.entries(shared).flatMap(([other, names]) => (other === file ? [] : names));

// A name stays in the list as long as another file uses it.
const texts = Object.fromEntries(
  readdirSync(new URL(FOLDER, import.meta.url))
    .filter((file) => file.endsWith(".js"))
    .map((file) => [file, readFileSync(new URL(`${FOLDER}/${file}`, import.meta.url), "utf8")]),
);
for (const file of Object.keys(texts)) if (!(file in shared)) throw new Error(`${file}: not in SHARED`);
for (const [file, names] of Object.entries(shared))
  for (const name of names)
    if (!Object.entries(texts).some(([other, text]) => other !== file && new RegExp(`\\b${name}\\b`).test(text)))
      throw new Error(`${file}: no other file uses ${name}; take it out of SHARED`);

const markup = "Text from the study is never markup: make elements, and append text.";

export default [
  { linterOptions: { reportUnusedDisableDirectives: "error" } },
  ...Object.entries(shared).map(([file, names]) => ({
    files: [`${FOLDER}/${file}`],
    languageOptions: {
      ecmaVersion: 2022,
      sourceType: "script",
      parserOptions: { ecmaFeatures: { impliedStrict: true } }, // the first file says "use strict" for all
      globals: Object.fromEntries([...BROWSER, ...others(file)].map((name) => [name, "readonly"])),
    },
    rules: {
      ...configs.recommended.rules,
      "no-unused-vars": ["error", { varsIgnorePattern: `^(${names.join("|")})$` }],
      eqeqeq: "error",
      "no-var": "error",
      "prefer-const": "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-restricted-properties": [
        "error",
        ...["innerHTML", "outerHTML", "insertAdjacentHTML", "write", "writeln"].map((property) => ({
          property,
          message: markup,
        })),
      ],
    },
  })),
];
