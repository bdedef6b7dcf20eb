(width) => {
  const problems = [];
  const say = (what, e) => problems.push(what + (e ? ": " + e.outerHTML.slice(0, 160) : ""));
  const text = (e) => (e ? e.textContent.trim() : "");
  const byIDs = (e, attribute) => (e.getAttribute(attribute) || "").split(/\s+/).filter(Boolean).map((id) => text(document.getElementById(id))).join(" ").trim();
  const named = (e) => e.getAttribute("aria-label") || byIDs(e, "aria-labelledby") || e.getAttribute("title") || "";
  const shown = (e) => { const s = getComputedStyle(e); return s.visibility !== "hidden" && e.getClientRects().length > 0; };

  if (!document.documentElement.lang) say("the page has no language");
  if (!document.title.trim()) say("the page has no title");
  if (document.querySelectorAll("main").length !== 1) say("there is not one <main>");
  if (!document.querySelector("meta[name=viewport]")) say("there is no viewport for phones");
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  ids.filter((id, i) => ids.indexOf(id) !== i).forEach((id) => say("the id " + id + " is there twice"));
  document.querySelectorAll("[aria-labelledby]").forEach((e) => byIDs(e, "aria-labelledby") || say("aria-labelledby names nothing", e));
  document.querySelectorAll("img, svg, canvas").forEach((e) => e.getAttribute("aria-hidden") === "true" || e.alt || named(e) || say("an image without a name", e));
  document.querySelectorAll("input:not([type=hidden]), select, textarea").forEach((e) => [...(e.labels || [])].some(text) || named(e) || say("a field without a label", e));
  document.querySelectorAll("button, a[href]").forEach((e) => text(e) || named(e) || say("a control without a name", e));
  document.querySelectorAll("section, nav, form[role=search]").forEach((e) => e.matches("form") || named(e) || say("a section without a name", e));
  document.querySelectorAll("table").forEach((t) => {
    if (!text(t.caption)) say("a table without a caption", t);
    if (!t.querySelector("thead th[scope=col]")) say("a table without column headings", t);
    const columns = t.tHead ? t.tHead.rows[0].cells.length : 0;
    [...t.tBodies].flatMap((b) => [...b.rows]).forEach((r) => r.cells.length === columns || say("a row with " + r.cells.length + " of " + columns + " cells", r));
  });
  let level = 0;
  const headings = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")];
  if (headings.filter((h) => h.tagName === "H1").length !== 1) say("there is not one <h1>");
  headings.forEach((h) => {
    const n = Number(h.tagName[1]);
    if (n > level + 1) say("a heading of level " + n + " after one of level " + level, h);
    if (!text(h)) say("an empty heading", h);
    level = n;
  });
  if (document.documentElement.scrollWidth > width) {
    say("the page is " + document.documentElement.scrollWidth + " wide in a window of " + width);
  }

  const parse = (c) => { const m = c.match(/[\d.]+/g).map(Number); return { r: m[0], g: m[1], b: m[2], a: m.length > 3 ? m[3] : 1 }; };
  const over = (top, below) => ({ r: top.r * top.a + below.r * (1 - top.a), g: top.g * top.a + below.g * (1 - top.a), b: top.b * top.a + below.b * (1 - top.a), a: 1 });
  const canvas = matchMedia("(prefers-color-scheme: dark)").matches ? { r: 18, g: 18, b: 18, a: 1 } : { r: 255, g: 255, b: 255, a: 1 };
  const behind = (e) => {
    const layers = [];
    for (; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), canvas);
  };
  const luminance = (c) => [c.r, c.g, c.b].map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; })
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const contrast = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((m, n) => n - m); return (x + 0.05) / (y + 0.05); };
  const check = (e, style, what) => {
    const back = behind(e);
    const ratio = contrast(over(parse(style.color), back), back);
    const size = parseFloat(style.fontSize);
    const enough = size >= 24 || size >= 18.66 && Number(style.fontWeight) >= 700 ? 3 : 4.5;
    if (ratio < enough) say(what + " with a contrast of " + ratio.toFixed(2) + ", " + style.color, e);
  };
  let checked = 0;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (walk.currentNode.textContent.trim() && !e.closest("style, script") && shown(e)) { check(e, getComputedStyle(e), "text"); checked++; }
  }
  document.querySelectorAll("input").forEach((e) => check(e, getComputedStyle(e, "::placeholder"), "a placeholder"));
  if (checked < 10) say("only " + checked + " pieces of text were looked at");
  return problems;
}
