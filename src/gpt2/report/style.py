"""The report's one style sheet: a paper on the screen, in light and dark, from a phone to a printer.

Letters of the reader's own system; a column of text about 75 letters wide, with figures and tables that
reach beyond it where there is room. The six colours of the sizes go from amber to blue with lightness in
step, and held-out and training differ in shape as well as in colour, so that neither relies on hue alone.
"""

from gpt2.report.markup import Html

LIGHT = """
--page:#fdfdfb; --ink:#1b1c1f; --soft:#5b5f66; --rule:#dcdcd5; --strong:#8b8e93; --panel:#f4f4ef;
--track:#ebebe5; --shade:#00000024; --blue:#0f62a6; --orange:#b8560a; --warn:#9d2b0b; --warn-panel:#fbeee8;
--size-0:#d08c00; --size-1:#d26a2b; --size-2:#c4484f; --size-3:#93397d; --size-4:#5d3688; --size-5:#262e78;
"""

DARK = """
--page:#14161a; --ink:#e5e4df; --soft:#a2a6ad; --rule:#2f333a; --strong:#6d727a; --panel:#1c1f25;
--track:#262a31; --shade:#000000a0; --blue:#6db3f2; --orange:#f0a05a; --warn:#ff9b7d; --warn-panel:#2b1d19;
--size-0:#f6cd60; --size-1:#f4a35c; --size-2:#ef7f74; --size-3:#d886c1; --size-4:#ae95ee; --size-5:#79b0ff;
"""

