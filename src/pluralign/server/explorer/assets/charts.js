// Draws the charts that the server specified, in the colours of the page, without evaluating text as code.
"use strict";
(() => {
  const views = new Map();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colours = count => Array.from({ length: count }, (_, i) => css(`--c${i % 8 + 1}`));

  // From one colour over a neutral one to another, `count` of them.
  function ramp(count) {
    const ends = [css("--bad"), css("--middle"), css("--good")].map(hex =>
      [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16)));
    return Array.from({ length: count }, (_, i) => {
      const at = count > 1 ? 2 * i / (count - 1) : 1, from = Math.min(1, Math.floor(at)), share = at - from;
      return `rgb(${ends[from].map((low, k) => Math.round(low + share * (ends[from + 1][k] - low))).join(",")})`;
    });
  }

  // Names of colours as the colours of the theme that is on.
  function coloured(part) {
    if (Array.isArray(part)) return part.map(coloured);
    if (part === null || typeof part !== "object") return part;
    const made = Object.fromEntries(Object.entries(part).map(([key, value]) => [key, coloured(value)]));
    if (made.range === "responses") made.range = colours(made.domain.length);
    if (made.range === "ramp") made.range = ramp(made.domain.length);
    if (Array.isArray(made.range)) made.range = made.range.map(one => ({ people: css("--c1"), unsure: css("--c2") })[one] || one);
    return made;
  }

  function config() {
    const ink = css("--ink"), soft = css("--soft"), faint = css("--faint");
    return {
      background: null, font: "system-ui, sans-serif", aria: false, padding: { left: 2, right: 10, top: 4, bottom: 2 },
      view: { stroke: null }, text: { color: ink, fontSize: 12 }, rule: { color: ink },
      axis: { labelColor: soft, titleColor: soft, titleFontWeight: 400, gridColor: faint, domainColor: faint, tickColor: faint, labelFontSize: 11, titleFontSize: 11 },
      legend: { labelColor: soft, labelFontSize: 11, symbolType: "square", labelLimit: 260, offset: 4 },
    };
  }

  function draw(place) {
    const spec = JSON.parse(place.dataset.spec);
    forget(place);
    const compiled = vegaLite.compile(coloured(spec), { config: config(), logger: vega.logger(vega.Error) }).spec;
    const view = new vega.View(vega.parse(compiled, null, { ast: true }),
      { expr: vega.expressionInterpreter, renderer: "svg", container: place, hover: false, logLevel: vega.Error });
    views.set(place, view);
    return view.runAsync().then(() => {
      place.style.minHeight = `${place.scrollHeight}px`;
      place.dataset.drawn = "yes";
    });
  }

  function forget(place) {
    const view = views.get(place);
    if (view) view.finalize();
    views.delete(place);
  }

  function drawAll() {
    for (const place of views.keys()) if (!place.isConnected) forget(place);
    return Promise.all([...document.querySelectorAll(".chart")].map(draw));
  }

  // A new ranking has charts of about the same size: the page keeps its height, so nothing jumps. They have no ids, as
  // htmx would copy the style of an old element to a new one with its id, which the page's policy forbids.
  let heights = {};
  document.addEventListener("htmx:beforeSwap", () => {
    for (const place of document.querySelectorAll(".chart")) heights[place.dataset.chart] = place.offsetHeight;
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const place of document.querySelectorAll(".chart"))
      if (heights[place.dataset.chart]) place.style.minHeight = `${heights[place.dataset.chart]}px`;
    drawAll();
  });
  dark.addEventListener("change", drawAll);
})();
