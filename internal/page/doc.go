// Package page is the web page of lbcontroller: pools with their use and forecast, nodes, BGP sessions, where every address is
// announced, the last changes of that, and the chain of a Service or an address. What it shows is computed by internal/explain, as it is
// for kubectl fairlead; here it is written as HTML.
//
// The page only reads: GET and HEAD, no script, no cookie, nothing from elsewhere. All links are relative, so that it works below any
// path, that of the API server's proxy to pods for one. Whatever comes from the cluster is data to html/template, and a
// Content-Security-Policy without scripts stands behind that. It asks nobody who is there: who may look is decided by whoever lets
// requests through (docs/security.md).
package page