BODY = """
*, *::before, *::after { box-sizing:border-box }
html { background:var(--page); color:var(--ink); color-scheme:light dark; -webkit-text-size-adjust:100%;
  text-size-adjust:100% }
body { margin:0; padding:0 0 5rem; font:1.0625rem/1.62 var(--serif); overflow-wrap:anywhere;
  font-variant-numeric:lining-nums }
header, section, footer { display:grid;
  grid-template-columns:minmax(1.25rem,1fr) minmax(0,42rem) minmax(1.25rem,1fr) }
header > *, section > *, footer > * { grid-column:2; min-width:0 }
h1, h2, h3, dl, dd, p, pre, figure { margin:0 }
.wide { grid-column:1 / -1; justify-self:center; width:min(64rem, 100% - 2.5rem) }

h1, h2, h3 { font-weight:600; line-height:1.2; text-wrap:balance }
h1 { font-size:clamp(1.85rem, 1.3rem + 2.4vw, 2.7rem); letter-spacing:-0.012em; margin-top:.5rem }
h2 { font-size:1.55rem; margin-top:4.25rem; padding-top:1.4rem; border-top:1px solid var(--rule) }
h2 .count { color:var(--soft); font-weight:400; margin-right:.7em }
h3 { font-size:1.1rem; margin-top:2.4rem }
p, ul, dl, figure, .box, pre { margin-top:1rem }
.kicker, .meta, nav, table, figcaption, .legend, .frame, dl, .panel-title, .numbers dt, .label, .small
  { font-family:var(--sans) }
.kicker { margin-top:4.5rem; font-size:.75rem; letter-spacing:.09em; text-transform:uppercase; color:var(--soft) }
.meta, .small { font-size:.85rem; line-height:1.5; color:var(--soft) }
.lead { font-size:1.16rem; line-height:1.58 }
header .lead { margin-top:1.6rem }
ul { padding-left:1.15rem }
li { margin-top:.3rem }
li::marker { color:var(--strong) }
code, pre { font-family:var(--mono); font-size:.86em }
pre code, figcaption code { font-size:1em }
pre { padding:.8rem 1rem; background:var(--panel); border:1px solid var(--rule); border-radius:6px;
  white-space:pre-wrap; line-height:1.5 }
strong { font-weight:600 }
.noise { color:var(--warn) }
td .noise { white-space:nowrap }
.notice { padding:.9rem 1.1rem; background:var(--warn-panel); border-left:3px solid var(--warn);
  border-radius:0 6px 6px 0 }
nav { display:flex; flex-wrap:wrap; gap:.3rem 1.3rem; margin-top:1.8rem; font-size:.85rem }
a { color:var(--blue); text-decoration-color:color-mix(in srgb, currentColor 35%, transparent);
  text-underline-offset:.2em }
a:hover { text-decoration-color:currentColor }
:focus-visible { outline:2px solid var(--blue); outline-offset:2px }

.numbers { display:grid; grid-template-columns:repeat(auto-fit, minmax(9.5rem, 1fr)); gap:0; margin-top:2rem;
  border-top:1px solid var(--strong); border-bottom:1px solid var(--strong) }
.numbers > div { display:grid; align-content:space-between; padding:.85rem 1rem .9rem;
  border-left:1px solid var(--rule) }
.numbers > div:first-child { border-left:0; padding-left:0 }
.numbers dt { font-size:.78rem; line-height:1.35; color:var(--soft) }
.numbers dd { margin:.2rem 0 0; font:400 1.55rem/1.2 var(--serif); white-space:nowrap }

.box { overflow-x:auto; overflow-y:hidden; scrollbar-width:thin;
  background:linear-gradient(to right, var(--page) 40%, transparent) 0 0 / 2.5rem 100% no-repeat local,
    linear-gradient(to left, var(--page) 40%, transparent) 100% 0 / 2.5rem 100% no-repeat local,
    linear-gradient(to right, var(--shade), transparent) 0 0 / .7rem 100% no-repeat scroll,
    linear-gradient(to left, var(--shade), transparent) 100% 0 / .7rem 100% no-repeat scroll }
table { border-collapse:collapse; width:100%; font-size:.835rem; line-height:1.42;
  font-variant-numeric:tabular-nums lining-nums; border-top:1.5px solid var(--strong);
  border-bottom:1.5px solid var(--strong) }
th, td { padding:.48rem .75rem; text-align:left; vertical-align:top; font-weight:400; overflow-wrap:normal }
th:first-child, td:first-child { padding-left:.15rem }
th:last-child, td:last-child { padding-right:.15rem }
thead th { vertical-align:bottom; color:var(--soft); font-size:.775rem; line-height:1.3;
  border-bottom:1px solid var(--strong) }
tbody tr + tr > * { border-top:1px solid var(--rule) }
tbody th { font-weight:600 }
.number { text-align:right; white-space:nowrap }
thead .number { white-space:normal; min-width:4.4rem; text-wrap:balance }
table:not(.free) tbody th { white-space:nowrap }
td.bar { width:34%; min-width:8rem }
tbody tr.start > * { border-top-color:var(--strong) }
.free td.word { overflow-wrap:anywhere }

dl { display:grid; font-size:.9rem; line-height:1.5 }
dl.facts > div { display:grid; grid-template-columns:11rem minmax(0,1fr); gap:0 1rem; padding:.36rem 0;
  border-top:1px solid var(--rule) }
dl.facts > div:first-child { border-top:0 }
dl.facts dt { color:var(--soft) }
dd { margin:0; font-variant-numeric:tabular-nums lining-nums }
.chips { display:flex; flex-wrap:wrap; gap:.4rem; padding:0; list-style:none }
.chips li { margin:0; padding:.1rem .5rem; background:var(--panel); border:1px solid var(--rule);
  border-radius:4px; white-space:pre-wrap }

figure { margin-top:1.8rem }
.wide > .box { margin-top:1.5rem }
header > div { margin-top:1.6rem }
header pre { margin:0 }
figcaption { margin:1rem auto 0; max-width:42rem; font-size:.85rem; line-height:1.55; color:var(--soft) }
figcaption b { color:var(--ink); font-weight:600 }
.panels { display:grid; grid-template-columns:repeat(2, minmax(0,1fr)); gap:2.2rem 2.6rem }
.panel-title { margin:0; font-size:.92rem; font-weight:600; line-height:1.35 }
.panel-title small { display:block; font-weight:400; font-size:.8rem; color:var(--soft) }
.legend { display:flex; flex-wrap:wrap; justify-content:center; gap:.25rem 1.5rem; margin:0 0 1.2rem;
  font-size:.8rem; color:var(--soft) }
.legend span { display:inline-flex; align-items:center; gap:.45rem }
.legend svg { flex:none; overflow:visible }
"""

