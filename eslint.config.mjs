// Rules for the scripts of the interactive pages; .ci/lint-page runs them. The scripts of a page become one script with one global
// scope: those that every page has, then those of its kind.

import { readFileSync, readdirSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";

// The recommended rules come with ESLint: from where it runs, since the repository has no node_modules.
const { configs } = createRequire(realpathSync(process.argv[1]))("@eslint/js");

const BROWSER =
  `document history location window navigator matchMedia getComputedStyle getSelection addEventListener ResizeObserver
  URLSearchParams Plotly atob fetch parent setTimeout setInterval queueMicrotask CSS`.split(/\s+/);
// What each file shares with the others of its pages, in the order in which they run. All else is its own.
const EVERY_PAGE = "phasediag/display/page";
const SHARED = {
  [EVERY_PAGE]: {
    "dom.js": `byId make makeTable show setOptions onChange known minus decimals digits raised tickText exponent symbol
      interval plural plain`,
    "plots.js": `colour axis draw onPoint announce logTicks spacedTicks logAxis drawCourses showLegend swatch sample`,
    "frame.js": "content jobs kind start setKind connect renew keep takeRuns noRuns statusCell runButton drawFiles",
  },
  "phasediag/sweep/serve/page": {
    "live.js": "get follow sweepText bar duration",
    "list.js": "",
    "study.js": "",
    "beside.js": "",
  },
  "phasediag/condensation/report": {
    "lines.js": `epochs networks layers receive lastEpoch placeOf epochAxis snapshotLine percent stdText layerText drawSummary drawLines
      drawShares summaryText`,
    "network.js": "drawSnapshot",
    "page.js": "update choose",
  },
  "phasediag/phase_diagram/report": {
    "map.js": `points regimes sequential receive scale share ends QUANTITIES signedScale decadeScale widthText lineColumn lineLayers drawMap at
      placeText missingTrace haloed measuredLine bandLine bandTraces scaleOf slopeText regimeText neighbour`,
    "measures.js": `chosenMeasure followMeasure renderMeasure measureScale measureLines measureBands measureItems measureText drawMeasures measureSummary`,
    "legend.js": "drawLegend",
    "cell.js": "drawCell",
    "summary.js": "drawSummary",
    "page.js": "update choose render",
  },
};
const files = Object.entries(SHARED).flatMap(([folder, scripts]) =>
  Object.entries(scripts).map(([name, names]) => {
    const path = `${folder}/${name}`;
    return {
      folder,
      path,
      names: names.split(/\s+/).filter(Boolean),
      text: readFileSync(new URL(path, import.meta.url), "utf8"),
    };
  }),
);
for (const folder of Object.keys(SHARED))
  for (const name of readdirSync(new URL(folder, import.meta.url)))
    if (name.endsWith(".js") && !(name in SHARED[folder])) throw new Error(`${folder}/${name}: not in SHARED`);

/** The other files of the pages that a file is in, as far as it may use them. */
const around = (file) => files.filter(({ path, folder }) => path !== file.path && [file.folder, EVERY_PAGE].includes(folder));

// A name stays in the list as long as another file uses it.
for (const file of files)
  for (const name of file.names)
    if (!files.some((other) => around(other).includes(file) && new RegExp(`\\b${name}\\b`).test(other.text)))
      throw new Error(`${file.path}: no other file uses ${name}; take it out of SHARED`);

const markup = "Text from the study is never markup: make elements, and append text.";

export default [
  { linterOptions: { reportUnusedDisableDirectives: "error" } },
  ...files.map((file) => ({
    files: [file.path],
    languageOptions: {
      ecmaVersion: 2022,
      sourceType: "script",
      parserOptions: { ecmaFeatures: { impliedStrict: true } }, // the first file says "use strict" for all
      globals: Object.fromEntries([...BROWSER, ...around(file).flatMap(({ names }) => names)].map((name) => [name, "readonly"])),
    },
    rules: {
      ...configs.recommended.rules,
      "no-unused-vars": ["error", { varsIgnorePattern: `^(${file.names.join("|") || "_"})$` }],
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
