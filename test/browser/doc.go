// Package browser runs a headless Chromium and looks at pages in it, through the DevTools protocol on a pair of pipes: sizes and colour
// schemes are emulated, scripts are evaluated in the page, keys are pressed, screenshots are taken. [Audit] is a check of what
// everybody needs to use a page: names, headings, tables, contrast.
package browser