DRAWING = """
.frame { padding:0 1.75rem 0 3.25rem }
.curves .frame { padding-right:4rem }
.frame p { margin:0; font-size:.78rem; color:var(--soft); line-height:1.3 }
.frame .y-title { margin:.9rem 0 .75rem -3.25rem }
.frame .x-title { margin-top:1.95rem; text-align:center }
svg { display:block }
svg.plot { width:100%; overflow:visible }
svg.mark { overflow:visible }
svg text { font:12px var(--sans); fill:var(--soft); font-variant-numeric:tabular-nums lining-nums }
.tick.y { text-anchor:end }
.tick.x { text-anchor:middle }
.grid { stroke:var(--rule) }
.axis { stroke:var(--strong) }
.barbox { width:100%; height:10px; margin-top:.32em; border-radius:2px; overflow:hidden }
.track { fill:var(--track) }
rect.bar { fill:var(--c, var(--blue)) }
.ours { --c:var(--blue) } .theirs { --c:var(--strong) }
polyline, path { fill:none; stroke:var(--c, var(--soft)); vector-effect:non-scaling-stroke;
  stroke-linejoin:round; stroke-linecap:round }
.raw { stroke-width:1; opacity:.3 }
.smooth { stroke-width:2 }
circle.heldout, circle.nouns, circle.paper { fill:var(--c, var(--blue)); stroke:var(--page); stroke-width:1.5 }
rect.train, rect.names, rect.ours { fill:var(--page); stroke:var(--orange); stroke-width:1.75 }
.interval { stroke:var(--blue); stroke-width:1.5 }
.interval.names, .interval.ours { stroke:var(--orange) }
.join { stroke-width:1.5 }
.join.heldout, .join.nouns, .join.paper { stroke:var(--blue) }
.join.train, .join.names { stroke:var(--orange); stroke-dasharray:5 4 }
.level { stroke:var(--strong); stroke-width:1.25; stroke-dasharray:7 4 }
.level.nouns { stroke:var(--blue) }
.level.names { stroke:var(--orange) }
.level-name { fill:var(--soft); font-size:11px }
.level.chance, .level.before, .level.baseline { stroke-dasharray:1.5 4 }
svg text.value { fill:var(--ink); paint-order:stroke; stroke:var(--page); stroke-width:4px; stroke-linejoin:round }
svg text.end { fill:var(--c); font-weight:600 }
.curves .legend { --c:var(--soft) }
.size-0 { --c:var(--size-0) } .size-1 { --c:var(--size-1) } .size-2 { --c:var(--size-2) }
.size-3 { --c:var(--size-3) } .size-4 { --c:var(--size-4) } .size-5 { --c:var(--size-5) }
"""

SAMPLES = """
.sample { margin-top:2.6rem }
.sample h3 { margin:0 0 .9rem }
.sample h3 span { color:var(--soft); font-weight:400 }
.label { margin:0 0 .45rem; font-size:.78rem; line-height:1.35; font-weight:600; color:var(--soft) }
.label b { color:var(--c, var(--soft)) }
.text { white-space:pre-wrap; unicode-bidi:plaintext; font-size:.93rem; line-height:1.55; min-width:0 }
.context { padding:1rem 1.4rem 1.1rem; background:var(--panel); border-radius:6px }
.context .text { columns:2; column-gap:2.6rem; color:var(--soft); orphans:1; widows:1 }
.context .asked { margin:.8rem 0 0 }
.columns { display:grid; grid-template-columns:repeat(3, minmax(0,1fr)); margin-top:1.2rem }
.columns > div { padding:0 1.4rem; border-left:1px solid var(--rule); min-width:0 }
.columns > div:first-child { padding-left:0; border-left:0 }
.columns > div:last-child { padding-right:0 }
footer p { margin-top:4rem; padding-top:1rem; border-top:1px solid var(--rule) }
"""

NARROW = """
@media screen and (max-width:46rem) {
  body { font-size:1rem }
  .kicker { margin-top:2rem }
  .lead { font-size:1.08rem }
  h2 { margin-top:3.2rem }
  .numbers { grid-template-columns:1fr 1fr }
  .numbers > div { display:grid; align-content:space-between; padding:.7rem .8rem; border-top:1px solid var(--rule) }
  .numbers > div:nth-child(odd) { border-left:0; padding-left:0 }
  .numbers > div:nth-child(-n+2) { border-top:0 }
  .numbers dd { font-size:1.3rem }
  .panels, .columns { grid-template-columns:minmax(0,1fr) }
  .context { padding:.9rem 1.1rem }
  .context .text { columns:1 }
  .columns > div, .columns > div:first-child, .columns > div:last-child { padding:0 0 0 .9rem;
    border-left:3px solid var(--c, var(--rule)); margin-top:1.3rem }
  .frame { padding:0 1.1rem 0 2.6rem }
  .curves .frame { padding-right:3.2rem }
  .frame .y-title { margin-left:-2.6rem }
  dl.facts > div { grid-template-columns:minmax(0,1fr) }
  .funnel, .funnel tbody { display:block }
  .funnel thead { display:none }
  .funnel tr { display:grid; grid-template-columns:minmax(0,1fr) auto auto; gap:.28rem .45rem; padding:.65rem 0 }
  .funnel tbody tr + tr { border-top:1px solid var(--rule) }
  .funnel tbody tr.start { border-top-color:var(--strong) }
  .funnel tbody tr > * { padding:0; border:0; width:auto }
  .funnel td.bar { grid-column:1 / -1; grid-row:2; min-width:0 }
  .funnel td:nth-child(5) { grid-column:1 / -1; grid-row:3; text-align:left; color:var(--soft) }
  .funnel td:nth-child(6) { grid-column:1 / -1; grid-row:4 }
  .funnel td:empty { display:none }
}
.funnel td:nth-child(3), .funnel td:nth-child(6) { color:var(--soft) }
.funnel td:nth-child(3) { padding-left:0; overflow-wrap:normal }
"""

PRINT = """
@media print {
  :root { --page:#fff }
  body { font-size:10pt; line-height:1.5; padding:0 }
  nav { display:none }
  .kicker { margin-top:0 }
  h1 { font-size:24pt }
  h2 { font-size:15pt; margin-top:2.2rem; padding-top:1rem }
  header, section, footer { grid-template-columns:0 minmax(0,1fr) 0 }
  .wide { width:100% }
  .box { overflow:visible; background:none }
  table { font-size:6.8pt }
  thead th { font-size:6.5pt }
  th, td { padding:.28rem .3rem }
  thead .number, td.bar { min-width:0 }
  .panels { gap:1.5rem }
  .frame { padding-right:1.4rem }
  figcaption { max-width:none; font-size:8pt }
  .small, .meta, dl { font-size:8.5pt }
  .text { font-size:8.5pt }
  figure, .numbers, tr, .columns, .context { break-inside:avoid }
  h2, h3, .label { break-after:avoid }
}
@page { margin:18mm 16mm }
"""

FONTS = """
--serif:"Iowan Old Style", "Palatino Linotype", Palatino, "URW Palladio L", P052, "Book Antiqua",
  "Source Serif 4", Georgia, "DejaVu Serif", serif;
--sans:system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", Arial, sans-serif;
--mono:ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", "DejaVu Sans Mono", monospace;
"""

STYLE = Html(
    f":root {{{FONTS}{LIGHT}}}\n@media screen and (prefers-color-scheme:dark) {{ :root {{{DARK}}} }}"
    f"{BODY}{DRAWING}{SAMPLES}{NARROW}{PRINT}"
)
